// The maps of Gram matrices on a device, lean where they are simple: four neighbouring pairs of a
// row at a time.
//
// A profile costs as many instructions as a product of 60 columns; what a tile's rows and columns
// have in common is therefore taken once per tile, and the table of the profile lies in shared
// memory. Pairs that are too close for their cosine are recomputed by the whole warp, one after the
// other.
#pragma once

#include "cuda/gram_tiles.hpp"
#include "cuda/warp.hpp"

namespace {

constexpr int kTogether = 4;  // neighbouring columns that a thread maps at once

template <class T>
struct alignas(16) Four {
    T at[kTogether];
};

// Operations that nvcc makes one instruction of; a root may be off by its last bit in float32.
#if defined(__CUDA_ARCH__)
NTK_DEVICE float quick_root(float a) {
    float root;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(a));
    return root;
}
NTK_DEVICE double quick_root(double a) { return sqrt(a); }
NTK_DEVICE float magnitude(float a) { return fabsf(a); }
NTK_DEVICE double magnitude(double a) { return fabs(a); }
NTK_DEVICE float positive(float a) { return fmaxf(a, 0.0f); }
NTK_DEVICE double positive(double a) { return a > 0.0 ? a : 0.0; }
#else
template <class T>
T quick_root(T a) {
    return root(a);
}
template <class T>
T magnitude(T a) {
    return abs2(a);
}
template <class T>
T positive(T a) {
    return max2(a, T(0));
}
#endif

// What pairs of a row have in common. A pair is close if its (1-|u|)/2 is below `limit` (u >= 0, u
// < 0); all pairs of a row of zeros count as that.
template <class T>
struct alignas(16) RowNumbers {
    T inverse, factor, limit[2];
};
template <class T>
NTK_DEVICE RowNumbers<T> row_numbers(const Problem<T>& p, int64_t i) {
    const T inverse = p.inverse_x[i];
    if (inverse == T(0)) return {inverse, p.factor_x[i], {T(2), T(2)}};
    return {inverse, p.factor_x[i], {p.refine_below[0], p.refine_below[1]}};
}

// Four pairs (i, j + k), of which the first `count` are wanted.
struct Pairs4 {
    int64_t i, j;
    int count;
};

// sin^2 of half the angle of x_i and y_j, or of x_i and -y_j, by the lanes of a warp.
template <class T>
NTK_DEVICE T half_angle_of_warp(const Problem<T>& p, int64_t i, int64_t j, bool back) {
    const T *const x = p.x + i * p.ldx, *const y = p.y + j * p.ldy;
    const T norm = p.norm_x[i], inverse = 1 / norm, ratio = norm / p.norm_y[j];
    Apart<T> own{0, 0};
    NTK_UNROLL(1)
    for (int64_t k = thread() % kWarp; k < p.d; k += kWarp) {
        const T difference = minus_product(x[k], back ? -ratio : ratio, y[k]) * inverse;
        own.total += difference * difference;
        own.radial += difference * (x[k] * inverse);
    }
    return half_angle<T>({sum_of_warp(own.total), sum_of_warp(own.radial)});
}

// Recomputes those of four pairs that are close. All lanes of a warp take part.
template <class T>
NTK_DEVICE void refine(const Problem<T>& p, const RowNumbers<T>& row, const Pairs4& pairs,
                       T (&u)[kTogether], T (&v)[kTogether]) {
    const bool zeros = pairs.count > 0 && row.inverse == T(0) && p.norm_x[pairs.i] == T(0);
    int close = 0, back = 0;  // a bit for each pair
    NTK_UNROLL()
    for (int k = 0; k < kTogether; ++k) {
        if (k >= pairs.count || !(v[k] < (u[k] < T(0) ? row.limit[1] : row.limit[0]))) continue;
        if (zeros) {  // equal to other rows of zeros, orthogonal to everything else
            u[k] = p.norm_y[pairs.j + k] == T(0) ? T(1) : T(0);
            v[k] = T(0.5) - T(0.5) * u[k];
        } else if (p.symmetric && pairs.i == pairs.j + k) {
            v[k] = 0;
        } else {
            close |= 1 << k, back |= (u[k] < T(0)) << k;
        }
    }
    NTK_UNROLL(1)
    for (int pair = 0; pair < kTogether; ++pair)
        for (std::uint32_t lanes = votes_of_warp(close >> pair & 1); lanes; lanes &= lanes - 1) {
            const int owner = lowest_bit(lanes);
            const T found =
                half_angle_of_warp(p, of_lane(pairs.i, owner), of_lane(pairs.j, owner) + pair,
                                   of_lane(back, owner) >> pair & 1);
            NTK_UNROLL()
            for (int k = 0; k < kTogether; ++k)
                if (k == pair && thread() % kWarp == owner) v[k] = found;
        }
}

// u and (1-|u|)/2 of four pairs, which hold products with columns of unit length.
template <class T>
NTK_DEVICE void half_angles(const Problem<T>& p, const RowNumbers<T>& row, const Pairs4& pairs,
                            const Four<T>& products, T (&u)[kTogether], T (&v)[kTogether]) {
    const T limit = max2(row.limit[0], row.limit[1]);  // refine looks closer
    bool close = false;
    NTK_UNROLL()
    for (int k = 0; k < kTogether; ++k) {
        u[k] = products.at[k] * row.inverse;
        v[k] = positive(T(0.5) - T(0.5) * magnitude(u[k]));
        close = close || v[k] < limit;
    }
    if (votes_of_warp(close && pairs.count > 0)) refine(p, row, pairs, u, v);
}

// ---- profiles -----------------------------------------------------------------------------------

// The table of a profile as quads of coefficients, [quad][piece], with zeros before the highest
// power.
template <class T>
NTK_BOTH int quads_of(const Profile<T>& profile) {
    return (profile.degree + Quad<T>::kSize) / Quad<T>::kSize;
}
template <class T>
NTK_DEVICE void stage_table(const Profile<T>& profile, Quad<T>* to) {
    constexpr int kSize = Quad<T>::kSize;
    const int quads = quads_of(profile), zeros = quads * kSize - (profile.degree + 1);
    for (int e = thread(); e < quads * kSize * 2 * kPieces; e += kThreads) {
        const int piece = e % (2 * kPieces), power = e / (2 * kPieces);
        to[power / kSize * 2 * kPieces + piece].at[power % kSize] =
            power < zeros ? T(0) : profile.table[(power - zeros) * 2 * kPieces + piece];
    }
}

// As evaluate_profile of the CPU, of whose numbers roots may differ.
template <class T>
NTK_DEVICE void evaluate_four(const Profile<T>& profile, const Quad<T>* table, int quads,
                              const T (&u)[kTogether], const T (&s)[kTogether],
                              T (&value)[kTogether]) {
    using Bits = typename Simd<T>::Bits;
    const int shift = Format<T>::kMantissa - profile.sub_bits;
    const Bits fraction = (Bits(1) << shift) - 1;
    T x[kTogether];
    const Quad<T>* row[kTogether];
    NTK_UNROLL()
    for (int k = 0; k < kTogether; ++k) {
        const bool back = u[k] < T(0);
        const T t = s[k] * (back ? profile.stretch[1] : profile.stretch[0]) + T(1);
        const Bits bits = bits_of<T>(t);
        x[k] = t - from_bits<T>(bits & ~fraction);
        const int piece = static_cast<int>(bits >> shift) & (kPieces - 1);
        row[k] = table + piece + (back ? kPieces : 0);
        const Quad<T> first = *row[k];
        value[k] = first.at[0];
        NTK_UNROLL()
        for (int c = 1; c < Quad<T>::kSize; ++c) value[k] = value[k] * x[k] + first.at[c];
    }
    NTK_UNROLL(1)
    for (int q = 1; q < quads; ++q) {
        NTK_UNROLL()
        for (int k = 0; k < kTogether; ++k) {
            const Quad<T> coefficients = row[k][q * 2 * kPieces];
            NTK_UNROLL()
            for (int c = 0; c < Quad<T>::kSize; ++c)
                value[k] = value[k] * x[k] + coefficients.at[c];
        }
    }
    NTK_UNROLL()
    for (int k = 0; k < kTogether; ++k)
        value[k] = value[k] * s[k] + (u[k] < T(0) ? profile.base[1] : profile.base[0]);
}

// The profiles of a problem, OUTPUTS at most: calls put(which output, values of four pairs). It
// keeps the numbers of rows and the tables in `bytes` of shared memory.
template <class T, int OUTPUTS>
class ByProfile {
  public:
    static std::size_t bytes(const GramTiles<T>& tiles, int rows) {
        std::size_t quads = 0;
        for (int k = 0; k < OUTPUTS; ++k)
            if (tiles.p.profile[k])
                quads += static_cast<std::size_t>(quads_of(tiles.maps.profile[k]));
        return sizeof(RowNumbers<T>) * static_cast<std::size_t>(rows) + 16 * 2 * kPieces * quads;
    }

    // For the rows from i0 on. All threads take part, and a barrier stands before the first use.
    NTK_DEVICE ByProfile(const GramTiles<T>& tiles, void* memory, int64_t i0, int rows)
        : tiles_(tiles), rows_(static_cast<RowNumbers<T>*>(memory)) {
        table_[0] = reinterpret_cast<Quad<T>*>(rows_ + rows);
        for (int r = thread(); r < rows; r += kThreads)
            rows_[r] = row_numbers(tiles.p, smaller(i0 + r, tiles.p.n - 1));
        NTK_UNROLL()
        for (int k = 0; k < OUTPUTS; ++k) {
            if (k > 0) table_[k] = table_[k - 1] + quads_[k - 1] * 2 * kPieces;
            quads_[k] = tiles.p.profile[k] ? quads_of(tiles.maps.profile[k]) : 0;
            if (quads_[k] > 0) stage_table(tiles.maps.profile[k], table_[k]);
        }
    }

    // The columns of this thread, from j on.
    NTK_DEVICE void columns(int64_t j) {
        NTK_UNROLL()
        for (int k = 0; k < kTogether; ++k)
            factor_[k] = tiles_.p.factor_y[smaller(j + k, tiles_.p.m - 1)];
    }

    template <class Put>
    NTK_DEVICE void operator()(int row, const Pairs4& pairs, const Four<T>& products,
                               Put put) const {
        T u[kTogether], v[kTogether], s[kTogether];
        const RowNumbers<T> numbers = rows_[row];
        half_angles(tiles_.p, numbers, pairs, products, u, v);
        NTK_UNROLL()
        for (int k = 0; k < kTogether; ++k) s[k] = quick_root(v[k]);
        NTK_UNROLL()
        for (int which = 0; which < OUTPUTS; ++which) {
            if (which == 1 && !tiles_.p.profile[1]) break;
            const Profile<T>& profile = tiles_.maps.profile[which];
            Four<T> values;
            evaluate_four(profile, table_[which], quads_[which], u, s, values.at);
            const T factor = numbers.factor * profile.scale;
            NTK_UNROLL()
            for (int k = 0; k < kTogether; ++k) values.at[k] *= factor_[k] * factor;
            put(which, values);
        }
    }

  private:
    const GramTiles<T>& tiles_;
    RowNumbers<T>* rows_;
    Quad<T>* table_[OUTPUTS];
    int quads_[OUTPUTS];
    T factor_[kTogether];
};

// ---- the walk over a tile -----------------------------------------------------------------------

// Where the values of four pairs of a thread go, and which of them.
template <class T>
struct FourOut {
    T* at;
    int64_t step;  // from a row of this thread to its next one
    bool wide;     // quads may be stored
    NTK_DEVICE void put(const Four<T>& values, int count) const {
        if (wide && count == kTogether) {
            *reinterpret_cast<Four<T>*>(at) = values;
            return;
        }
        NTK_UNROLL()
        for (int k = 0; k < kTogether; ++k)
            if (k < count) at[k] = values.at[k];
    }
};

// The pairs that a thread has of a tile: four columns from j on, and every `step`-th row.
template <class T>
struct OwnPairs {
    FourOut<T> out[2];  // the next to be written

    NTK_DEVICE OwnPairs(const GramTiles<T>& tiles, int64_t i0, int64_t j, int row, int step)
        : count_(columns_from(tiles.p, j, kTogether)) {
        int64_t rows = tiles.end - i0;
        if (tiles.p.symmetric) rows = smaller(rows, j + kTogether - i0);  // up to the diagonal
        rows_ = static_cast<int>(larger(smaller(rows, 1 << 20), 0));
        NTK_UNROLL()
        for (int k = 0; k < 2; ++k)
            out[k] = {tiles.out[k] + (i0 + row - tiles.begin) * tiles.ld[k] + j - tiles.first,
                      step * tiles.ld[k], tiles.wide};
    }
    NTK_DEVICE int wanted(int row) const { return row < rows_ ? count_ : 0; }
    NTK_DEVICE void put(int which, const Four<T>& values, int wanted) {
        out[which].put(values, wanted);
        out[which].at += out[which].step;
    }

  private:
    int count_, rows_;
};

template <class Product>
constexpr int kFours = Product::kColumns / kTogether;  // of a row
template <class Product>
constexpr int kRowStep = kThreads / kFours<Product>;  // from a row of a thread to its next one

// As each_pair, for four neighbours: calls use(row, place of the products).
template <int PITCH, class Product, class T, class Use, class Done>
NTK_DEVICE void each_four(Product& product, T* memory, Use use, Done done) {
    static_assert(PITCH % Quad<T>::kSize == 0 && kSlab % kRowStep<Product> == 0);
    NTK_UNROLL(1)
    for (int slab = 0; slab < Product::kRows / kSlab; ++slab) {
        product.each([&](int row, int column, T value) { memory[row * PITCH + column] = value; });
        product.next_slab();
        barrier();
        NTK_UNROLL(1)
        for (int row = thread() / kFours<Product>; row < kSlab; row += kRowStep<Product>)
            use(slab * kSlab + row,
                *reinterpret_cast<Four<T>*>(memory + row * PITCH +
                                            thread() % kFours<Product> * kTogether));
        done(slab);
        barrier();
    }
}

template <class Product, class T = typename Product::Number>
NTK_KERNEL_OF(kBlocks<Product>)
profile_tiles(NTK_ARGUMENT GramTiles<T> tiles) {
    constexpr int kM = Product::kRows, kN = Product::kColumns, kPitch = kGramPitch<Product>;
    const Problem<T>& p = tiles.p;
    const Place at =
        place_of(block(), ceil_div(tiles.end - tiles.begin, kM), ceil_div(p.m - tiles.first, kN));
    const int64_t i0 = tiles.begin + at.row * kM, j0 = tiles.first + at.column * kN;
    if (p.symmetric && j0 + kN <= i0) return;
    ByProfile<T, 2> map(tiles, shared_memory<char>() + kTileBytes<Product, kPitch>, i0, kM);
    Product product;
    multiply(tiles.left, tiles.right, i0, j0, shared_memory<Quad<T>>(), product);
    const int64_t j = j0 + thread() % kFours<Product> * kTogether;
    map.columns(j);
    OwnPairs<T> own(tiles, i0, j, thread() / kFours<Product>, kRowStep<Product>);
    each_four<kPitch>(
        product, shared_memory<T>(),
        [&](int row, const Four<T>& products) {
            const int wanted = own.wanted(row);
            map(row, {i0 + row, j, wanted}, products,
                [&](int which, const Four<T>& values) { own.put(which, values, wanted); });
        },
        [](int) {});
}

// Whether the rows of all results begin where quads do.
template <class T>
bool takes_quads(const GramTiles<T>& tiles) {
    const auto at_quads = [](const T* out, int64_t ld) {
        return reinterpret_cast<std::uintptr_t>(out) % sizeof(Quad<T>) == 0 &&
               (!out || ld % Quad<T>::kSize == 0);
    };
    return at_quads(tiles.out[0], tiles.ld[0]) && at_quads(tiles.out[1], tiles.ld[1]);
}

}  // namespace
