// Walsh-Hadamard transforms, sketches and structured neurons on a device.
//
// The stages of up to kPiece neighbouring entries run in shared memory, eight entries per thread in
// registers; those of longer rows follow by passes over the memory of the device, eight rows of
// neighbouring threads at a time. Stages are taken in the order of the CPU, so that the results
// have the same bits. Sketches and structured neurons are transforms between passes of their own.
#include "formulas/hadamard.hpp"

#include <memory>

#include "cuda/device.hpp"
#include "cuda/run.hpp"

namespace {

template <class T>
constexpr int64_t kPiece = 32768 / sizeof(T);  // entries of a block: with padding below 48 kB

// Entries in shared memory, one left out in 33: strides of powers of two then meet all banks.
template <class T>
struct Padded {
    T* data;
    NTK_FN T& operator[](int64_t k) const { return data[k + (k >> 5)]; }
};

// A transform of rows: scale H diag(signs) x; row i has the signs number i % sign_rows.
template <class T>
struct Transform {
    const T* x;
    T* out;
    int64_t ldx, ldo, n, width;
    const T* signs;
    int64_t sign_rows, sign_stride;
    T scale;
};

template <class T, int R>
NTK_DEVICE void shared_stages(const Padded<T>& data, int64_t entries, int64_t piece) {
    for (int64_t g = thread(); g < entries / R; g += threads()) {
        const int64_t first = g / piece * piece * R + g % piece;
        T v[R];
        for (int r = 0; r < R; ++r) v[r] = data[first + r * piece];
        vector_stages<T, R>(v);
        for (int r = 0; r < R; ++r) data[first + r * piece] = v[r];
    }
    barrier();
}

// All stages of pieces of `width` entries of a row or of whole rows.
template <class T>
NTK_KERNEL transform_pieces(Transform<T> p) {
    const Padded<T> data{shared_memory<T>()};
    const int64_t width = smaller(p.width, kPiece<T>), total = p.n * p.width;
    for (int64_t first = block() * kPiece<T>; first < total; first += blocks() * kPiece<T>) {
        const int64_t entries = smaller(kPiece<T>, total - first);
        for (int64_t k = thread(); k < entries; k += threads()) {
            const int64_t i = (first + k) / p.width, j = (first + k) % p.width;
            const T x = p.x[i * p.ldx + j];
            data[k] = p.signs ? x * p.signs[i % p.sign_rows * p.sign_stride + j] : x;
        }
        barrier();
        for (int64_t piece = 1; piece < width;) {
            const int64_t radix = next_radix(width / piece);
            if (radix == 8)
                shared_stages<T, 8>(data, entries, piece);
            else if (radix == 4)
                shared_stages<T, 4>(data, entries, piece);
            else
                shared_stages<T, 2>(data, entries, piece);
            piece *= radix;
        }
        const T scale = width == p.width ? p.scale : T(1);
        for (int64_t k = thread(); k < entries; k += threads())
            p.out[(first + k) / p.width * p.ldo + (first + k) % p.width] = data[k] * scale;
        barrier();
    }
}

template <class T>
struct Pass {  // combines pieces of rows
    T* out;
    int64_t ldo, n, width, piece;
    T scale;
};

template <class T, int R>
NTK_KERNEL transform_pass(Pass<T> p) {
    const int64_t groups = p.width / R;
    for (int64_t g = first_element(); g < p.n * groups; g += element_step()) {
        const int64_t k = g % groups;
        T* const at = p.out + g / groups * p.ldo + k / p.piece * p.piece * R + k % p.piece;
        T v[R];
        for (int r = 0; r < R; ++r) v[r] = at[r * p.piece];
        vector_stages<T, R>(v);
        for (int r = 0; r < R; ++r) at[r * p.piece] = v[r] * p.scale;
    }
}

// With arrays in memory of the device.
template <class T>
void transform(const Device& device, const Transform<T>& p) {
    const int64_t pieces = (p.n * p.width + kPiece<T> - 1) / kPiece<T>, most = 1 << 20;
    const auto shared = static_cast<std::size_t>(kPiece<T> + kPiece<T> / 32) * sizeof(T);
    launch(device, transform_pieces<T>, smaller(pieces, most), kThreads, shared, p);
    for (int64_t piece = kPiece<T>; piece < p.width;) {
        const int64_t left = p.width / piece, radix = next_radix(left);
        const Pass<T> pass{p.out, p.ldo, p.n, p.width, piece, radix == left ? p.scale : T(1)};
        const int64_t groups = p.n * p.width / radix;
        if (radix == 8)
            launch_over(device, transform_pass<T, 8>, groups, pass);
        else if (radix == 4)
            launch_over(device, transform_pass<T, 4>, groups, pass);
        else
            launch_over(device, transform_pass<T, 2>, groups, pass);
        piece *= radix;
    }
}

// Calls work(first, rows) for parts of n rows that together need `numbers` each.
template <class Work>
void by_chunks(int64_t n, int64_t numbers, const Poll& poll, Work work) {
    const int64_t rows = larger(1, chunk_numbers() / larger(1, numbers));
    for (int64_t first = 0; first < n; first += rows) {
        poll();
        work(first, smaller(rows, n - first));
    }
}

template <class T>
void run_hadamard(const Hadamard<T>& p, const Device& device, const Poll& poll) {
    Numbers<T> signs;
    if (p.signs) signs = Numbers<T>(device, p.signs, p.width);
    if (on_device(p.x))  // then `out` is there too
        return transform<T>(device,
                            {p.x, p.out, p.ldx, p.ldo, p.n, p.width, signs.get(), 1, 0, p.scale});
    by_chunks(p.n, p.width, poll, [&](int64_t first, int64_t rows) {
        const auto data = dense_copy(device, p.x + first * p.ldx, p.ldx, rows, p.width);
        transform<T>(device, {data.get(), data.get(), p.width, p.width, rows, p.width, signs.get(),
                              1, 0, p.scale});
        copy_matrix(device, p.out + first * p.ldo, p.ldo, data.get(), p.width, rows, p.width);
    });
}

// ---- sketches -----------------------------------------------------------------------------------

template <class T>
struct Fill {  // to[rows * repeats][size] = x diag(signs), filled up with zeros
    const T* x;
    T* to;
    int64_t rows, repeats, dim, size;
    const T* signs;  // [repeats][sign_stride]
    int64_t sign_stride;
    bool step;
};

template <class T>
NTK_KERNEL fill_up(Fill<T> p) {
    for (int64_t at = first_element(); at < p.rows * p.repeats * p.size; at += element_step()) {
        const int64_t k = at % p.size, row = at / p.size;
        T value = 0;
        if (k < p.dim) {
            const T x = p.x[row / p.repeats * p.dim + k];
            const T sign = p.signs[row % p.repeats * p.sign_stride + k];
            value = p.step ? (x > 0 ? sign : T(0)) : x * sign;
        }
        p.to[at] = value;
    }
}

template <class T>
struct Picked {
    const T *left, *right;  // right: null for one factor
    int64_t left_ld, right_ld;
    const ntkfast::Index<T>*left_index, *right_index;
    T* out;
    int64_t n, m;
    T scale;
};

template <class T>
NTK_KERNEL pick(Picked<T> p) {
    for (int64_t at = first_element(); at < p.n * p.m; at += element_step()) {
        const int64_t i = at / p.m, j = at % p.m;
        const T a = p.left[i * p.left_ld + p.left_index[j]];
        p.out[at] =
            p.right ? a * p.right[i * p.right_ld + p.right_index[j]] * p.scale : a * p.scale;
    }
}

// What a factor of a sketch keeps on the device.
template <class T>
struct RotationOnDevice {
    const Device& device;
    const Rotation<T>& rotation;
    Numbers<T> signs, rotated;
    Numbers<ntkfast::Index<T>> index;
    int64_t ld;

    RotationOnDevice(const Device& on, const Rotation<T>& r, int64_t m)
        : device(on),
          rotation(r),
          signs(on, r.signs, r.dim),
          index(on, r.index, m),
          ld(r.ld ? r.size : 0) {
        if (!r.ld) rotate(0, 1);
    }

    void rotate(int64_t first, int64_t rows) {
        const Rotation<T>& r = rotation;
        const auto x = dense_copy(device, r.x + first * r.ld, r.ld, rows, r.dim);
        rotated = Numbers<T>(device, rows * r.size);
        launch_over(
            device, fill_up<T>, rows * r.size,
            Fill<T>{x.get(), rotated.get(), rows, 1, r.dim, r.size, signs.get(), 0, r.step});
        transform<T>(device, {rotated.get(), rotated.get(), r.size, r.size, rows, r.size, nullptr,
                              1, 0, T(1)});
    }
};

template <class T>
void run_sketch(const Sketch<T>& p, const Device& device, const Poll& poll) {
    RotationOnDevice<T> left(device, p.factor[0], p.m);
    std::unique_ptr<RotationOnDevice<T>> right;
    if (p.product) right = std::make_unique<RotationOnDevice<T>>(device, p.factor[1], p.m);
    const int64_t size = p.factor[0].size + (p.product ? p.factor[1].size : 0);
    by_chunks(p.n, size + p.m, poll, [&](int64_t first, int64_t rows) {
        if (left.ld) left.rotate(first, rows);
        if (right && right->ld) right->rotate(first, rows);
        const Numbers<T> out(device, rows * p.m);
        launch_over(device, pick<T>, rows * p.m,
                    Picked<T>{left.rotated.get(), right ? right->rotated.get() : nullptr, left.ld,
                              right ? right->ld : 0, left.index.get(),
                              right ? right->index.get() : nullptr, out.get(), rows, p.m, p.scale});
        copy_matrix(device, p.out + first * p.ldo, p.ldo, out.get(), p.m, rows, p.m);
    });
}

// ---- structured neurons -------------------------------------------------------------------------

template <class T>
struct Answers {
    const T *v, *lengths;  // [n][blocks * size], [blocks * size]
    T* out;
    int64_t n, count, ld;
    ntkfast::Answer kind;
    T scale;
};

template <class T>
NTK_KERNEL answers(Answers<T> p) {
    for (int64_t at = first_element(); at < p.n * p.count; at += element_step()) {
        const int64_t i = at / p.count, j = at % p.count;
        p.out[at] = answer_of<T>(p.v[i * p.ld + j], p.lengths[j], p.kind, p.scale);
    }
}

template <class T>
void run_structured(const Structured<T>& p, const Device& device, const Poll& poll) {
    const int64_t blocks = (p.count + p.size - 1) / p.size, ld = blocks * p.size;
    const Numbers<T> flips(device, p.flips, 3 * ld), lengths(device, p.lengths, ld);
    const T unit = T(1) / root(static_cast<T>(p.size));
    by_chunks(p.n, ld + p.count + p.dim, poll, [&](int64_t first, int64_t rows) {
        const auto x = dense_copy(device, p.x + first * p.ldx, p.ldx, rows, p.dim);
        const Numbers<T> v(device, rows * ld), out(device, rows * p.count);
        launch_over(
            device, fill_up<T>, rows * ld,
            Fill<T>{x.get(), v.get(), rows, blocks, p.dim, p.size, flips.get(), 3 * p.size, false});
        for (int k = 0; k < 3; ++k)  // the first signs are in already
            transform<T>(device,
                         {v.get(), v.get(), p.size, p.size, rows * blocks, p.size,
                          k ? flips.get() + k * p.size : nullptr, blocks, 3 * p.size, unit});
        launch_over(
            device, answers<T>, rows * p.count,
            Answers<T>{v.get(), lengths.get(), out.get(), rows, p.count, ld, p.answer, p.scale});
        copy_matrix(device, p.out + first * p.ldo, p.ldo, out.get(), p.count, rows, p.count);
    });
}

}  // namespace

namespace ntkfast {

void run_on_device(const Hadamard<float>& p, const Device& device, const Poll& poll) {
    run_hadamard(p, device, poll);
}
void run_on_device(const Hadamard<double>& p, const Device& device, const Poll& poll) {
    run_hadamard(p, device, poll);
}
void run_on_device(const Sketch<float>& p, const Device& device, const Poll& poll) {
    run_sketch(p, device, poll);
}
void run_on_device(const Sketch<double>& p, const Device& device, const Poll& poll) {
    run_sketch(p, device, poll);
}
void run_on_device(const Structured<float>& p, const Device& device, const Poll& poll) {
    run_structured(p, device, poll);
}
void run_on_device(const Structured<double>& p, const Device& device, const Poll& poll) {
    run_structured(p, device, poll);
}

}  // namespace ntkfast
