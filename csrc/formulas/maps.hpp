// Maps from inner products to kernel values: plain data, made by the bindings.
#pragma once

#include "formulas/codes.hpp"

namespace ntkfast {

// Columns of the middle table: two vectors of 64 bytes, of which one instruction takes numbers.
template <class T>
constexpr int kMiddleColumns = kMiddleBytes / sizeof(T);

// A kernel |x|^p |y|^p k(u) compiled to 16 polynomials: 8 pieces in s = sqrt((1-u)/2) for u >= 0
// and 8 in sqrt((1+u)/2) for u < 0. With t = 1 + stretch*s the piece is picked by the exponent and
// the first `sub_bits` mantissa bits of t, and the variable is the distance to its left edge, so
// pieces are uniform in (nearly) log t and no breakpoint is ever looked up.
//     k(u) = scale (base[branch] + s * polynomial),
// so that 1 - k/k(1) keeps its relative accuracy as u -> 1 and both ends are exact.
template <class T>
struct Profile {
    int degree, sub_bits;
    T stretch[2], base[2], scale;
    const T* table;  // [degree + 1][16], highest power first

    // The same k in u itself, or null: pieces 1/rate wide around the multiples j/rate, in column j modulo
    // kMiddleColumns, and the variable is rate u - j. Up to |u| = ends[0] the highest powers have no
    // coefficients down to inner_degree; ends[1] is where it ends.
    const T* middle;  // [middle_degree + 1][kMiddleColumns]
    int middle_degree, inner_degree;
    T middle_rate, ends[2];
};

enum class Radius { kSphere, kEuclidean };

// exp(-c r^gamma) with r the distance of x and y, or of their directions.
template <class T>
struct Radial {
    T c, gamma;
    Radius radius;
};

// The features f(w.x) of random directions w, which stand where the columns of a Gram matrix do. A
// step is 1/2 at 0. A table takes the cosine, w being of unit length: its knots are equidistant on
// [-1, 1], and data row i lies between its rows place[i] and place[i] + 1.
template <class T>
struct Neuron {
    NeuronKind kind;
    const T* table;  // [rows][knots]
    std::int64_t rows, knots;
    const T* place;  // [n], or null for a single row
    T scale;
};

// Numbers per data row that the activation, affine and skip parts of a layer multiply pairwise.
// (static: every object that includes this keeps its own copy; constexpr: nvcc calls these from
// device code too)
static constexpr std::int64_t activation_stats(ActivationKind kind, std::int64_t terms) {
    switch (kind) {
        case ActivationKind::kErf: return 7;
        case ActivationKind::kGelu: return 9;
        case ActivationKind::kSine: return 8;
        case ActivationKind::kExp: return 1;
        case ActivationKind::kGaussian: return 3;
        case ActivationKind::kHermite: return terms + 1;
        default: return 0;
    }
}
static constexpr std::int64_t activation_stats(const LayerRow& layer) {
    return activation_stats(layer.kind, layer.count);
}
// Sequences carry their NTK over the root of variances, so that a smooth activation has one more: the
// root of E[s'^2] q / E[s^2].
static constexpr std::int64_t sequence_stats(const LayerRow& layer) {
    return activation_stats(layer) ? activation_stats(layer) + 1 : 0;
}
static constexpr bool has_gains(const LayerRow& layer) { return layer.x != 0 || layer.y != 0; }
static constexpr std::int64_t affine_stats(const LayerRow& layer) {
    return (layer.e != 0 ? 2 : 0) + (has_gains(layer) ? 3 : 0);
}
static constexpr std::int64_t skip_stats(const LayerRow& layer) {
    return (layer.add >= 0 ? 4 : 0) + (layer.times >= 0 ? 2 : 0);
}

// What the loop over pairs asks of a layer, in its precision: made once per call by layer_constants.
template <class T>
struct LayerConstants {
    ActivationKind activation;
    std::int32_t save, add, times;
    std::int64_t terms;
    T constant[3];            // of the activation
    bool gains, offset;       // whether the NTK, and the NNGP, are more than scaled
    std::int64_t numbers[3];  // of a data row: activation, affine and skip part
};

// All numbers of a data row: those of the layers and the roots of its own NNGP and NTK.
static inline std::int64_t count_stats(const LayerRow* layer, std::int64_t count) {
    std::int64_t total = 2;
    for (std::int64_t l = 0; l < count; ++l)
        total += activation_stats(layer[l]) + affine_stats(layer[l]) + skip_stats(layer[l]);
    return total;
}

// Pairs of rows at angles t from `from` pi to `to` pi after the first affine step, at which
//     K(x, y) = sum_j T_j(z) sum_k s_jk f_jk(x) f_jk(y),     s_jk = 1 or -1,
// with T_j the Chebyshev polynomials and z a polynomial of t / pi, -1 at one end and 1 at the other.
static constexpr int kSectorTerms = 4;  // of z
template <class T>
struct Sector {
    T from, to, z[kSectorTerms];  // highest power first
    std::int64_t powers;          // pairs of them, the highest first: T_2p+1 and T_2p
    const std::int64_t* terms;    // [powers], of either one of a pair
    std::int64_t numbers;         // of a row: 2 sum(terms), of T_2p+1 and T_2p in turn
};

// Where the variance of a row lies: the piece, and z from -1 to 1 within it. Pairs ask for numbers:
// cos a and sin a, the roots of the shares of weights and bias, sin(a/2) and cos(a/2), and 0; or, of a
// row that no sector knows, more than any angle over pi.
static constexpr std::int64_t kSectorPlace = 5;
static constexpr std::int64_t kSectorDegree = 23;  // of functions on a piece, at most
static constexpr std::int64_t kSectorUnit =
    64;  // of the numbers of a row: whole vectors of any kind
template <class T>
struct SectorPlace {
    double z;
    std::int64_t piece;
    T numbers[kSectorPlace];
};

// The kernel of a network by sectors, which adjoin and begin with the narrowest angles; pairs in none
// of them walk along the layers. Functions of rows are sums of Chebyshev polynomials.
template <class T>
struct Sectors {
    const Sector<T>* sector;
    std::int64_t count;
    // [numbers / kSectorUnit][pieces][degree + 1][kSectorUnit]; the first number is the root of K(x, x)
    const T* table;
    std::int64_t pieces, degree, numbers;
    const T* sign;                           // [numbers]
    bool second;                             // the NNGP, not the NTK
    const SectorPlace<T>*place_x, *place_y;  // [n], [m]
};

// Half the logarithmic derivatives of w, e, x and y of a layer; `w` of the last one: of the result.
struct LayerSteps {
    double w, e, x, y;
};

// Per-row numbers of a data point that the pair loop needs (see layer.hpp), written by row_stats.
template <class T>
struct Layers {
    const LayerRow* layer;
    const LayerConstants<T>* rows;  // the same layers, for the loop over pairs
    std::int64_t count;             // layers
    std::int64_t stats;             // numbers per data row
    void (*row_stats)(const Layers& map, T norm, const T* series, std::int64_t stride, T* stats);
    void (*row_rates)(const Layers& map, T norm, const T* series, T* rates);
    T scale[2];  // of the NTK and the NNGP, beside 2^exponent
    int exponent;
    const T* diagonal;             // [n][2], both at pairs of equal inputs, or null
    const T *series_x, *series_y;  // [n][series_stride], [m][series_stride], or null
    std::int64_t series_stride;
    // Derivatives: by what a pair moves, at most kDirections, and how far each layer does; without
    // steps there are two directions, the angle and log |x|.
    std::int64_t directions = 2;
    const LayerSteps* steps = nullptr;    // [directions][count + 1]
    double exact_scale[2] = {1, 1};       // of values at equal inputs, which devices compute
    const Sectors<T>* sectors = nullptr;  // of the one kernel that is asked for
};

// Numbers per data row that row_rates writes.
template <class T>
static constexpr std::int64_t count_rates(const Layers<T>& map) {
    return map.count * (kRates + kMoves * map.directions) + 2 * map.directions;
}

}  // namespace ntkfast
