// Gram matrices and random features on a card: a product of a tile, then the map of each pair.
//
// A block has the inner products of 64 x 64 pairs in registers, 4 x 4 per thread, and applies the
// maps of the CPU to them one by one. Of a symmetric matrix only the upper part is computed.
#include "../tile.hpp"

#include <memory>
#include <vector>

#include "device.hpp"
#include "run.hpp"

namespace {

using namespace ntkfast;

constexpr int kTile = 64, kPart = 16, kOwn = 4;  // pairs of a block, depth, pairs of a thread
static_assert(kTile == kOwn * 16 && kThreads == 16 * 16);

template <class T>
struct GramTiles {
    Problem<T> p;                    // all on the card, but for the outputs
    const T *numbers_x, *numbers_y;  // [n][stats], [m][stats] of a layer map
    int64_t begin, end, first;       // rows, and the first column
    T* out[2];                       // [end - begin][m - first]
};

template <class T>
struct Factors {
    T left[kPart][kTile + 1], right[kPart][kTile + 1];
};

template <class T>
NTK_DEVICE void multiply(const GramTiles<T>& tiles, int64_t i0, int64_t j0, Factors<T>& part,
                         T (&sum)[kOwn][kOwn]) {
    const Problem<T>& p = tiles.p;
    const bool as_is = p.neuron || (p.radial && p.radial->radius == Radius::kEuclidean);
    for (int64_t k0 = 0; k0 < p.d; k0 += kPart) {
        for (int e = thread(); e < kPart * kTile; e += threads()) {
            const int64_t k = k0 + e % kPart, i = i0 + e / kPart, j = j0 + e / kPart;
            const bool inside = k < p.d;
            T right = inside && j < p.m ? p.y[j * p.ldy + k] : T(0);
            if (!as_is && j < p.m) right *= p.inverse_y[j];
            part.left[e % kPart][e / kPart] = inside && i < tiles.end ? p.x[i * p.ldx + k] : T(0);
            part.right[e % kPart][e / kPart] = right;
        }
        barrier();
        for (int k = 0; k < kPart; ++k)
            for (int a = 0; a < kOwn; ++a)
                for (int b = 0; b < kOwn; ++b)
                    sum[a][b] += part.left[k][thread() / 16 + 16 * a] *
                                 part.right[k][thread() % 16 + 16 * b];
        barrier();
    }
}

// The map of one pair, by the code that the CPU applies to strips.
template <class T>
NTK_DEVICE void map_pair(const GramTiles<T>& tiles, int64_t i, int64_t j, const T& product) {
    const Problem<T>& p = tiles.p;
    const int64_t at = (i - tiles.begin) * (p.m - tiles.first) + j - tiles.first;
    T* const out[2] = {tiles.out[0] ? tiles.out[0] + at : nullptr,
                       tiles.out[1] ? tiles.out[1] + at : nullptr};
    const Pairs<T> pair{p, &product, i, j};
    const Window window{0, 1};
    if (p.layers)
        map_layers<T>(pair, tiles.numbers_x + i * p.layers->stats,
                      tiles.numbers_y + j * p.layers->stats, out, window);
    else if (p.radial)
        map_radial<T>(pair, p.factor_y + j, out, window);
    else if (p.neuron)
        map_neuron<T>(pair, p.factor_y + j, out, window);
    else
        map_profile<T>(pair, p.factor_y + j, out, window);
}

template <class T>
NTK_KERNEL gram_tiles(GramTiles<T> tiles) {
    const Problem<T>& p = tiles.p;
    Factors<T>& part = *shared_memory<Factors<T>>();
    const int64_t across = ceil_div<int64_t>(p.m - tiles.first, kTile);
    const int64_t down = ceil_div<int64_t>(tiles.end - tiles.begin, kTile);
    for (int64_t tile = block(); tile < down * across; tile += blocks()) {
        const int64_t i0 = tiles.begin + tile / across * kTile,
                      j0 = tiles.first + tile % across * kTile;
        if (p.symmetric && j0 + kTile <= i0) continue;
        T sum[kOwn][kOwn] = {};
        multiply(tiles, i0, j0, part, sum);
        for (int a = 0; a < kOwn; ++a)
            for (int b = 0; b < kOwn; ++b) {
                const int64_t i = i0 + thread() / 16 + 16 * a, j = j0 + thread() % 16 + 16 * b;
                if (i >= tiles.end || j >= p.m || (p.symmetric && j < i)) continue;
                map_pair(tiles, i, j, sum[a][b]);
            }
    }
}

// What a problem keeps on the card; `view` is the problem there.
template <class T>
struct ProblemOnDevice {
    const Device& device;
    Problem<T> view;
    const T *numbers_x = nullptr, *numbers_y = nullptr;

    ProblemOnDevice(const Device& on, const Problem<T>& p) : device(on), view(p) {
        view.x = rows(p.x, p.ldx, p.n, p.d), view.ldx = p.d;
        view.y = p.symmetric ? view.x : rows(p.y, p.ldy, p.m, p.d), view.ldy = p.d;
        view.norm_x = keep(p.norm_x, p.n), view.norm_y = keep(p.norm_y, p.m);
        view.inverse_x = keep(p.inverse_x, p.n), view.inverse_y = keep(p.inverse_y, p.m);
        view.factor_x = keep(p.factor_x, p.n), view.factor_y = keep(p.factor_y, p.m);
        for (int k = 0; k < 2; ++k)
            if (p.profile[k]) {
                Profile<T> profile = *p.profile[k];
                profile.table = keep(profile.table, 16 * (profile.degree + 1));
                view.profile[k] = keep(&profile, 1);
            }
        if (p.radial) view.radial = keep(p.radial, 1);
        if (p.neuron) use(*p.neuron);
        if (p.layers) use(*p.layers);
    }

    void use(Neuron<T> neuron) {
        int64_t last = 0;
        if (neuron.place)
            for (int64_t i = 0; i < view.n; ++i)
                last = larger(last, static_cast<int64_t>(neuron.place[i]) + 1);
        neuron.table = keep(neuron.table, (last + 1) * neuron.knots);
        neuron.place = keep(neuron.place, view.n);
        view.neuron = keep(&neuron, 1);
    }

    void use(Layers<T> map) {
        numbers_x = numbers_of(map, view.n, hosts().x, map.series_x);
        numbers_y = view.symmetric ? numbers_x : numbers_of(map, view.m, hosts().y, map.series_y);
        map.layer = keep(map.layer, map.count);
        map.diagonal = keep(map.diagonal, 2 * view.n);
        map.series_x = map.series_y = nullptr;
        map.row_stats = nullptr;
        view.layers = keep(&map, 1);
    }

  private:
    struct Norms {
        const T *x, *y;
    };
    std::vector<Numbers<char>> kept_;
    std::vector<T> norms_x_, norms_y_;

    // Norms on the host, which the numbers of layers are made of.
    Norms hosts() {
        norms_x_.resize(static_cast<std::size_t>(view.n));
        norms_y_.resize(static_cast<std::size_t>(view.m));
        download(device, norms_x_.data(), view.norm_x, sizeof(T) * norms_x_.size());
        download(device, norms_y_.data(), view.norm_y, sizeof(T) * norms_y_.size());
        return {norms_x_.data(), norms_y_.data()};
    }

    template <class U>
    const U* keep(const U* from, int64_t count) {
        if (!from) return nullptr;
        kept_.emplace_back(device, reinterpret_cast<const char*>(from),
                           count * static_cast<int64_t>(sizeof(U)));
        finish(device);  // `from` may be gone soon
        return reinterpret_cast<const U*>(kept_.back().get());
    }

    const T* rows(const T* from, int64_t ld, int64_t count, int64_t columns) {
        const int64_t size = count * columns * static_cast<int64_t>(sizeof(T));
        kept_.emplace_back(device, size);
        const auto item = sizeof(T);
        upload_rows(device, kept_.back().get(), from, item * static_cast<std::size_t>(ld),
                    item * static_cast<std::size_t>(columns), count);
        return reinterpret_cast<const T*>(kept_.back().get());
    }

    const T* numbers_of(const Layers<T>& map, int64_t count, const T* norms, const T* series) {
        std::vector<T> numbers(static_cast<std::size_t>(count * map.stats));
        for (int64_t i = 0; i < count; ++i)
            map.row_stats(map, norms[i], series ? series + i * map.series_stride : nullptr, 1,
                          numbers.data() + i * map.stats);
        return keep(numbers.data(), count * map.stats);
    }
};

template <class T>
struct TimesV {  // to[rows][columns] = values[rows][m] v[m][columns]
    const T *values, *v;
    T* to;
    int64_t rows, m, columns;
};

// A block per entry of the result: its threads share the sum over j, in an order that depends on m
// alone, so that neighbours read neighbours and the result is the same in every run.
template <class T>
NTK_KERNEL times_v(TimesV<T> p) {
    double* const part = shared_memory<double>();  // [threads]
    for (int64_t at = block(); at < p.rows * p.columns; at += blocks()) {
        const int64_t i = at / p.columns, c = at % p.columns;
        double sum = 0;
        for (int64_t j = thread(); j < p.m; j += threads())
            sum += static_cast<double>(p.values[i * p.m + j]) *
                   static_cast<double>(p.v[j * p.columns + c]);
        part[thread()] = sum;
        for (int half = threads() / 2; half > 0; half /= 2) {
            barrier();
            if (thread() < half) part[thread()] += part[thread() + half];
        }
        if (thread() == 0) p.to[at] = static_cast<T>(part[0]);
        barrier();  // before the next entry is summed in the same memory
    }
}

// Rows of the kernel matrix, as many as fit, times V: one part after the other in the same memory.
template <class T>
void run_matmul(const Problem<T>& p, const Device& device, const Poll& poll) {
    const ProblemOnDevice<T> there(device, p);
    const auto v = upload_matrix(device, p.v, p.ldv, p.m, p.columns);
    const int64_t rows = smaller(p.n, larger(1, chunk_numbers() / larger(1, p.m)));
    const Numbers<T> values(device, rows * p.m), product(device, rows * p.columns);
    GramTiles<T> tiles{there.view, there.numbers_x, there.numbers_y, 0, 0, 0, {}};
    tiles.out[p.use_second ? 1 : 0] = values.get();
    for (tiles.begin = 0; tiles.begin < p.n; tiles.begin += rows) {
        poll();
        tiles.end = smaller(p.n, tiles.begin + rows);
        const int64_t count = tiles.end - tiles.begin;
        launch(device, gram_tiles<T>,
               smaller(ceil_div<int64_t>(count, kTile) * ceil_div<int64_t>(p.m, kTile),
                       int64_t{1} << 30),
               kThreads, sizeof(Factors<T>), tiles);
        launch(device, times_v<T>, smaller(count * p.columns, int64_t{1} << 30), kThreads,
               kThreads * sizeof(double),
               TimesV<T>{values.get(), v.get(), product.get(), count, p.m, p.columns});
        download_matrix(device, p.product + tiles.begin * p.ldp, p.ldp, product.get(), count,
                        p.columns);
    }
}

template <class T>
void mirror_rows(const Problem<T>& p, T* out, int64_t ld, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
        for (int64_t j = i + 1; j < p.m; ++j) out[j * ld + i] = out[i * ld + j];
}

template <class T>
void run_problem(const Problem<T>& p, const Device& device, const Poll& poll) {
    if (p.v) return run_matmul(p, device, poll);
    if (p.n == 0 || p.m == 0) return;
    const ProblemOnDevice<T> there(device, p);
    GramTiles<T> tiles{there.view, there.numbers_x, there.numbers_y, 0, 0, 0, {}};
    const int64_t outs = (p.out[0] != nullptr) + (p.out[1] != nullptr);
    const int64_t rows =
        smaller(p.n, ceil_div<int64_t>(larger(1, chunk_numbers() / (outs * p.m)), kTile) * kTile);
    Numbers<T> out[2];
    for (int k = 0; k < 2; ++k)
        if (p.out[k]) out[k] = Numbers<T>(device, rows * p.m), tiles.out[k] = out[k].get();
    for (tiles.begin = 0; tiles.begin < p.n; tiles.begin += rows) {
        poll();
        tiles.end = smaller(p.n, tiles.begin + rows);
        tiles.first = p.symmetric ? tiles.begin : 0;
        const int64_t columns = p.m - tiles.first, count = tiles.end - tiles.begin;
        const int64_t all = ceil_div<int64_t>(count, kTile) * ceil_div<int64_t>(columns, kTile);
        launch(device, gram_tiles<T>, smaller(all, int64_t{1} << 30), kThreads, sizeof(Factors<T>),
               tiles);
        for (int k = 0; k < 2; ++k) {
            if (!p.out[k]) continue;
            download_matrix(device, p.out[k] + tiles.begin * p.ldo[k] + tiles.first, p.ldo[k],
                            out[k].get(), count, columns);
            if (p.symmetric) mirror_rows(p, p.out[k], p.ldo[k], tiles.begin, tiles.end);
        }
    }
}

}  // namespace

namespace ntkfast {

void run_on_device(const Problem<float>& p, const Device& device, const Poll& poll) {
    run_problem(p, device, poll);
}
void run_on_device(const Problem<double>& p, const Device& device, const Poll& poll) {
    run_problem(p, device, poll);
}

}  // namespace ntkfast
