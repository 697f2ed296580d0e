// How Gram matrices are asked of a device: rows put in order, the size of a tile, the precision.
#pragma once

#include "cuda/panels.hpp"
#include "cuda/times_v.hpp"

namespace {

// Tensor cores that multiply as asked: for float64 where they are the fastest way.
template <class T>
bool use_tensor_cores(const Device& device) {
    if (compiled_for(device, sum_parts<T>) < 80) return false;
    if (sizeof(T) == 4) return device.precision != Precision::kStrict;
    return generation(device) == 80 || generation(device) == 90;
}

// ---- rows in full parts -------------------------------------------------------------------------

// What a side of products is rounded to. In three parts a row of 3 d numbers stands for one of d:
// their products are the sums of small big, big small and big big.
enum class Packing { kNone, kTf32, kLeftParts, kRightParts };
constexpr int parts_of(Packing packing) {
    return packing == Packing::kLeftParts || packing == Packing::kRightParts ? 3 : 1;
}

template <class T>
struct Pack {  // to[i][part][k] = scale[i] from[i][k], and zeros beyond the d numbers of a row
    Rows<T> from;
    const T* scale;  // or null: 1
    Packing packing;
    T* to;
    int64_t pitch;  // of a part
};

// Not a number stays that.
NTK_DEVICE float as_tf32(float x) { return x == x ? float_of(to_tf32(x)) : x; }
NTK_DEVICE double as_tf32(double x) { return x; }

template <class T>
NTK_DEVICE T packed(Packing packing, int64_t part, T x) {
    const bool small = (packing == Packing::kLeftParts && part == 0) ||
                       (packing == Packing::kRightParts && part == 1);
    if (packing == Packing::kNone) return x;
    return small ? as_tf32(x - as_tf32(x)) : as_tf32(x);
}

template <class T>
NTK_KERNEL pack_rows(Pack<T> p) {
    const int64_t width = parts_of(p.packing) * p.pitch;
    for (int64_t e = first_element(); e < p.from.count * width; e += element_step()) {
        const int64_t i = e / width, part = e % width / p.pitch, k = e % width - part * p.pitch;
        T x = k < p.from.d ? p.from.data[i * p.from.pitch + k] : T(0);
        if (p.scale) x *= p.scale[i];
        p.to[e] = packed(p.packing, part, x);
    }
}

// Rows whose length is a multiple of `step`, scaled and rounded. Those that are so already stay
// where they are.
template <class T>
class PackedRows {
  public:
    PackedRows(const Device& device, const Rows<T>& from, const T* scale, Packing packing,
               int64_t step)
        : view_(from) {
        const bool aligned = reinterpret_cast<std::uintptr_t>(from.data) % sizeof(Quad<T>) == 0 &&
                             from.pitch % Quad<T>::kSize == 0;
        if (!scale && packing == Packing::kNone && aligned && from.d % step == 0) return;
        const int64_t pitch = ceil_div(from.d, step) * step;
        view_.pitch = parts_of(packing) * pitch;
        if (parts_of(packing) > 1) view_.d = view_.pitch;
        memory_ = Numbers<T>(device, from.count * view_.pitch);
        view_.data = memory_.get();
        launch_over(device, pack_rows<T>, from.count * view_.pitch,
                    Pack<T>{from, scale, packing, memory_.get(), pitch});
    }
    const Rows<T>& view() const { return view_; }

  private:
    Rows<T> view_;
    Numbers<T> memory_;
};

// The (1-|u|)/2 that equal rows may have by the errors of tensor cores: u is off by 2^-10 or 3 2^-22
// from the factors, and by 2^-23 of each sum of eight products, which are cut off; 3xTF32 has three
// of these. Pairs below twice that are recomputed. All other errors of u are magnified as little as in strict precision.
template <class T>
T refine_least(Precision precision, int64_t d) {
    if (sizeof(T) == 8 || precision == Precision::kStrict) return 0;
    if (precision == Precision::kTf32) return T(0x1p-10) + static_cast<T>(d) * T(0x1p-26);
    return T(3 * 0x1p-22) + static_cast<T>(3 * d) * T(0x1p-26);
}

// Both sides of a problem on the device, scaled and rounded up to parts.
template <class T>
class Operands {
  public:
    Operands(const Device& device, const Problem<T>& p)
        : problem_(p),
          panels_(panels(device, p)),
          left_(device, {p.x, p.ldx, p.n, p.d}, nullptr, packing(device, Packing::kLeftParts),
                kStep),
          right_(device, {p.y, p.ldy, p.m, p.d}, takes_products(p) ? nullptr : p.inverse_y,
                 packing(device, Packing::kRightParts), kStep) {
        for (T& below : problem_.refine_below)
            below = max2(below, refine_least<T>(device.precision, p.d));
    }

    // Whether rows are packed for panels.
    bool panels() const { return panels_; }

    GramTiles<T> tiles(const Maps<T>& maps, const T* numbers_x, const T* numbers_y) const {
        return {problem_, maps, left_.view(), right_.view(), numbers_x, numbers_y, 0, 0,
                0,        {},   {},           false};
    }

  private:
    static constexpr int64_t kStep = kQuads * Quad<T>::kSize;
    Problem<T> problem_;
    bool panels_;
    PackedRows<T> left_, right_;

    static bool panels(const Device& device, const Problem<T>& p) {
        if constexpr (sizeof(T) == 4)
            return use_tensor_cores<T>(device) && use_panels(device, p);
        else
            return false;
    }
    Packing packing(const Device& device, Packing parts) const {
        if (sizeof(T) == 8 || !use_tensor_cores<T>(device)) return Packing::kNone;
        if (device.precision == Precision::kTf32) return Packing::kTf32;
        return panels_ ? parts : Packing::kNone;
    }
};

// ---- which kernel -------------------------------------------------------------------------------

// Calls use.operator()<Product>(). Numbers and factors that are pairs of registers leave room for
// half a tile, if two blocks are to have room on a multiprocessor: one multiplies while the other
// maps.
template <class T, int M, class Use>
void with_product(const Device& device, Use use) {
    constexpr int kSide = sizeof(T) == 4 ? M : 64;
    if (!use_tensor_cores<T>(device))
        use.template operator()<Fma<T, kSide, kSide>>();
    else if constexpr (sizeof(T) == 8)
        use.template operator()<Mma<T, M, 64, Precision::kStrict>>();
    else if (device.precision == Precision::kTf32)
        use.template operator()<Mma<T, M, M, Precision::kTf32>>();
    else
        use.template operator()<Mma<T, M, 64, Precision::kTf32x3>>();
}

// Large tiles need fewer copies, small ones leave no multiprocessor idle.
template <class T, class Use>
void with_tile(const Device& device, int64_t pairs, Use use) {
    constexpr int64_t kEnough = int64_t{1} << 21;  // a large tile for each of 128 multiprocessors
    if (pairs >= kEnough)
        with_product<T, 128>(device, use);
    else
        with_product<T, 64>(device, use);
}

template <class T>
void launch_gram(const Device& device, GramTiles<T> tiles, bool panels) {
    if constexpr (sizeof(T) == 4)
        if (panels) return launch_panels(device, tiles);
    const int64_t rows = tiles.end - tiles.begin, columns = tiles.p.m - tiles.first;
    tiles.wide = takes_quads(tiles);
    with_tile<T>(device, rows * columns, [&]<class Product>() {
        const int64_t blocks =
            ceil_div(rows, Product::kRows) * ceil_div(columns, Product::kColumns);
        constexpr std::size_t kBytes = kTileBytes<Product, kGramPitch<Product>>;
        if (tiles.p.profile[0])
            launch(device, profile_tiles<Product>, blocks, kThreads,
                   kBytes + ByProfile<T, 2>::bytes(tiles, Product::kRows), tiles);
        else
            launch(device, gram_tiles<Product>, blocks, kThreads, kBytes, tiles);
    });
}

// Columns of V that have room for their sums in shared memory, beside `extra` bytes and another
// block.
template <class Product>
int64_t columns_with_room(const Device& device, std::size_t extra = 0) {
    constexpr int64_t kQuad = Quad<typename Product::Number>::kSize;
    const auto all = static_cast<int64_t>(largest_shared(device));
    const auto used = static_cast<int64_t>(kSumsAt<Product> + extra / 8);
    const int64_t room = smaller(all, 100 * 1024) / 8 - used;
    return larger(room / Product::kRows / kQuad, 1) * kQuad;
}

// Where products go: to numbers of the rows [begin, end), or they are added to sums of all rows and
// of all columns, [][columns of V in full quads].
template <class T>
struct ProductsTo {
    T* product;
    int64_t ld;
    double *left, *right;
};

// K v of rows [begin, end), and with u what these rows add to the product of the transpose. So many
// ranges that the last blocks, which run while others are idle, are few.
template <class T>
void launch_times_v(const Device& device, const GramTiles<T>& tiles, const Rows<T>& v,
                    const Rows<T>& u, const ProductsTo<T>& to) {
    constexpr int64_t kQuad = Quad<T>::kSize, kWaves = 16;
    const int64_t rows = tiles.end - tiles.begin, m = tiles.p.m - tiles.first;
    const int64_t columns = ceil_div(v.d, kQuad) * kQuad;
    with_tile<T>(device, rows * m, [&]<class Product>() {
        const bool profile = tiles.p.profile[0];
        const auto kernel = profile ? times_v<Product, true> : times_v<Product, false>;
        const std::size_t extra = profile ? ByProfile<T, 1>::bytes(tiles, Product::kRows) : 0;
        const int64_t strips = ceil_div(rows, Product::kRows);
        const int64_t across = ceil_div(m, Product::kColumns);
        const int64_t passes = ceil_div(columns, columns_with_room<Product>(device, extra));
        const int64_t width = ceil_div(columns, passes * kQuad) * kQuad;
        const std::size_t shared =
            sizeof(double) *
                (kSumsAt<Product> + static_cast<std::size_t>(width * int64_t{Product::kRows})) +
            extra;
        const int64_t wanted = kWaves * concurrent_blocks(device, kernel, kThreads, shared);
        const int64_t ranges = larger(smaller(ceil_div(wanted, strips * passes), across), 1);
        const Numbers<double> sums(device, ranges * rows * columns);
        const Numbers<double> turned(device, u.data ? strips * m * columns : 0);
        launch(device, kernel, strips * ranges * ceil_div(columns, width), kThreads, shared,
               TimesV<T>{tiles, v, u, columns, width, ranges, sums.get(), turned.get()});
        const auto sum = [&](const Numbers<double>& parts, int64_t count, int64_t step,
                             int64_t each, auto* at, int64_t ld, bool adds) {
            using Sum = std::remove_pointer_t<decltype(at)>;
            launch_over(device, sum_parts<Sum>, each * v.d,
                        SumParts<Sum>{parts.get(), count, step, each, columns, v.d, at, ld, adds});
        };
        if (!u.data) return sum(sums, ranges, 0, rows, to.product, to.ld, false);
        sum(sums, ranges, 0, rows, to.left + tiles.begin * columns, columns, true);
        sum(turned, strips, tiles.p.symmetric ? Product::kRows : 0, m,
            to.right + tiles.first * columns, columns, true);
    });
}

}  // namespace
