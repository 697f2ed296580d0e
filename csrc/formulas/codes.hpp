// Codes, records and limits that Python knows too: python/ntkfast/engines/codes.py is their other end.
//
// bind/codes.cpp shows them to Python, where a test holds both together. Records come as structured
// arrays, whose fields have the names below.
#pragma once

#include <cstdint>

namespace ntkfast {

constexpr int kSlots = 4;          // states of a network that are saved at once
constexpr int kRates = 2;          // numbers of a data row per layer that derivatives take,
constexpr int kMoves = 8;          // and per layer and direction: see row_rates.hpp
constexpr int kDirections = 8;     // in which layers are differentiated at once
constexpr int kPieces = 8;         // of a profile, on either side of the right angle
constexpr int kMiddleBytes = 128;  // of a row of its middle table

// Pairs are recomputed from their differences where (1 - |cos|)/2 is below these: of layer maps, which
// amplify small angles, and of radial kernels of directions. A profile brings its own limits.
constexpr double kRefineLayers = 0.02, kRefineSphere = 0.005;
// And where the squared distance of two inputs is below this share of their squared norms.
constexpr double kRefineDistance = 0.02;
// Gradients take the tangents of closer pairs from their differences: less than kRefineDistance.
constexpr double kNearTangent = 0.01;

enum class NeuronKind : std::int32_t { kRelu, kStep, kTable };

// What a Gram matrix is rounded to: itself, or numbers of fewer bytes.
enum class Kept : std::int32_t { kAll, kSingle, kHalf, kBrain };

enum class Answer : std::int32_t { kProduct, kRelu, kStep };  // of structured neurons

enum class ActivationKind : std::int32_t {
    kIdentity,
    kRelu,  // A kappa1 + B u
    kStep,  // alpha + beta (1 - 2 t/pi)
    kErf,   // a erf(b x) + c
    kGelu,
    kSine,      // a sin(b x + phase); the third parameter is cos(2 phase)
    kExp,       // a exp(b x)
    kGaussian,  // a exp(b x^2)
    kHermite,   // Hermite coefficients given per data row
    kDropout,   // a is the share that is kept: variances grow to q / a, covariances stay
};

// One layer of a dense network acting on a pair, in absolute terms: first the state (c, t) =
// (NNGP, NTK) may be saved to a slot; then (c, t) <- (K(c), K'(c) t) with the dual K of the
// activation; then (c, t) <- (w c + e, w t + x c + y); then a slot may be added. Of kHermite each data
// row has `count` coefficients of the function over the root of its variance, then the roots of E[s^2] and
// E[s'^2], which do not vanish in float as these do.
struct LayerRow {
    ActivationKind kind;
    std::int32_t save, add, times;  // slots, or -1: one to save to, to add, to multiply by
    double parameter[3];            // of the activation
    double w, e, x, y;
    std::int64_t offset, count;  // kHermite: place and number of the coefficients
};

enum class ImageOperation : std::int32_t {
    kConv,
    kRelu,
    kPool,
    kSave,  // the start of a branch
    kAdd,   // its end
    kSwap,  // where the branch ends and the shortcut begins: both change places
    kActivate,
    kNormalize,
    kMultiply,  // the end of a branch whose factor waits
};

// One step of a convolutional network on the covariances of pixel pairs. A convolution sums over
// windows of `window` pixels, which begin at i stride - before: (S, T) <- (gain S + bias, gain T +
// trained S); a pool sums over pairs of pixels of two windows, times gain; ReLU and other activations
// apply their dual; normalisation divides by the roots of the variances of both pixels, or of their
// means over both images if it is `whole`. Of rows and columns, in this order.
struct ImageStep {
    ImageOperation operation;
    std::int32_t slot, window[2], stride[2], before[2];
    ActivationKind kind;
    bool whole;
    double parameter[3], gain, bias, trained;
};

// Images before a step, or after the last: pixels; the displacements of pixel pairs are multiples of
// `scale`, the strides of all convolutions up to the next pool; the largest multiples that the
// read-out needs, and those that the variances after a pool need, or -1: none.
struct ImageLevel {
    std::int64_t height, width, reach_h, reach_w, own_h, own_w, scale_h, scale_w;
};

}  // namespace ntkfast
