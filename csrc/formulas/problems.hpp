// What engines are asked to do: plain data, from the bindings to the loops of either engine.
#pragma once

#include <cstddef>
#include <type_traits>

#include "formulas/flag.hpp"
#include "formulas/maps.hpp"

namespace ntkfast {

// A Gram computation: out[n][m] = K(x[n][d], y[m][d]), or product[n][columns] = K v.
template <class T>
struct Problem {
    const T *x, *y;
    std::int64_t ldx, ldy, n, m, d;
    const T *norm_x, *norm_y, *inverse_x, *inverse_y;  // inverse of a zero norm: 0
    const T *factor_x, *factor_y;                      // the result is scaled by both:
    double power;                                      // that of the norms, which devices take
    bool symmetric;                                    // y is x: compute j >= i alone

    const Profile<T>* profile[2];  // exactly one of profile[0], layers, radial and neuron is set
    const Layers<T>* layers;
    const Radial<T>* radial;
    const Neuron<T>* neuron;
    T refine_below[2];  // recompute a pair whose (1-|u|)/2 is below this (u >= 0, u < 0)

    T* out[2];  // profile 0 and 1; NTK and NNGP of layers; neurons w and -w; may be null
    std::int64_t ldo[2];
    bool streams;  // past the caches

    Kept kept;       // if not all, out[use_second] is rounded to these and goes here,
    void* rounded;   // [n][ldo[0]]
    Flag* infinite;  // set where one was too large

    const T* v;  // matmul
    std::int64_t ldv, columns;
    const T* u;  // [n][columns]: the product of the transpose, too; v itself if symmetric
    std::int64_t ldu;
    bool use_second;  // layers: multiply or round the NNGP, not the NTK
    T* product;
    std::int64_t ldp;
    std::int64_t block;  // with u: rows and columns of a task, whole units (see turns.hpp)
    std::int64_t rows;   // without v: of a task, whole tiles

    const Flag* cancelled;
};
constexpr int kProductUnit = 384;
constexpr std::int64_t kTaskRows = 1536;  // at most: tasks of a block of columns share its packing

// Gradients by the rows of x: out[i] = sum_j V_ij dK(x_i, y_j)/dx_i, where V is a matrix or left right^T;
// or, with dx, out[i][j] = dK(x_i, y_j)/dx_i . dx_i. If the layers have steps, of what they move of x_i
// instead: sums[i][direction], or out[i][j] in the one direction.
template <class T>
struct Gradient {
    Problem<T> pairs;    // profile[1], if there are profiles, is the derivative by the angle
    double degree;       // of homogeneity in x, of profiles and radial kernels of directions
    const T* outer_x;    // |x|^outer_power, but outer_at_zero where the inverse norm is 0;
    double outer_power;  // from these devices make it
    T outer_at_zero;
    const T *v, *turned;  // V is the sum of [n][m] and the transpose of [m][n]; either may be null
    std::int64_t ldv, ld_turned;
    const T *left, *right;
    std::int64_t ld_left, ld_right, rank;
    const T* dx;
    std::int64_t ld_dx;
    T tiny;  // a norm that stands for 0 in layers, which have a derivative there
    T* out;
    std::int64_t ldo;
    double* sums;       // [n][directions], or null
    std::int64_t rows;  // of a task
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

struct Level {                  // images before a step, or after the last
    std::int64_t h, w, offset;  // pixels of all levels before
    std::int64_t reach[2];      // largest displacements of pixel pairs that the read-out needs,
    std::int64_t own[2];        // those that the variances after a pool need, or -1: none,
    std::int64_t scale[2];      // in units of these
    std::int64_t numbers;       // of the activations before
};

// What the steps that are activations ask of the host (see host/pixel_numbers.hpp): their constants,
// one row per step, and the numbers of `count` pixels, from their deviations to those after it.
template <class T>
struct ImageActivations {
    const LayerConstants<T>* constants;
    void (*numbers)(const ImageStep& step, const T* norm, T* after, T* numbers, std::int64_t count);
};

struct ImageNet {
    const ImageStep* step;
    std::int64_t count;
    const Level* level;  // [count + 1]
    std::int64_t channels;
    bool circular;
    const double *weight_h, *weight_w;  // [h][h], [w][w]: the read-out sums S and T with both
    double trained, bias;  // NTK = sum(T) + trained (sum(S) + bias), NNGP = sum(S) + bias
    ImageActivations<float> f32;
    ImageActivations<double> f64;
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
    const Flag* cancelled;
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
    LayerConstants<T> activation;  // without its affine step
    std::int64_t layers, fixed, channels, fields, directions;
    bool every;         // the read-out takes all steps, not the last alone
    bool nngp;          // without the derivative part
    bool symmetric;     // y is x
    const T* diagonal;  // [n], by length; used if symmetric
    T* out;
    std::int64_t stride_row, stride_column;
    const Flag* cancelled;
};

}  // namespace ntkfast
