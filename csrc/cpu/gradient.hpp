// Gradients by rows: two numbers per pair while a tile is in cache, and a product with the columns.
#pragma once

#include "cpu/tile.hpp"
#include "formulas/slopes.hpp"

namespace {

// Scratch of one thread: that of a product whose right factor are the columns, their weights, and of
// each row the factor of the row itself.
template <class T>
struct GradientScratch {
    Scratch<T> tile;
    T *weights, *packed_right, *row_rates, *shares;

    static int64_t layout(const Gradient<T>& g, T* base, GradientScratch* s) {
        Problem<T> p = g.pairs;
        p.v = p.y, p.columns = p.d;
        int64_t used = Scratch<T>::layout(p, base, s ? &s->tile : nullptr);
        const auto take = [&](int64_t count) {
            T* at = base ? base + used : nullptr;
            used += ceil_div(count, 16) * 16 + 16;
            return at;
        };
        const int64_t wide = sizeof(double) / sizeof(T), layers = p.layers ? p.layers->count : 0;
        const int64_t numbers = p.layers ? ntkfast::count_rates(*p.layers) : 0;
        T* const sums = take(wide * g.rows * (p.d + 1));
        T* const weights = take(kTileRows * kTilePitch<T>);
        T* const right = take(Scratch<T>::panels(kTileColumns<T>) * kPanel<T> * g.rank);
        T* const rates = take(kTileRows * numbers);
        T* const shares = take(kTileColumns<T> * layers + kRates * layers);
        if (s) {
            s->tile.sums = sums, s->weights = weights, s->packed_right = right;
            s->row_rates = rates, s->shares = shares;
        }
        return used;
    }
};

template <class T>
int64_t gradient_scratch(const Gradient<T>& g) {
    return GradientScratch<T>::layout(g, nullptr, nullptr);
}

// The columns as the right factor of a product, in panels [width][kPanel]: unit vectors, or as they are.
template <class T>
void pack_factor(const Gradient<T>& g, int64_t j0, int width, T* packed) {
    const Problem<T>& p = g.pairs;
    const bool unit = !takes_products(p);
    for (int64_t c = 0; c < p.d; c += kPanel<T>) {
        const int64_t used = smaller(kPanel<T>, p.d - c);
        for (int j = 0; j < width; ++j) {
            const T* from = p.y + (j0 + j) * p.ldy + c;
            const T factor = unit ? p.inverse_y[j0 + j] : T(1);
            T* to = packed + c * kTileColumns<T> + j * kPanel<T>;
            for (int64_t k = 0; k < used; ++k) to[k] = from[k] * factor;
            for (int64_t k = used; k < kPanel<T>; ++k) to[k] = 0;
        }
    }
}

// What layers ask of columns, beside the numbers of pack_columns: [strip][layer][kStrip].
template <class T>
void pack_shares(const Problem<T>& p, int64_t j0, int width, T* shares) {
    const int64_t layers = p.layers->count;
    ntkfast::Layers<T> map = *p.layers;
    map.directions = 0;
    T* const one = shares + kTileColumns<T> * layers;
    std::memset(shares, 0, sizeof(T) * kTileColumns<T> * layers);
    for (int j = 0; j < width; ++j) {
        map.row_rates(map, p.norm_y[j0 + j], given_series(map, map.series_y, j0 + j), one);
        for (int64_t l = 0; l < layers; ++l)
            shares[(j / kStrip * layers + l) * kStrip + j % kStrip] = one[l * kRates];
    }
}

// The same of the rows of a tile, and their numbers.
template <class T>
void prepare_rows(const Gradient<T>& g, int64_t i0, int rows, const GradientScratch<T>& s) {
    const auto& map = *g.pairs.layers;
    for (int i = 0; i < rows; ++i) {
        const T norm = g.pairs.norm_x[i0 + i] > 0 ? g.pairs.norm_x[i0 + i] : g.tiny;
        const T* const series = given_series(map, map.series_x, i0 + i);
        map.row_stats(map, norm, series, 1, s.tile.rows + i * map.stats);
        map.row_rates(map, norm, series, s.row_rates + i * ntkfast::count_rates(map));
    }
}

// What layers take of row r of a tile and the columns from j on.
template <class T>
Beside<T> beside_layers(const Problem<T>& p, const GradientScratch<T>& s, int r, int j) {
    const auto& map = *p.layers;
    return {
        s.tile.factors + j,
        {s.tile.rows + r * map.stats, s.tile.columns + j * map.stats},
        {s.row_rates + r * ntkfast::count_rates(map), s.shares + j * map.count, map.directions}};
}

// The derivatives of row r of a tile and the columns from j on; of those beyond the data they are 0.
template <class T>
void strip_slopes(const Gradient<T>& g, const GradientScratch<T>& s, int64_t i, int r, int64_t j0,
                  int j, int width, Slopes<T>& slopes) {
    const Problem<T>& p = g.pairs;
    Beside<T> beside{s.tile.factors + j, {}, {}};
    if (p.layers) beside = beside_layers<T>(p, s, r, j);
    const T* const products = s.tile.products + r * kTilePitch<T> + j;
    evaluate_slopes<T>(g, {p, products, i, j0 + j}, beside, slopes);
    for (int k = width - j; k < kStrip; ++k) slopes.radial[k] = slopes.turn[k] = slopes.u[k] = 0;
}

// V of a tile; what follows the last column in its strip is 0.
template <class T>
void load_weights(const Gradient<T>& g, const GradientScratch<T>& s, int64_t i0, int rows,
                  int64_t j0, int width) {
    if (g.rank) {
        multiply_tile<T>(g.left + i0 * g.ld_left, g.ld_left, rows, g.pairs.n - i0, s.packed_right,
                         0, static_cast<int>(Scratch<T>::panels(width)), g.rank, s.weights,
                         kTilePitch<T>);
    } else {
        for (int i = 0; i < rows; ++i) {
            T* const to = s.weights + i * kTilePitch<T>;
            const auto size = sizeof(T) * static_cast<std::size_t>(width);
            if (g.v)
                std::memcpy(to, g.v + (i0 + i) * g.ldv + j0, size);
            else
                std::memset(to, 0, size);
        }
        for (int j = 0; g.turned && j < width; ++j)
            for (int i = 0; i < rows; ++i)
                s.weights[i * kTilePitch<T> + j] += g.turned[(j0 + j) * g.ld_turned + i0 + i];
    }
    const int end = static_cast<int>(ceil_div(width, kStrip)) * kStrip;
    for (int i = 0; i < rows && end > width; ++i)
        std::memset(s.weights + i * kTilePitch<T> + width, 0, sizeof(T) * (end - width));
}

// Weights of the columns of one row in the product, and what its own vector is multiplied by; close
// pairs add their tangents to `to`.
template <class T>
double weigh_row(const Gradient<T>& g, const GradientScratch<T>& s, int64_t i, int r, int64_t j0,
                 int width, double* to) {
    const Vec<T> tiny = broadcast<T>(kTiniest<T>);
    double own = 0;
    for (int j = 0; j < width; j += kStrip) {
        const T* const weights = s.weights + r * kTilePitch<T> + j;
        T* const out = s.tile.values + r * kTilePitch<T> + j;
        Slopes<T> slopes;
        strip_slopes<T>(g, s, i, r, j0, j, width, slopes);
        Vec<T> sum{};
        for (int k = 0; k < kStrip; k += kLanes<T>) {
            const Vec<T> v = load<T>(weights + k), inverse = load<T>(slopes.inverse + k);
            const Vec<T> turn = v * load<T>(slopes.turn + k), c = turn * inverse;
            store<T>(out + k, c);
            sum += v * load<T>(slopes.radial + k) - c * load<T>(slopes.u + k);
            std::uint64_t close = mask_below<T>(inverse, tiny);
            for (; close; close &= close - 1) {
                const int lane = k + lowest_bit(close);
                if (j + lane >= width) break;
                const T c = weights[lane] * slopes.turn[lane];
                each_tangent<T>(g, i, j0 + j + lane, slopes.u[lane] < 0,
                                [&](int64_t d, T part) { to[d] += static_cast<double>(c * part); });
            }
        }
        own += static_cast<double>(sum_lanes<T>(sum));
    }
    return own;
}

// Packs a block of columns.
template <class T>
void pack_block(const Gradient<T>& g, int64_t j0, int width, GradientScratch<T>& s) {
    pack_columns<T>(g.pairs, j0, s.tile);
    if (g.pairs.layers) pack_shares<T>(g.pairs, j0, width, s.shares);
}

// Multiplies the rows of a tile with the columns packed last, and prepares them.
template <class T>
void start_tile(const Gradient<T>& g, int64_t i0, int rows, int width,
                const GradientScratch<T>& s) {
    const Problem<T>& p = g.pairs;
    const int panels = static_cast<int>(Scratch<T>::panels(width));
    multiply_tile<T>(p.x + i0 * p.ldx, p.ldx, rows, p.n - i0, s.tile.packed, 0, panels, p.d,
                     s.tile.products, kTilePitch<T>);
    if (p.layers) prepare_rows<T>(g, i0, rows, s);
}

// Derivatives along dx of one row, whose part along x is `own`; weights hold dx times the columns.
template <class T>
void move_row(const Gradient<T>& g, const GradientScratch<T>& s, int64_t i, int r, int64_t j0,
              int width, T own) {
    const Vec<T> tiny = broadcast<T>(kTiniest<T>);
    for (int j = 0; j < width; j += kStrip) {
        Slopes<T> slopes;
        strip_slopes<T>(g, s, i, r, j0, j, width, slopes);
        alignas(64) T found[kStrip];
        for (int k = 0; k < kStrip; k += kLanes<T>) {
            const Vec<T> moved = load<T>(s.weights + r * kTilePitch<T> + j + k);
            const Vec<T> inverse = load<T>(slopes.inverse + k), turn = load<T>(slopes.turn + k);
            store<T>(found + k, load<T>(slopes.radial + k) * own +
                                    turn * (inverse * (moved - load<T>(slopes.u + k) * own)));
            std::uint64_t close = mask_below<T>(inverse, tiny);
            for (; close; close &= close - 1) {
                const int lane = k + lowest_bit(close);
                if (j + lane >= width) break;
                T sum = 0;
                each_tangent<T>(g, i, j0 + j + lane, slopes.u[lane] < 0,
                                [&](int64_t d, T part) { sum += part * g.dx[i * g.ld_dx + d]; });
                found[lane] = slopes.radial[lane] * own + slopes.turn[lane] * sum;
            }
        }
        std::memcpy(g.out + i * g.ldo + j0 + j, found, sizeof(T) * smaller(kStrip, width - j));
    }
}

// A chunk of rows against all columns: derivatives along dx.
template <class T>
void move_task(const Gradient<T>& g, int64_t task, GradientScratch<T>& s) {
    const Problem<T>& p = g.pairs;
    const int64_t begin = task * g.rows, end = smaller(begin + g.rows, p.n);
    for (int64_t j0 = 0; j0 < p.m; j0 += kTileColumns<T>) {
        const int width = static_cast<int>(smaller(kTileColumns<T>, p.m - j0));
        pack_block<T>(g, j0, width, s);
        for (int64_t i0 = begin; i0 < end; i0 += kTileRows) {
            if (*p.cancelled) return;
            const int rows = static_cast<int>(smaller(kTileRows, end - i0));
            start_tile<T>(g, i0, rows, width, s);
            multiply_tile<T>(g.dx + i0 * g.ld_dx, g.ld_dx, rows, p.n - i0, s.tile.packed, 0,
                             static_cast<int>(Scratch<T>::panels(width)), p.d, s.weights,
                             kTilePitch<T>);
            for (int r = 0; r < rows; ++r) {
                const int64_t i = i0 + r;
                const T inverse = takes_products(p) ? T(1) : p.inverse_x[i];
                double own = 0;
                for (int64_t k = 0; k < p.d; ++k)
                    own += static_cast<double>(p.x[i * p.ldx + k] * inverse) *
                           static_cast<double>(g.dx[i * g.ld_dx + k]);
                move_row<T>(g, s, i, r, j0, width, static_cast<T>(own));
            }
        }
    }
}

// Derivatives by parameters of one row: weighed, or as they are.
template <class T>
void row_by_parameters(const Gradient<T>& g, const GradientScratch<T>& s, int64_t i, int r,
                       int64_t j0, int width) {
    const Problem<T>& p = g.pairs;
    const int64_t directions = p.layers->directions;
    Vec<T> sums[kDirections] = {};
    for (int j = 0; j < width; j += kStrip) {
        const Beside<T> beside = beside_layers<T>(p, s, r, j);
        const int64_t used = smaller(kStrip, width - j);
        Tangents<T> d;
        parameter_slopes<T>(g, {p, s.tile.products + r * kTilePitch<T> + j, i, j0 + j},
                            beside.stats, beside.rates, d);
        if (!g.sums) {
            std::memcpy(g.out + i * g.ldo + j0 + j, d.along[0].ntk, sizeof(T) * used);
            continue;
        }
        for (int64_t k = 0; k < directions; ++k) {
            T* const found = d.along[k].ntk;
            for (int64_t end = used; end < kStrip; ++end) found[end] = 0;  // no data, maybe NaN
            for (int at = 0; at < kStrip; at += kLanes<T>)
                sums[k] += load<T>(s.weights + r * kTilePitch<T> + j + at) * load<T>(found + at);
        }
    }
    for (int64_t k = 0; g.sums && k < directions; ++k)
        g.sums[i * directions + k] += static_cast<double>(sum_lanes<T>(sums[k]));
}

// A chunk of rows against all columns: derivatives by parameters.
template <class T>
void parameter_task(const Gradient<T>& g, int64_t task, GradientScratch<T>& s) {
    const Problem<T>& p = g.pairs;
    const int64_t begin = task * g.rows, end = smaller(begin + g.rows, p.n);
    const int64_t directions = p.layers->directions;
    for (int64_t k = begin * directions; g.sums && k < end * directions; ++k) g.sums[k] = 0;
    for (int64_t j0 = 0; j0 < p.m; j0 += kTileColumns<T>) {
        const int width = static_cast<int>(smaller(kTileColumns<T>, p.m - j0));
        pack_block<T>(g, j0, width, s);
        if (g.rank)
            pack_panels<T>(g.right + j0 * g.ld_right, g.ld_right, nullptr, width, g.rank,
                           s.packed_right);
        for (int64_t i0 = begin; i0 < end; i0 += kTileRows) {
            if (*p.cancelled) return;
            const int rows = static_cast<int>(smaller(kTileRows, end - i0));
            start_tile<T>(g, i0, rows, width, s);
            if (g.sums) load_weights<T>(g, s, i0, rows, j0, width);
            for (int r = 0; r < rows; ++r) row_by_parameters<T>(g, s, i0 + r, r, j0, width);
        }
    }
}

// A chunk of rows against all columns.
template <class T>
void gradient_task(const Gradient<T>& g, int64_t task, T* scratch) {
    GradientScratch<T> s;
    GradientScratch<T>::layout(g, scratch, &s);
    if (g.pairs.layers && g.pairs.layers->steps) return parameter_task<T>(g, task, s);
    if (g.dx) return move_task<T>(g, task, s);
    Problem<T> p = g.pairs;
    p.columns = p.d;
    const int64_t begin = task * g.rows, end = smaller(begin + g.rows, p.n);
    double *const sums = reinterpret_cast<double*>(s.tile.sums), *const own = sums + g.rows * p.d;
    std::memset(sums, 0, sizeof(double) * g.rows * (p.d + 1));
    for (int64_t j0 = 0; j0 < p.m; j0 += kTileColumns<T>) {
        const int width = static_cast<int>(smaller(kTileColumns<T>, p.m - j0));
        pack_block<T>(g, j0, width, s);
        pack_factor<T>(g, j0, width, s.tile.packed_v);
        if (g.rank)
            pack_panels<T>(g.right + j0 * g.ld_right, g.ld_right, nullptr, width, g.rank,
                           s.packed_right);
        for (int64_t i0 = begin; i0 < end; i0 += kTileRows) {
            if (*p.cancelled) return;
            const int rows = static_cast<int>(smaller(kTileRows, end - i0));
            start_tile<T>(g, i0, rows, width, s);
            load_weights<T>(g, s, i0, rows, j0, width);
            for (int r = 0; r < rows; ++r)
                own[i0 - begin + r] +=
                    weigh_row<T>(g, s, i0 + r, r, j0, width, sums + (i0 - begin + r) * p.d);
            add_rows<T>(p, s.tile, rows, width, sums + (i0 - begin) * p.d);
        }
    }
    for (int64_t i = begin; i < end; ++i) {
        const double inverse = takes_products(p) ? 1.0 : static_cast<double>(p.inverse_x[i]);
        const double factor = own[i - begin] * inverse;
        for (int64_t k = 0; k < p.d; ++k)
            g.out[i * g.ldo + k] = static_cast<T>(sums[(i - begin) * p.d + k] +
                                                  factor * static_cast<double>(p.x[i * p.ldx + k]));
    }
}

}  // namespace
