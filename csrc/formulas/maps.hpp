// What the tile loop is asked to do: plain data shared by the bindings and every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ntkfast {

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
};

enum class Radius { kSphere, kEuclidean };

// exp(-c r^gamma) with r the distance of x and y, or of their directions.
template <class T>
struct Radial {
    T c, gamma;
    Radius radius;
};

enum class NeuronKind : std::int32_t { kRelu, kStep, kTable };

// The features f(w.x) of random directions w, which stand where the columns of a Gram matrix do. A
// step is 1/2 at 0. A table takes the cosine, w being of unit length: its knots are equidistant on
// [-1, 1], and data row i lies between its rows place[i] and place[i] + 1.
template <class T>
struct Neuron {
    NeuronKind kind;
    const T* table;  // [rows][knots]
    std::int64_t knots;
    const T* place;  // [n], or null for a single row
    T scale;
};

// One layer of a dense network acting on a pair, in absolute terms: first the state (c, t) =
// (NNGP, NTK) may be saved to a slot; then (c, t) <- (K(c), K'(c) t) with the dual K of the
// activation; then (c, t) <- (w c + e, w t + x c + y); then a slot may be added.
enum class Activation : std::int32_t {
    kIdentity,
    kRelu,  // A kappa1 + B u
    kStep,  // alpha + beta (1 - 2 t/pi)
    kErf,   // a erf(b x) + c
    kGelu,
    kSine,         // a sin(b x + phase); the third parameter is cos(2 phase)
    kExponential,  // a exp(b x)
    kGaussian,     // a exp(b x^2)
    kSeries,       // Hermite coefficients given per data row
};

struct Layer {
    Activation activation;
    std::int32_t save, add;  // slot, or -1
    double parameter[3];
    double w, e, x, y;
    std::int64_t series, terms;  // kSeries: offset and number of the coefficients of a data row
};

constexpr int kSlots = 4;

// Numbers per data row that the activation, affine and skip parts of a layer multiply pairwise.
// (static: every object that includes this keeps its own copy; constexpr: nvcc calls these from
// device code too)
static constexpr std::int64_t activation_stats(const Layer& layer) {
    switch (layer.activation) {
        case Activation::kErf:
        case Activation::kGaussian: return 3;
        case Activation::kSine: return 2;
        case Activation::kGelu: return 5;
        case Activation::kExponential: return 1;
        case Activation::kSeries: return layer.terms;
        default: return 0;
    }
}
static constexpr bool has_offset(const Layer& layer) { return layer.e != 0 || layer.y != 0; }
static constexpr std::int64_t affine_stats(const Layer& layer) { return has_offset(layer) ? 4 : 0; }
static constexpr std::int64_t skip_stats(const Layer& layer) { return layer.add >= 0 ? 4 : 0; }

// What the loop over pairs asks of a layer, in its precision: made once per call by layer_row.
template <class T>
struct LayerRow {
    Activation activation;
    std::int32_t save, add;
    std::int64_t terms;
    T constant[3];            // of the activation
    T x, y;                   // t gains x c, and y; c before its scaling by w
    bool offset, balanced;    // has an offset; but c has none: co scales as it is
    std::int64_t numbers[3];  // of a data row: activation, affine and skip part
};

// All numbers of a data row: those of the layers and the root of the final variance.
static inline std::int64_t count_stats(const Layer* layer, std::int64_t count) {
    std::int64_t total = 1;
    for (std::int64_t l = 0; l < count; ++l)
        total += activation_stats(layer[l]) + affine_stats(layer[l]) + skip_stats(layer[l]);
    return total;
}

// Per-row numbers of a data point that the pair loop needs (see layer.hpp), written by row_stats.
template <class T>
struct Layers {
    const Layer* layer;
    const LayerRow<T>* rows;  // the same layers, for the loop over pairs
    std::int64_t count;       // layers
    std::int64_t stats;       // numbers per data row
    void (*row_stats)(const Layers& map, T norm, const T* series, std::int64_t stride, T* stats);
    T scale[2];                    // of the NTK and the NNGP
    const T* diagonal;             // [n][2], both at pairs of equal inputs, or null
    const T *series_x, *series_y;  // [n][series_stride], [m][series_stride], or null
    std::int64_t series_stride;
};

// A Gram computation: out[n][m] = K(x[n][d], y[m][d]), or product[n][columns] = K v.
template <class T>
struct Problem {
    const T *x, *y;
    std::int64_t ldx, ldy, n, m, d;
    const T *norm_x, *norm_y, *inverse_x, *inverse_y;  // inverse of a zero norm: 0
    const T *factor_x, *factor_y;                      // the result is scaled by both
    bool symmetric;                                    // y is x: compute j >= i and mirror

    const Profile<T>* profile[2];  // exactly one of profile[0], layers, radial and neuron is set
    const Layers<T>* layers;
    const Radial<T>* radial;
    const Neuron<T>* neuron;
    T refine_below[2];  // recompute a pair whose (1-|u|)/2 is below this (u >= 0, u < 0)

    T* out[2];  // profile 0 and 1; NTK and NNGP of layers; neurons w and -w; may be null
    std::int64_t ldo[2];

    const T* v;  // matmul
    std::int64_t ldv, columns;
    bool use_second;  // layers: multiply the NNGP, not the NTK
    T* product;
    std::int64_t ldp;

    const volatile int* cancelled;
};

// Walsh-Hadamard transforms of rows: out[n][width] = scale H diag(signs) x, H in natural order.
template <class T>
struct Hadamard {
    const T* x;  // may be `out`, with equal strides
    T* out;
    std::int64_t ldx, ldo, n, width;  // width: a power of two
    const T* signs;                   // one per column, or null
    T scale;
};

// Integers as long as a number, so that as many fit into a vector.
template <class T>
using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

// One factor of a sketch: coordinates `index` of H diag(signs) x, x with zeros up to `size`.
template <class T>
struct Rotation {
    const T* x;
    std::int64_t ld, dim;  // ld = 0: one row stands for all
    const T* signs;        // [dim]
    std::int64_t size;     // a power of two, at least dim
    const Index<T>* index;
    bool step;  // of 1{x > 0} instead of x
};

// Sketches of rows: out[n][m] = scale times the first rotation, or the product of both.
template <class T>
struct Sketch {
    Rotation<T> factor[2];
    bool product;
    T* out;
    std::int64_t ldo, n, m;
    T scale;
};

// Structured neurons: f(length (H D3 H D2 H D1 x)_j), block by block, H with H^T H = 1.
enum class Answer : std::int32_t { kProduct, kRelu, kStep };

template <class T>
struct Structured {
    const T* x;
    T* out;
    std::int64_t ldx, ldo, n, dim, count;  // count: columns of out
    const T* flips;                        // [blocks][3][size], signs
    const T* lengths;                      // [blocks][size]
    std::int64_t size;                     // a power of two, at least dim
    Answer answer;
    T scale;
};

// ---- images -------------------------------------------------------------------------------------

// One step of a convolutional network on the covariances of pixel pairs. A convolution sums over
// windows of `size` x `size` pixels: (S, T) <- (gain S + bias, gain T + trained S); ReLU applies the
// dual; a pool averages over blocks of `size` x `size`; save and add are the ends of a skip.
enum class ImageOp : std::int32_t { kConv, kRelu, kPool, kSave, kAdd };

struct ImageStep {
    ImageOp op;
    std::int32_t size, slot;
    bool valid;  // a convolution whose windows stay inside
    double gain, bias, trained;
};

struct ImageLevel {             // images before a step, or after the last
    std::int64_t h, w, offset;  // pixels of all levels before
    std::int64_t reach[2];      // largest displacements of pixel pairs that the read-out needs
    std::int64_t self[2];       // those that the variances after a pool need, or -1: none
};

struct ImageNet {
    const ImageStep* step;
    std::int64_t count;
    const ImageLevel* level;  // [count + 1]
    std::int64_t channels;
    bool circular;
    const double *weight_h, *weight_w;  // [h][h], [w][w]: the read-out sums S and T with both
    double trained, bias;  // NTK = sum(T) + trained (sum(S) + bias), NNGP = sum(S) + bias
};

// out[n][m] = K(x[n], y[m]) of images [h][w][channels]; or of x[i] and x[i] if out has one column.
template <class T>
struct Images {
    ImageNet net;
    const T *x, *y;
    std::int64_t ldx, ldy, n, m;
    const T *scale_x, *scale_y;    // images are multiplied by these when they are read,
    const T *factor_x, *factor_y;  // and the results by these
    bool symmetric, diagonal;
    T* out[2];  // NTK and NNGP, may be null
    std::int64_t ldo[2];
    std::int64_t rows;  // images of x per task, at most a vector
    const volatile int* cancelled;
};

// Kernels of recurrent networks: pairs of sequences aligned at their ends, numbered from the end.
//
// Step k of sequence i has the numbers numbers[first[i] + k][fields]: per layer the shares of its
// variance that come from the step before, from the bias and from below (of the first layer one
// signed number per channel), and what the activation asks for; last the factor of the read-out.
constexpr int kSequenceBlock = 64;  // rows and columns of a task

template <class T>
struct SequenceSide {
    const T* numbers[2];                         // one per direction
    const std::int64_t *first, *length, *place;  // by length; `place` is the row of the result
    std::int64_t count;
};

template <class T>
struct Sequences {
    SequenceSide<T> x, y;
    LayerRow<T> activation;  // without its affine step
    std::int64_t layers, fixed, channels, fields, directions;
    bool every;         // the read-out takes all steps, not the last alone
    bool nngp;          // without the derivative part
    bool symmetric;     // y is x
    const T* diagonal;  // [n], by length; used if symmetric
    T* out;
    std::int64_t stride_row, stride_column;
    const volatile int* cancelled;
};

// One instruction set's code.
template <class T>
struct Tiles {
    std::int64_t (*tasks)(const Problem<T>&);
    std::int64_t (*scratch)(const Problem<T>&);  // elements of T needed by one thread
    void (*run)(const Problem<T>&, std::int64_t task, T* scratch, std::int64_t* packed);
    void (*hadamard)(const Hadamard<T>&, std::int64_t begin, std::int64_t end);  // of the rows
    // scratch: as many elements as both sizes together
    void (*sketch)(const Sketch<T>&, std::int64_t begin, std::int64_t end, T* scratch);
    // scratch: `size` elements
    void (*structured)(const Structured<T>&, std::int64_t begin, std::int64_t end, T* scratch);
    std::int64_t image_rows;                          // images of x per task, at most
    std::int64_t (*image_columns)(const Images<T>&);  // images of y per task
    std::int64_t (*image_scratch)(const Images<T>&);
    void (*image)(const Images<T>&, std::int64_t task, T* scratch, std::int64_t* packed);
    std::int64_t (*sequence_scratch)(const Sequences<T>&);
    void (*sequences)(const Sequences<T>&, std::int64_t task, T* scratch, std::int64_t* packed);
};

struct InstructionSet {
    Tiles<float> f32;
    Tiles<double> f64;
};

}  // namespace ntkfast
