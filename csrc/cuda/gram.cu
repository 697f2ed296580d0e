// Gram matrices and random features on a device: the host's part of what gram_tiles.hpp computes.
#include <algorithm>

#include "cuda/gram_launch.hpp"
#include "cuda/mirror.hpp"
#include "cuda/problem.hpp"

namespace {

using namespace ntkfast;

// The rows of a piece: no more than may pass between two looks for Ctrl-C, nor than sums have room.
template <class T>
int64_t rows_of_products(const Problem<T>& p) {
    return smaller(p.n, smaller(ceil_div(64 * chunk_numbers(), larger(1, p.m)),
                                larger(kSlab, chunk_numbers() / p.columns)));
}

template <class T>
PackedRows<T> pack_vectors(const Device& device, const T* data, int64_t ld, int64_t count,
                           int64_t columns) {
    return {device, {data, ld, count, columns}, nullptr, Packing::kNone, Quad<T>::kSize};
}

template <class T>
void run_matmul(const Problem<T>& p, const Device& device, const Poll& poll) {
    if (p.n == 0 || p.columns == 0) return;
    const ProblemOnDevice<T> there(device, p, poll);
    const Operands<T> operands(device, there.view);
    const Matrix<T> v(device, p.v, p.ldv, p.m, p.columns);
    const PackedRows<T> right = pack_vectors(device, v.data, v.ld, p.m, p.columns);
    const int64_t rows = rows_of_products(p);
    const bool direct = on_device(p.product);
    const Numbers<T> product(device, direct ? 0 : rows * p.columns);
    GramTiles<T> tiles = operands.tiles(there.maps, there.numbers_x, there.numbers_y);
    for (tiles.begin = 0; tiles.begin < p.n; tiles.begin += rows) {
        poll();
        tiles.end = smaller(p.n, tiles.begin + rows);
        T* const wanted = p.product + tiles.begin * p.ldp;
        T* const to = direct ? wanted : product.get();
        const int64_t ld = direct ? p.ldp : p.columns;
        launch_times_v(device, tiles, right.view(), {}, {to, ld, nullptr, nullptr});
        if (!direct) copy_matrix(device, wanted, p.ldp, to, ld, tiles.end - tiles.begin, p.columns);
    }
}

// K v and the transpose of K times u, from one evaluation of each pair: sums in memory of the device,
// `pitch` apart. Of a symmetric problem, whose v is u, they are the same.
template <class T>
struct BothProducts {
    int64_t pitch;
    Numbers<double> left, right;

    BothProducts(const Problem<T>& p, const Device& device, const Poll& poll)
        : pitch(ceil_div(p.columns, Quad<T>::kSize) * Quad<T>::kSize),
          left(device, p.n * pitch),
          right(device, p.symmetric ? 0 : p.m * pitch) {
        const ProblemOnDevice<T> there(device, p, poll);
        const Operands<T> operands(device, there.view);
        const Matrix<T> v(device, p.v, p.ldv, p.m, p.columns);
        const Matrix<T> u(device, p.symmetric ? v.data : p.u, p.symmetric ? v.ld : p.ldu, p.n,
                          p.columns);
        const PackedRows<T> factor = pack_vectors(device, v.data, v.ld, p.m, p.columns);
        const PackedRows<T> other =
            pack_vectors(device, u.data, u.ld, p.symmetric ? 0 : p.n, p.columns);
        const Rows<T>& turned = p.symmetric ? factor.view() : other.view();
        const ProductsTo<T> to{nullptr, 0, left.get(), p.symmetric ? left.get() : right.get()};
        clear(device, left.get(), bytes(p.n));
        if (!p.symmetric) clear(device, right.get(), bytes(p.m));
        GramTiles<T> tiles = operands.tiles(there.maps, there.numbers_x, there.numbers_y);
        for (int64_t rows; tiles.begin < p.n; tiles.begin += rows) {
            poll();
            tiles.first = p.symmetric ? tiles.begin : 0;
            rows = rows_of_strips(p, p.m - tiles.first);
            tiles.end = smaller(p.n, tiles.begin + rows);
            launch_times_v(device, tiles, factor.view(), turned, to);
        }
    }

  private:
    std::size_t bytes(int64_t rows) const {
        return sizeof(double) * static_cast<std::size_t>(rows * pitch);
    }

    // Whole strips of the largest tiles. What one of them leaves for columns is as large as the sums.
    int64_t rows_of_strips(const Problem<T>& p, int64_t columns) const {
        constexpr int64_t kLargest = 128, kPart = 8;
        const int64_t strips = chunk_numbers() / kPart / larger(1, columns * pitch);
        return larger(1, smaller(strips, ceil_div(rows_of_products(p), kLargest))) * kLargest;
    }
};

// K v of a symmetric problem.
template <class T>
void run_symmetric(const Problem<T>& p, const Device& device, const Poll& poll) {
    if (p.n == 0 || p.columns == 0) return;
    const BothProducts<T> sums(p, device, poll);
    const bool direct = on_device(p.product);
    const Numbers<T> product(device, direct ? 0 : p.n * p.columns);
    T* const to = direct ? p.product : product.get();
    const int64_t ld = direct ? p.ldp : p.columns;
    launch_over(device, sum_parts<T>, p.n * p.columns,
                SumParts<T>{sums.left.get(), 1, 0, p.n, sums.pitch, p.columns, to, ld, false});
    if (!direct) copy_matrix(device, p.product, p.ldp, to, ld, p.n, p.columns);
}

template <class T>
void run_groups(const GroupProducts<T>& groups, const Device& device, const Poll& poll) {
    const Problem<T>& p = groups.pairs;
    if (p.n == 0 || p.columns == 0) return;
    const BothProducts<T> sums(p, device, poll);
    copy_matrix(device, groups.left, p.columns, sums.left.get(), sums.pitch, p.n, p.columns);
    if (!p.symmetric)
        copy_matrix(device, groups.right, p.columns, sums.right.get(), sums.pitch, p.m, p.columns);
}

// The whole result, in memory of the device.
template <class T>
void run_whole(GramTiles<T> tiles, const Device& device, bool panels) {
    launch_gram(device, tiles, panels);
    if (!tiles.p.symmetric) return;
    for (int k = 0; k < 2; ++k)
        if (tiles.out[k]) mirror(device, tiles.out[k], tiles.ld[k], tiles.p.n);
}

// The same, copied to where it is wanted.
template <class T>
void run_at_once(GramTiles<T> tiles, const Problem<T>& p, const Device& device, bool panels) {
    Numbers<T> out[2];
    for (int k = 0; k < 2; ++k)
        if (p.out[k]) out[k] = Numbers<T>(device, p.n * p.m), tiles.out[k] = out[k].get();
    run_whole(tiles, device, panels);
    for (int k = 0; k < 2; ++k)
        if (p.out[k]) copy_matrix(device, p.out[k], p.ldo[k], out[k].get(), tiles.ld[k], p.n, p.m);
}

// A block of the result that has come back: rows from `begin` and columns from `first` on.
template <class T>
struct Block {
    const T* values;
    int64_t begin, end, first;
    int64_t numbers(int64_t m) const { return (end - begin) * (m - first); }
};

// Writes it, and across the diagonal too.
template <class T>
void write_block(const Problem<T>& p, T* out, int64_t ld, const Block<T>& block,
                 const Device& device, const Poll& poll) {
    const int64_t columns = p.m - block.first;
    by_rows(device, block.end - block.begin, columns, poll, [&](int64_t from, int64_t to) {
        for (int64_t r = from; r < to; ++r) {
            const int64_t c = p.symmetric ? r : 0;  // before it stands nothing
            std::copy_n(block.values + r * columns + c, columns - c,
                        out + (block.begin + r) * ld + block.first + c);
        }
        if (!p.symmetric) return;
        for (int64_t j = from; j < columns; ++j)
            for (int64_t r = from; r < smaller(to, j); ++r)
                out[(block.first + j) * ld + block.begin + r] = block.values[r * columns + j];
    });
}

// More than fits: blocks of rows, which the host takes while the device goes on.
template <class T>
void run_by_pieces(GramTiles<T> tiles, const Problem<T>& p, const Device& device, bool panels,
                   const Poll& poll) {
    const int64_t outs = (p.out[0] != nullptr) + (p.out[1] != nullptr);
    const int64_t rows =
        smaller(p.n, ceil_div(larger(1, piece_numbers() / (outs * p.m)), kSlab) * kSlab);
    const auto block = [&](int64_t piece, const T* values) {
        const int64_t begin = piece * rows;
        return Block<T>{values, begin, smaller(p.n, begin + rows), p.symmetric ? begin : 0};
    };
    const auto compute = [&](int64_t piece, T* memory) {
        const Block<T> now = block(piece, memory);
        tiles.begin = now.begin, tiles.end = now.end, tiles.first = now.first;
        for (int k = 0; k < 2; ++k) {
            if (!p.out[k]) continue;
            tiles.out[k] = memory, tiles.ld[k] = p.m - now.first;
            memory += now.numbers(p.m);
        }
        launch_gram(device, tiles, panels);
        return outs * now.numbers(p.m);
    };
    const auto write = [&](int64_t piece, const T* values) {
        for (int k = 0; k < 2; ++k) {
            if (!p.out[k]) continue;
            const Block<T> now = block(piece, values);
            write_block(p, p.out[k], p.ldo[k], now, device, poll);
            values += now.numbers(p.m);
        }
    };
    by_pieces<T>(device, ceil_div(p.n, rows), outs * rows * p.m, poll, compute, write);
}

template <class T>
void run_problem(const Problem<T>& p, const Device& device, const Poll& poll) {
    if (p.v) return p.symmetric ? run_symmetric(p, device, poll) : run_matmul(p, device, poll);
    if (p.n == 0 || p.m == 0) return;
    const ProblemOnDevice<T> there(device, p, poll);
    const Operands<T> operands(device, there.view);
    GramTiles<T> tiles = operands.tiles(there.maps, there.numbers_x, there.numbers_y);
    tiles.end = p.n, tiles.ld[0] = tiles.ld[1] = p.m;
    const T* const any = p.out[0] ? p.out[0] : p.out[1];
    if (on_device(any)) {
        for (int k = 0; k < 2; ++k) tiles.out[k] = p.out[k], tiles.ld[k] = p.ldo[k];
        return run_whole(tiles, device, operands.panels());
    }
    if (p.n <= piece_numbers() / p.m) return run_at_once(tiles, p, device, operands.panels());
    run_by_pieces(tiles, p, device, operands.panels(), poll);
}

}  // namespace

namespace ntkfast {

void run_on_device(const Problem<float>& p, const Device& device, const Poll& poll) {
    run_problem(p, device, poll);
}
void run_on_device(const Problem<double>& p, const Device& device, const Poll& poll) {
    run_problem(p, device, poll);
}
void run_on_device(const GroupProducts<float>& p, const Device& device, const Poll& poll) {
    run_groups(p, device, poll);
}
void run_on_device(const GroupProducts<double>& p, const Device& device, const Poll& poll) {
    run_groups(p, device, poll);
}

}  // namespace ntkfast
