// The tile loop: inner products of a tile, the kernel map while they are in cache, one store.
#pragma once

#include "cpu/sectors.hpp"

namespace {

// Kernel values of rows [i0, i0+rows) and columns [j0, j0+width) into dest, whose pointers address
// that corner; of a symmetric problem only the columns from the diagonal on. Meanwhile those of
// the tile before, `waiting`, are mirrored.
template <class T>
void compute_tile(const Problem<T>& p, const Scratch<T>& s, int64_t i0, int rows, int64_t j0,
                  int64_t width, T* const (&dest)[2], const int64_t (&ld)[2],
                  Mirror<T>* waiting = nullptr) {
    const int64_t below = p.symmetric ? i0 - j0 : -kTileRows;  // columns left of the diagonal
    // Maps take `unit` columns at once: also those before the diagonal need products, since what is left
    // there of other tiles may look like equal rows, which take long.
    const auto multiply = [&](int from, int to, int64_t unit) {
        const int64_t i = i0 + from, before = below + from > 0 ? (below + from) / unit * unit : 0;
        multiply_tile<T>(p.x + i * p.ldx, p.ldx, to - from, p.n - i, s.packed,
                         static_cast<int>(before / kPanel<T>),
                         static_cast<int>(Scratch<T>::panels(width)), p.d,
                         s.products + from * kTilePitch<T>, kTilePitch<T>);
    };
    const auto pairs = [&](int i, int64_t j) {
        return Pairs<T>{p, s.products + i * kTilePitch<T> + j, i0 + i, j0 + j};
    };
    const auto at = [&](int which, int64_t i, int64_t j) {
        return dest[which] ? dest[which] + i * ld[which] + j : nullptr;
    };
    const bool staged = is_staged(p);
    const auto window = [&](int i, int64_t j) {
        const int64_t first = below + i - j;
        return Window{first > 0 ? first : 0, width - j};
    };
    // Column of the pair of row i with itself, whose value is known, or less than 0. An angle of 0 would lead all
    // pairs beside it the long way of close ones.
    const auto own_column = [&](int i) -> int64_t {
        return p.symmetric && p.profile[0] && below + i < width ? below + i : -1;
    };
    Outgoing<T> outgoing{p, dest, ld, i0, j0, rows, width};
    if (p.layers) {  // strip by strip: its numbers stay in the first cache while the rows pass
        multiply(0, rows, kStrip);
        pack_rows<T>(p, i0, rows, s);
        const int64_t stats = p.layers->stats;
        const int64_t start = below > 0 ? below / kStrip * kStrip : 0;
        for (int64_t j = start; j < width; j += kStrip) {
            const int end = static_cast<int>(smaller(rows, j + kStrip - below));
            if (p.layers->sectors) {
                for (int i = 0; i < end; i += kSectorRows<T>)
                    sector_strips<T>(
                        p, s, i, static_cast<int>(smaller(i + kSectorRows<T>, end)), j,
                        [&](int k) { return pairs(k, j); }, [&](int k) { return window(k, j); },
                        [&](int k) { return at(dest[0] ? 0 : 1, k, j); });
                continue;
            }
            for (int i = 0; i < end; ++i) {
                T* const out[2] = {at(0, i, j), at(1, i, j)};
                map_layers<T>(pairs(i, j), {s.rows + i * stats, s.columns + j * stats}, out,
                              window(i, j));
            }
        }
        for (int i = 0; staged && i < rows; ++i) outgoing.keep(i, window(i, 0).from);
        return;
    }
    constexpr int64_t kWidth = kGroup * kLanes<T>;
    constexpr int kStep = kRowsOutside ? kRows : kTileRows;  // products stay in the first cache
    constexpr int kSent = kWidth > kLineNumbers<T> ? kWidth / kLineNumbers<T> : 1;
    constexpr bool kBetween = sizeof(Vec<T>) >= 32;           // short groups do not pay for it
    constexpr int kEvery = kPart<T> * kStepRows<T> / kWidth;  // groups for a step of the mirror
    int groups = 0;
    for (int i = 0; i < rows; ++i) {
        if (i % kStep == 0) multiply(i, i + kStep < rows ? i + kStep : rows, kWidth);
        const int64_t own = own_column(i);
        if (own >= 0) s.products[i * kTilePitch<T> + own] = 0;
        for (int64_t j = below + i > 0 ? (below + i) / kWidth * kWidth : 0; j < width;
             j += kWidth) {
            T* const out[2] = {at(0, i, j), at(1, i, j)};
            const Window wanted = staged ? Window{0, kWidth} : window(i, j);  // there is room
            if (p.radial)
                map_radial<T>(pairs(i, j), s.factors + j, out, wanted);
            else if (p.neuron)
                map_neuron<T>(pairs(i, j), s.factors + j, out, wanted);
            else
                map_profile<T>(pairs(i, j), s.factors + j, out, wanted);
            if constexpr (!kBetween) continue;
            outgoing.template send<kSent>();
            if (!waiting || ++groups % kEvery) continue;
            for (int which = 0; which < 2; ++which) mirror_step<T>(p, waiting[which]);
        }
        for (int which = 0; own >= 0 && which < 2; ++which)
            if (dest[which])
                *at(which, i, own) =
                    value_of_equals(*p.profile[which], p.factor_x[i0 + i], s.factors[own]);
        if (staged) outgoing.keep(i, window(i, 0).from);
    }
    outgoing.send_all();
}

// ---- tasks -------------------------------------------------------------------------------------

template <class T>
int64_t column_blocks(const Problem<T>& p) {
    return ceil_div(p.m, kTileColumns<T>);
}

template <class T>
int64_t count_tasks(const Problem<T>& p) {
    const int64_t chunks = ceil_div(p.n, Scratch<T>::chunk_rows(p));
    return p.v ? chunks : chunks * column_blocks(p);
}

template <class T>
int64_t scratch_size(const Problem<T>& p) {
    return Scratch<T>::layout(p, nullptr, nullptr);
}

// Kernel values that are not stored themselves: those of a product.
template <class T>
void passing_tile(const Problem<T>& p, const Scratch<T>& s, int64_t i0, int rows, int64_t j0,
                  int width) {
    const int64_t ld[2] = {kTilePitch<T>, kTilePitch<T>};
    T* const dest[2] = {p.use_second ? nullptr : s.values, p.use_second ? s.values : nullptr};
    compute_tile<T>(p, s, i0, rows, j0, width, dest, ld);
}

// Scratch memory for results: that of the products, whose place the first of them takes.
template <class T>
void stage(const Problem<T>& p, const Scratch<T>& s, T* (&dest)[2], int64_t (&ld)[2]) {
    const bool wanted[2] = {p.out[0] || (p.rounded && !p.use_second),
                            p.out[1] || (p.rounded && p.use_second)};
    ld[0] = ld[1] = kTilePitch<T>;
    dest[0] = wanted[0] ? s.products : nullptr;
    dest[1] = !wanted[1] ? nullptr : wanted[0] ? s.values : s.products;
}

template <class T>
NTK_FN void swap_tiles(T*& one, T*& other) {
    T* const first = one;
    one = other, other = first;
}

// One block of columns against one chunk of rows. `packed` remembers the columns last packed.
template <class T>
void run_gram(const Problem<T>& p, int64_t task, Scratch<T>& s, int64_t* packed) {
    const int64_t chunks = ceil_div(p.n, p.rows);
    const int64_t block = task / chunks, j0 = block * kTileColumns<T>;
    const int64_t j1 = smaller(j0 + kTileColumns<T>, p.m);
    const int64_t begin = task % chunks * p.rows, end = smaller(begin + p.rows, p.n);
    if (p.symmetric && begin >= j1) return;
    if (*packed != block) {
        pack_columns<T>(p, j0, s);
        *packed = block;
    }
    Mirror<T> waiting[2]{};
    for (int64_t i0 = begin; i0 < end && !*p.cancelled; i0 += kTileRows) {
        if (p.symmetric && i0 >= j1) break;
        const int rows = static_cast<int>(smaller(kTileRows, end - i0));
        T* dest[2] = {p.out[0] ? p.out[0] + i0 * p.ldo[0] + j0 : nullptr,
                      p.out[1] ? p.out[1] + i0 * p.ldo[1] + j0 : nullptr};
        int64_t ld[2] = {p.ldo[0], p.ldo[1]};
        if (is_staged(p)) stage<T>(p, s, dest, ld);
        compute_tile<T>(p, s, i0, rows, j0, j1 - j0, dest, ld,
                        mirrors_later(p) ? waiting : nullptr);
        for (int which = 0; p.symmetric && which < 2; ++which) {
            if (!dest[which]) continue;
            finish_mirror<T>(p, waiting[which]);
            Mirror<T> tile{dest[which], ld[which],        i0,    rows,           j0, j1 - j0,
                           i0 == begin, i0 + rows == end, which, s.mirror[which]};
            if (mirrors_later(p))
                waiting[which] = tile;
            else
                finish_mirror<T>(p, tile);
        }
        if (mirrors_later(p)) {
            swap_tiles<T>(s.products, s.other_products);
            swap_tiles<T>(s.values, s.other_values);
        }
    }
    for (Mirror<T>& rest : waiting) finish_mirror<T>(p, rest);
    if (p.streams) drain();
}

// sums[rows][columns] += values[rows][width] * v: one register tile at a time, then in double.
template <class T, int VECS>
void add_product(const Scratch<T>& s, int rows, int width, const T* packed_v, int64_t columns,
                 int64_t used, double* sums) {
    alignas(64) T part[kRows * kPanel<T>] = {};
    for (int i = 0; i < rows; i += kRows) {
        multiply_register_tile<T, VECS, false>(s.values + i * kTilePitch<T>, kTilePitch<T>,
                                               rows - i, packed_v, kPanel<T>, width, part,
                                               kPanel<T>);
        for (int r = 0; r < kRows && i + r < rows; ++r)
            for (int64_t c = 0; c < used; ++c)
                sums[(i + r) * columns + c] += static_cast<double>(part[r * kPanel<T> + c]);
    }
}

// Packs the rows of V that the columns from j0 on are multiplied by.
template <class T>
void pack_v(const Problem<T>& p, int64_t j0, int width, const Scratch<T>& s) {
    std::memset(s.packed_v, 0,
                sizeof(T) * Scratch<T>::panels(p.columns) * kPanel<T> * kTileColumns<T>);
    for (int64_t c = 0; c < p.columns; c += kPanel<T>)
        for (int j = 0; j < width; ++j)
            std::memcpy(s.packed_v + c * kTileColumns<T> + j * kPanel<T>,
                        p.v + (j0 + j) * p.ldv + c, sizeof(T) * smaller(kPanel<T>, p.columns - c));
}

// sums[rows][columns] += values * v, of a tile.
template <class T>
void add_rows(const Problem<T>& p, const Scratch<T>& s, int rows, int width, double* sums) {
    for (int64_t c = 0; c < p.columns; c += kPanel<T>) {
        const int64_t used = smaller(kPanel<T>, p.columns - c);
        const T* v = s.packed_v + c * kTileColumns<T>;
        if (used <= kLanes<T>)
            add_product<T, 1>(s, rows, width, v, p.columns, used, sums + c);
        else if (used <= 2 * kLanes<T>)
            add_product<T, 2>(s, rows, width, v, p.columns, used, sums + c);
        else
            add_product<T, 3>(s, rows, width, v, p.columns, used, sums + c);
    }
}

// sums[columns][p.block] += the transpose of u * values, rows i0 on of u: the tile's mirror image.
template <class T>
void add_columns(const Problem<T>& p, const Scratch<T>& s, int64_t i0, int rows, int width,
                 double* sums) {
    for (int i = 0; i < rows; ++i)
        for (int64_t c = 0; c < p.columns; ++c)
            s.turned_v[c * kTileRows + i] = p.u[(i0 + i) * p.ldu + c];
    alignas(64) T part[kRows * kPanel<T>] = {};
    for (int64_t c = 0; c < p.columns; c += kRows) {
        const int count = static_cast<int>(smaller(kRows, p.columns - c));
        for (int j = 0; j < width; j += kPanel<T>) {
            multiply_register_tile<T, kVecs, false>(s.turned_v + c * kTileRows, kTileRows, count,
                                                    s.values + j, kTilePitch<T>, rows, part,
                                                    kPanel<T>);
            for (int r = 0; r < count; ++r)
                for (int k = 0; k < kPanel<T>; ++k)
                    sums[(c + r) * p.block + j + k] += static_cast<double>(part[r * kPanel<T> + k]);
        }
    }
}

// A chunk of rows against all columns: the product with V, without storing the kernel.
template <class T>
void run_matmul(const Problem<T>& p, int64_t task, Scratch<T>& s) {
    const int64_t chunk = Scratch<T>::chunk_rows(p), begin = task * chunk;
    const int64_t end = smaller(begin + chunk, p.n);
    double* sums = reinterpret_cast<double*>(s.sums);
    std::memset(sums, 0, sizeof(double) * (end - begin) * p.columns);
    for (int64_t j0 = 0; j0 < p.m; j0 += kTileColumns<T>) {
        const int width = static_cast<int>(smaller(kTileColumns<T>, p.m - j0));
        pack_columns<T>(p, j0, s);
        pack_v<T>(p, j0, width, s);
        for (int64_t i0 = begin; i0 < end; i0 += kTileRows) {
            if (*p.cancelled) return;
            const int rows = static_cast<int>(smaller(kTileRows, end - i0));
            passing_tile<T>(p, s, i0, rows, j0, width);
            add_rows<T>(p, s, rows, width, sums + (i0 - begin) * p.columns);
        }
    }
    for (int64_t i = begin; i < end; ++i)
        for (int64_t c = 0; c < p.columns; ++c)
            p.product[i * p.ldp + c] = static_cast<T>(sums[(i - begin) * p.columns + c]);
}

// A block of rows against one of columns, of a symmetric problem at or after it: leaves what both add
// to the products, [block][columns] of the rows and then [columns][block] of the columns.
template <class T>
void run_both(const Problem<T>& p, int64_t task, Scratch<T>& s) {
    const int64_t blocks = ceil_div(p.m, p.block);
    const int64_t begin = task / blocks * p.block, end = smaller(begin + p.block, p.n);
    const int64_t from = task % blocks * p.block, to = smaller(from + p.block, p.m);
    double *const sums = reinterpret_cast<double*>(s.sums), *const turned =
                                                                sums + p.block * p.columns;
    std::memset(sums, 0, sizeof(double) * 2 * p.block * p.columns);
    for (int64_t j0 = from; j0 < to; j0 += kTileColumns<T>) {
        const int width = static_cast<int>(smaller(kTileColumns<T>, to - j0));
        pack_columns<T>(p, j0, s);
        pack_v<T>(p, j0, width, s);
        for (int i = 0; i < kTileRows; ++i)  // what is read of whole vectors
            std::memset(s.values + i * kTilePitch<T> + width, 0,
                        sizeof(T) * (kTileColumns<T> - width));
        for (int64_t i0 = begin; i0 < end && !(p.symmetric && i0 >= j0 + width); i0 += kTileRows) {
            if (*p.cancelled) return;
            const int rows = static_cast<int>(smaller(kTileRows, end - i0));
            passing_tile<T>(p, s, i0, rows, j0, width);
            const auto clear = [&](int64_t below) {  // of row i the columns before `below` + i
                for (int64_t i = 0; p.symmetric && i < rows; ++i)
                    if (below + i > 0)
                        std::memset(s.values + i * kTilePitch<T>, 0, sizeof(T) * (below + i));
            };
            clear(i0 - j0);
            add_rows<T>(p, s, rows, width, sums + (i0 - begin) * p.columns);
            clear(i0 - j0 + 1);  // the diagonal counts once
            add_columns<T>(p, s, i0, rows, width, turned + (j0 - from));
        }
    }
}

template <class T>
void run_task(const Problem<T>& p, int64_t task, T* scratch, int64_t* packed) {
    Scratch<T> s;
    Scratch<T>::layout(p, scratch, &s);
    if (p.u)
        run_both<T>(p, task, s);
    else if (p.v)
        run_matmul<T>(p, task, s);
    else
        run_gram<T>(p, task, s, packed);
}

}  // namespace
