// The tile loop: inner products of a tile, the kernel map while they are in cache, one store.
#pragma once

#include "cpu/product.hpp"
#include "formulas/layer.hpp"
#include "formulas/maps.hpp"
#include "formulas/neuron.hpp"
#include "formulas/profile.hpp"
#include "formulas/radial.hpp"

namespace {

using ntkfast::Problem;
using std::int64_t;

constexpr int kTileRows = 96;
template <class T>
constexpr int kTileColumns = 1536 / sizeof(T);  // 192 doubles, 384 floats: whole panels and strips
constexpr int64_t kChunkRows = 16 * kTileRows;  // rows of a task: amortises packing the columns
// A chunk starts where a column block does: the diagonal part of a block belongs to one task.
static_assert(kChunkRows % kTileColumns<float> == 0 && kChunkRows % kTileColumns<double> == 0);

static_assert(kTileColumns<double> % kStrip == 0 && kTileColumns<float> % kStrip == 0);
static_assert(kTileColumns<double> % kPanel<double> == 0 && kTileRows % kRows == 0);

template <class T>
NTK_FN int64_t ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

// ---- one pair's angle from differences ---------------------------------------------------------

// |x - ratio y|^2 without its radial part, relative to |x|^2, turned into sin^2 of half the angle.
// With ratio = |x|/|y| this keeps the relative accuracy that 1 - cos loses for close directions;
// equal rows give exactly 0. A negative ratio measures the angle to -y.
template <class T>
NTK_BOTH T half_angle_from_differences(const T* x, const T* y, int64_t d, T norm, T ratio) {
    const T inverse = 1 / norm;
    Vec<T> square{}, along{};
    int64_t k = 0;
    for (; k + kLanes<T> <= d; k += kLanes<T>) {
        const Vec<T> a = load<T>(x + k);
        const Vec<T> difference = (a - ratio * load<T>(y + k)) * inverse;
        square += difference * difference;
        along += difference * (a * inverse);
    }
    T total = sum_lanes<T>(square), radial = sum_lanes<T>(along);
    for (; k < d; ++k) {
        const T difference = (x[k] - ratio * y[k]) * inverse;
        total += difference * difference;
        radial += difference * (x[k] * inverse);
    }
    const T sine2 = total - radial * radial;  // sin^2 of the angle, which is below 90 degrees
    if (!(sine2 > 0)) return 0;
    return sine2 / (2 + 2 * root(sine2 < 1 ? 1 - sine2 : T(0)));
}

template <class T>
NTK_BOTH T squared_distance(const T* x, const T* y, int64_t d) {
    Vec<T> square{};
    int64_t k = 0;
    for (; k + kLanes<T> <= d; k += kLanes<T>) {
        const Vec<T> difference = load<T>(x + k) - load<T>(y + k);
        square += difference * difference;
    }
    T total = sum_lanes<T>(square);
    for (; k < d; ++k) total += (x[k] - y[k]) * (x[k] - y[k]);
    return total;
}

// A pair (i, j) and the scaled product x_i . y_j / |y_j| of the columns from j on.
template <class T>
struct Pairs {
    const Problem<T>& problem;
    const T* product;
    int64_t i, j;
};

// Lanes of `bits` get value(column); columns beyond the data are left alone.
template <class T, class Value>
NTK_FN void patch(const Pairs<T>& pairs, int first, std::uint64_t bits, Vec<T>& lanes,
                  Value value) {
    T parts[kLanes<T>];
    store<T>(parts, lanes);
    for (; bits; bits &= bits - 1) {
        const int lane = lowest_bit(bits);
        const int64_t j = pairs.j + first + lane;
        if (j < pairs.problem.m) parts[lane] = value(j);
    }
    lanes = load<T>(parts);
}

// A row of zeros: equal to other rows of zeros, orthogonal to everything else.
template <class T>
NTK_BOTH void zero_row(const Pairs<T>& pairs, Vec<T> (&u)[kGroup], Vec<T> (&v)[kGroup]) {
    for (int k = 0; k < kGroup; ++k) {
        T same[kLanes<T>] = {};
        for (int lane = 0; lane < kLanes<T>; ++lane) {
            const int64_t j = pairs.j + k * kLanes<T> + lane;
            same[lane] = j < pairs.problem.m && pairs.problem.norm_y[j] == 0;
        }
        u[k] = load<T>(same);
        v[k] = T(0.5) - T(0.5) * u[k];
    }
}

// u and v = (1-|u|)/2 of kGroup vectors; pairs too close to +-1 are recomputed from differences.
template <class T>
NTK_FN void half_angles(const Pairs<T>& pairs, Vec<T> (&u)[kGroup], Vec<T> (&v)[kGroup]) {
    const Problem<T>& p = pairs.problem;
    const T inverse = p.inverse_x[pairs.i];
    if (p.norm_x[pairs.i] == 0) [[unlikely]] {
        zero_row<T>(pairs, u, v);
        return;
    }
    std::uint64_t close[kGroup], any = 0;
    for (int k = 0; k < kGroup; ++k) {
        u[k] = load<T>(pairs.product + k * kLanes<T>) * inverse;
        v[k] = max2(T(0.5) - T(0.5) * abs2(u[k]), Vec<T>{});
        const Vec<T> limit =
            u[k] < Vec<T>{} ? broadcast(p.refine_below[1]) : broadcast(p.refine_below[0]);
        any |= close[k] = mask_below<T>(v[k], limit);
    }
    if (any) [[unlikely]] {
        const T* x = p.x + pairs.i * p.ldx;
        for (int k = 0; k < kGroup; ++k) {
            T signs[kLanes<T>];
            store<T>(signs, u[k]);
            patch<T>(pairs, k * kLanes<T>, close[k], v[k], [&](int64_t j) {
                const T ratio = p.norm_x[pairs.i] / p.norm_y[j];
                const bool back = signs[j - pairs.j - k * kLanes<T>] < 0;
                return half_angle_from_differences<T>(x, p.y + j * p.ldy, p.d, p.norm_x[pairs.i],
                                                      back ? -ratio : ratio);
            });
        }
    }
}

// ---- maps of one row strip: kGroup vectors at pairs.j ------------------------------------------

// The columns [from, to) of a strip that are wanted.
struct Window {
    int64_t from, to;
};

// Writes the wanted ones of `width` values of a strip.
template <class T>
NTK_FN void put_window(T* out, const T* values, Window window, int64_t width) {
    if constexpr (kOnePair)
        *out = *values;
    else
        std::memcpy(out + window.from, values + window.from,
                    sizeof(T) * (smaller(window.to, width) - window.from));
}

template <class T>
NTK_FN void finish(const Pairs<T>& pairs, Vec<T> (&value)[kGroup], T scale, const T* factors,
                   T* out, Window window) {
    const T factor = pairs.problem.factor_x[pairs.i] * scale;
    constexpr int kWidth = kGroup * kLanes<T>;
    for (int k = 0; k < kGroup; ++k) value[k] *= load<T>(factors + k * kLanes<T>) * factor;
    if (window.from == 0 && window.to >= kWidth) {
        for (int k = 0; k < kGroup; ++k) store<T>(out + k * kLanes<T>, value[k]);
    } else {
        T parts[kWidth];
        for (int k = 0; k < kGroup; ++k) store<T>(parts + k * kLanes<T>, value[k]);
        put_window<T>(out, parts, window, kWidth);
    }
}

template <class T>
NTK_FN void map_profile(const Pairs<T>& pairs, const T* factors, T* const (&out)[2],
                        Window window) {
    Vec<T> u[kGroup], v[kGroup], value[kGroup];
    half_angles<T>(pairs, u, v);
    for (int which = 0; which < 2; ++which) {
        const auto* profile = pairs.problem.profile[which];
        if (!profile) break;
        evaluate_profile<T>(*profile, u, v, value);
        finish<T>(pairs, value, profile->scale, factors, out[which], window);
    }
}

template <class T>
NTK_FN void map_radial(const Pairs<T>& pairs, const T* factors, T* const (&out)[2], Window window) {
    const Problem<T>& p = pairs.problem;
    const bool sphere = p.radial->radius == ntkfast::Radius::kSphere;
    Vec<T> u[kGroup], v[kGroup], value[kGroup];
    if (sphere) {
        half_angles<T>(pairs, u, v);
        for (int k = 0; k < kGroup; ++k) v[k] = T(4) * (u[k] < Vec<T>{} ? T(1) - v[k] : v[k]);
    } else {
        const T norm = p.norm_x[pairs.i];
        for (int k = 0; k < kGroup; ++k) {
            T norms[kLanes<T>] = {};
            const int64_t first = pairs.j + k * kLanes<T>;
            if (first + kLanes<T> <= p.m)
                store<T>(norms, load<T>(p.norm_y + first));
            else if (!kOnePair && first < p.m)
                std::memcpy(norms, p.norm_y + first, sizeof(T) * (p.m - first));
            const Vec<T> q = load<T>(norms), total = norm * norm + q * q;
            v[k] = max2(total - T(2) * load<T>(pairs.product + k * kLanes<T>), Vec<T>{});
            const std::uint64_t close = mask_below<T>(v[k], total * p.refine_below[0]);
            if (close)
                patch<T>(pairs, k * kLanes<T>, close, v[k], [&](int64_t j) {
                    return squared_distance<T>(p.x + pairs.i * p.ldx, p.y + j * p.ldy, p.d);
                });
        }
    }
    for (int k = 0; k < kGroup; ++k) value[k] = evaluate_radial<T>(*p.radial, v[k]);
    finish<T>(pairs, value, T(1), factors, out[0], window);
}

template <class T>
NTK_FN void map_neuron(const Pairs<T>& pairs, const T* factors, T* const (&out)[2], Window window) {
    const Problem<T>& p = pairs.problem;
    const bool cosine = p.neuron->kind == ntkfast::NeuronKind::kTable;
    const T scale = cosine ? p.inverse_x[pairs.i] : T(1);
    Vec<T> u[kGroup], value[kGroup];
    for (int k = 0; k < kGroup; ++k) u[k] = load<T>(pairs.product + k * kLanes<T>) * scale;
    for (int which = 0; which < 2; ++which) {
        if (out[which]) {
            evaluate_neuron<T>(*p.neuron, pairs.i, u, value);
            finish<T>(pairs, value, p.neuron->scale, factors, out[which], window);
        }
        for (int k = 0; k < kGroup; ++k) u[k] = -u[k];
    }
}

// ---- the layer map of one row strip of kStrip pairs --------------------------------------------

template <class T>
NTK_FN void map_layers(const Pairs<T>& pairs, const Stats<T>& stats, T* const (&out)[2],
                       Window window) {
    const auto& map = *pairs.problem.layers;
    State<T> state, slots[ntkfast::kSlots];
    const Problem<T>& p = pairs.problem;
    // w is 0 or far above this
    const Vec<T> tiny = broadcast<T>(sizeof(T) == 8 ? T(1e-300) : T(1e-37));
    std::uint64_t equal = 0;
    constexpr int kWidth = kGroup * kLanes<T>;
    for (int first = 0; first < kStrip; first += kWidth) {
        Vec<T> u[kGroup], v[kGroup];
        half_angles<T>({pairs.problem, pairs.product + first, pairs.i, pairs.j + first}, u, v);
        for (int k = 0; k < kGroup; ++k) {
            const auto back = u[k] < Vec<T>{};
            const Vec<T> small = v[k] + v[k], large = T(2) - small;
            put<T>(state, first + k * kLanes<T>, back ? large : small, back ? small : large,
                   Vec<T>{});
            equal |= mask_below<T>(load<T>(state.w + first + k * kLanes<T>), tiny)
                     << (first + k * kLanes<T>);
        }
    }
    evaluate_layers<T>(map, stats, state, slots);
    const int last = static_cast<int>(map.stats) - 1;
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> factor = stats.pair(last, k);
        store<T>(state.t + k, load<T>(state.t + k) * (factor * map.scale[0]));
        store<T>(state.w + k, (T(1) - load<T>(state.w + k)) * (factor * map.scale[1]));
    }
    for (; equal; equal &= equal - 1) {  // no rounding on the diagonal
        const int k = lowest_bit(equal);
        const int64_t j = pairs.j + k;
        if (!map.diagonal || j >= p.m || p.norm_x[pairs.i] != p.norm_y[j]) continue;
        state.t[k] = map.diagonal[2 * pairs.i];
        state.w[k] = map.diagonal[2 * pairs.i + 1];
    }
    if (out[0]) put_window<T>(out[0], state.t, window, kStrip);
    if (out[1]) put_window<T>(out[1], state.w, window, kStrip);
}

// ---- a tile ------------------------------------------------------------------------------------

// Scratch of one thread, in elements: packed columns, products, factors, numbers of the layer map.
template <class T>
struct Scratch {
    T *packed, *products, *values, *factors, *columns, *rows, *packed_v, *sums;

    static int64_t panels(int64_t columns) { return ceil_div<int64_t>(columns, kPanel<T>); }

    static int64_t layout(const Problem<T>& p, T* base, Scratch* s) {
        int64_t used = 0;
        const auto take = [&](int64_t count) {
            T* at = base ? base + used : nullptr;
            used += ceil_div<int64_t>(count, 16) * 16 + 16;
            return at;
        };
        Scratch r{};
        const int64_t tile = kTileRows * kTileColumns<T>, stats = p.layers ? p.layers->stats : 0;
        r.packed = take(kTileColumns<T> * p.d);
        r.products = take(tile);
        r.factors = take(kTileColumns<T>);
        r.columns = take(kTileColumns<T> * stats);
        r.rows = take(kTileRows * stats);
        if (p.v) {
            r.values = take(tile);
            r.packed_v = take(panels(p.columns) * kPanel<T> * kTileColumns<T>);
            // double sums: two floats each
            r.sums =
                take(chunk_rows(p) * p.columns * static_cast<int64_t>(sizeof(double) / sizeof(T)));
        }
        if (s) *s = r;
        return used;
    }

    // Rows of a task; fewer when many columns of sums must be kept (about a megabyte).
    static int64_t chunk_rows(const Problem<T>& p) {
        if (!p.v) return kChunkRows;
        const int64_t fit = (1 << 17) / (p.columns > 0 ? p.columns : 1) / kTileRows * kTileRows;
        return fit < kTileRows ? kTileRows : smaller(fit, kChunkRows);
    }
};

// The Hermite coefficients of a data row, where an activation asks for them.
template <class T>
const T* given_series(const ntkfast::Layers<T>& map, const T* series, int64_t row) {
    return series ? series + row * map.series_stride : nullptr;
}

// Whether the map asks for the products themselves. Else those with columns of unit length are
// formed, so that they cannot overflow.
template <class T>
bool takes_products(const Problem<T>& p) {
    return p.neuron || (p.radial && p.radial->radius == ntkfast::Radius::kEuclidean);
}

// Packs the columns from j0 on.
template <class T>
void pack_columns(const Problem<T>& p, int64_t j0, Scratch<T>& s) {
    const int width = static_cast<int>(smaller(kTileColumns<T>, p.m - j0));
    pack_panels<T>(p.y + j0 * p.ldy, p.ldy, takes_products(p) ? nullptr : p.inverse_y + j0, width,
                   p.d, s.packed);
    std::memset(s.factors, 0, sizeof(T) * kTileColumns<T>);
    std::memcpy(s.factors, p.factor_y + j0, sizeof(T) * width);
    if (!p.layers) return;
    const int64_t stats = p.layers->stats;
    std::memset(s.columns, 0, sizeof(T) * kTileColumns<T> * stats);
    for (int j = 0; j < width; ++j)
        p.layers->row_stats(*p.layers, p.norm_y[j0 + j],
                            given_series(*p.layers, p.layers->series_y, j0 + j), kStrip,
                            s.columns + j / kStrip * kStrip * stats + j % kStrip);
}

// The numbers of the layers for the rows of a tile: numbers[rows][stats].
template <class T>
void row_numbers(const Problem<T>& p, int64_t i0, int rows, T* numbers) {
    for (int i = 0; i < rows; ++i, numbers += p.layers->stats)
        p.layers->row_stats(*p.layers, p.norm_x[i0 + i],
                            given_series(*p.layers, p.layers->series_x, i0 + i), 1, numbers);
}

// Kernel values of rows [i0, i0+rows) and columns [j0, j0+width) into dest, whose pointers address
// that corner; of a symmetric problem only the columns from the diagonal on.
template <class T>
void compute_tile(const Problem<T>& p, const Scratch<T>& s, int64_t i0, int rows, int64_t j0,
                  int64_t width, T* const (&dest)[2], const int64_t (&ld)[2]) {
    const int64_t below = p.symmetric ? i0 - j0 : -kTileRows;  // columns left of the diagonal
    multiply_tile<T>(p.x + i0 * p.ldx, p.ldx, rows, s.packed,
                     static_cast<int>(below > 0 ? below / kPanel<T> : 0),
                     static_cast<int>(Scratch<T>::panels(width)), p.d, s.products, kTileColumns<T>);
    if (p.layers) row_numbers<T>(p, i0, rows, s.rows);
    const auto pairs = [&](int i, int64_t j) {
        return Pairs<T>{p, s.products + i * kTileColumns<T> + j, i0 + i, j0 + j};
    };
    const auto at = [&](int which, int64_t i, int64_t j) {
        return dest[which] ? dest[which] + i * ld[which] + j : nullptr;
    };
    const auto window = [&](int i, int64_t j) {
        const int64_t first = below + i - j;
        return Window{first > 0 ? first : 0, width - j};
    };
    if (p.layers) {  // strip by strip: its numbers stay in the first cache while the rows pass
        const int64_t stats = p.layers->stats;
        const int64_t start = below > 0 ? below / kStrip * kStrip : 0;
        for (int64_t j = start; j < width; j += kStrip)
            for (int i = 0; i < rows && below + i < j + kStrip; ++i) {
                T* const out[2] = {at(0, i, j), at(1, i, j)};
                map_layers<T>(pairs(i, j), {s.rows + i * stats, s.columns + j * stats}, out,
                              window(i, j));
            }
        return;
    }
    constexpr int64_t kWidth = kGroup * kLanes<T>;
    for (int i = 0; i < rows; ++i)
        for (int64_t j = below + i > 0 ? (below + i) / kWidth * kWidth : 0; j < width;
             j += kWidth) {
            T* const out[2] = {at(0, i, j), at(1, i, j)};
            if (p.radial)
                map_radial<T>(pairs(i, j), s.factors + j, out, window(i, j));
            else if (p.neuron)
                map_neuron<T>(pairs(i, j), s.factors + j, out, window(i, j));
            else
                map_profile<T>(pairs(i, j), s.factors + j, out, window(i, j));
        }
}

// Copies the strict upper part of a finished tile to its mirror image.
template <class T>
void mirror(T* out, int64_t ld, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    constexpr int64_t kBlock = 16;  // columns read and rows written at a time
    for (int64_t jb = j0; jb < j1; jb += kBlock)
        for (int64_t i = i0; i < i1; ++i) {
            const int64_t first = jb > i ? jb : i + 1, last = smaller(jb + kBlock, j1);
            for (int64_t j = first; j < last; ++j) out[j * ld + i] = out[i * ld + j];
        }
}

// ---- tasks -------------------------------------------------------------------------------------

template <class T>
int64_t column_blocks(const Problem<T>& p) {
    return ceil_div<int64_t>(p.m, kTileColumns<T>);
}

template <class T>
int64_t count_tasks(const Problem<T>& p) {
    const int64_t chunks = ceil_div<int64_t>(p.n, Scratch<T>::chunk_rows(p));
    return p.v ? chunks : chunks * column_blocks(p);
}

template <class T>
int64_t scratch_size(const Problem<T>& p) {
    return Scratch<T>::layout(p, nullptr, nullptr);
}

// One block of columns against one chunk of rows. `packed` remembers the columns last packed.
template <class T>
void run_gram(const Problem<T>& p, int64_t task, Scratch<T>& s, int64_t* packed) {
    const int64_t chunks = ceil_div<int64_t>(p.n, kChunkRows);
    const int64_t block = task / chunks, j0 = block * kTileColumns<T>;
    const int64_t j1 = smaller(j0 + kTileColumns<T>, p.m);
    const int64_t begin = task % chunks * kChunkRows, end = smaller(begin + kChunkRows, p.n);
    if (p.symmetric && begin >= j1) return;
    if (*packed != block) {
        pack_columns<T>(p, j0, s);
        *packed = block;
    }
    for (int64_t i0 = begin; i0 < end && !*p.cancelled; i0 += kTileRows) {
        if (p.symmetric && i0 >= j1) break;
        const int rows = static_cast<int>(smaller(kTileRows, end - i0));
        T* const dest[2] = {p.out[0] ? p.out[0] + i0 * p.ldo[0] + j0 : nullptr,
                            p.out[1] ? p.out[1] + i0 * p.ldo[1] + j0 : nullptr};
        compute_tile<T>(p, s, i0, rows, j0, j1 - j0, dest, p.ldo);
        if (p.symmetric)
            for (int which = 0; which < 2; ++which)
                if (p.out[which])
                    mirror<T>(p.out[which], p.ldo[which], i0, i0 + rows, i0 > j0 ? i0 : j0, j1);
    }
}

// sums[rows][columns] += values[rows][width] * v: one register tile at a time, then in double.
template <class T, int VECS>
void add_product(const Scratch<T>& s, int rows, int width, const T* packed_v, int64_t columns,
                 int64_t used, double* sums) {
    alignas(64) T part[kRows * kPanel<T>] = {};
    for (int i = 0; i < rows; i += kRows) {
        multiply_register_tile<T, VECS, false>(s.values + i * kTileColumns<T>, kTileColumns<T>,
                                               rows - i, packed_v, kPanel<T>, width, part,
                                               kPanel<T>);
        for (int r = 0; r < kRows && i + r < rows; ++r)
            for (int64_t c = 0; c < used; ++c)
                sums[(i + r) * columns + c] += static_cast<double>(part[r * kPanel<T> + c]);
    }
}

// A chunk of rows against all columns: the product with V, without storing the kernel.
template <class T>
void run_matmul(const Problem<T>& p, int64_t task, Scratch<T>& s) {
    const int64_t chunk = Scratch<T>::chunk_rows(p), begin = task * chunk;
    const int64_t end = smaller(begin + chunk, p.n);
    double* sums = reinterpret_cast<double*>(s.sums);
    std::memset(sums, 0, sizeof(double) * (end - begin) * p.columns);
    const int64_t panels = Scratch<T>::panels(p.columns);
    const int64_t ld[2] = {kTileColumns<T>, kTileColumns<T>};
    T* const dest[2] = {p.use_second ? nullptr : s.values, p.use_second ? s.values : nullptr};
    for (int64_t j0 = 0; j0 < p.m; j0 += kTileColumns<T>) {
        const int width = static_cast<int>(smaller(kTileColumns<T>, p.m - j0));
        pack_columns<T>(p, j0, s);
        std::memset(s.packed_v, 0, sizeof(T) * panels * kPanel<T> * kTileColumns<T>);
        for (int64_t c = 0; c < p.columns; c += kPanel<T>)
            for (int j = 0; j < width; ++j)
                std::memcpy(s.packed_v + c * kTileColumns<T> + j * kPanel<T>,
                            p.v + (j0 + j) * p.ldv + c,
                            sizeof(T) * smaller(kPanel<T>, p.columns - c));
        for (int64_t i0 = begin; i0 < end; i0 += kTileRows) {
            if (*p.cancelled) return;
            const int rows = static_cast<int>(smaller(kTileRows, end - i0));
            compute_tile<T>(p, s, i0, rows, j0, width, dest, ld);
            for (int64_t c = 0; c < p.columns; c += kPanel<T>) {
                const int64_t used = smaller(kPanel<T>, p.columns - c);
                const T* v = s.packed_v + c * kTileColumns<T>;
                double* to = sums + (i0 - begin) * p.columns + c;
                if (used <= kLanes<T>)
                    add_product<T, 1>(s, rows, width, v, p.columns, used, to);
                else if (used <= 2 * kLanes<T>)
                    add_product<T, 2>(s, rows, width, v, p.columns, used, to);
                else
                    add_product<T, 3>(s, rows, width, v, p.columns, used, to);
            }
        }
    }
    for (int64_t i = begin; i < end; ++i)
        for (int64_t c = 0; c < p.columns; ++c)
            p.product[i * p.ldp + c] = static_cast<T>(sums[(i - begin) * p.columns + c]);
}

template <class T>
void run_task(const Problem<T>& p, int64_t task, T* scratch, int64_t* packed) {
    Scratch<T> s;
    Scratch<T>::layout(p, scratch, &s);
    if (p.v)
        run_matmul<T>(p, task, s);
    else
        run_gram<T>(p, task, s, packed);
}

}  // namespace
