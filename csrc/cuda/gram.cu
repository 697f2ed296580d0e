// Gram matrices and random features on a card: the host's part of what gram_tiles.hpp computes.
#include <memory>
#include <vector>

#include "gram_launch.hpp"
#include "run.hpp"

namespace {

using namespace ntkfast;

// What a problem keeps on the card; `view` is the problem there, whose maps are at hand in `maps`.
template <class T>
struct ProblemOnDevice {
    const Device& device;
    Problem<T> view;
    Maps<T> maps{};
    const T *numbers_x = nullptr, *numbers_y = nullptr;

    ProblemOnDevice(const Device& on, const Problem<T>& p) : device(on), view(p) {
        view.x = rows(p.x, p.ldx, p.n, p.d), view.ldx = p.d;
        view.y = p.symmetric ? view.x : rows(p.y, p.ldy, p.m, p.d), view.ldy = p.d;
        view.norm_x = keep(p.norm_x, p.n), view.norm_y = keep(p.norm_y, p.m);
        view.inverse_x = keep(p.inverse_x, p.n), view.inverse_y = keep(p.inverse_y, p.m);
        view.factor_x = keep(p.factor_x, p.n), view.factor_y = keep(p.factor_y, p.m);
        for (int k = 0; k < 2; ++k)
            if (p.profile[k]) {
                Profile<T>& profile = maps.profile[k] = *p.profile[k];
                profile.table = keep(profile.table, 16 * (profile.degree + 1));
            }
        if (p.radial) maps.radial = *p.radial;
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
        maps.neuron = neuron;
    }

    void use(Layers<T> map) {
        const T* const series_y = view.symmetric ? map.series_x : map.series_y;
        numbers_x = numbers_of(map, view.n, hosts().x, map.series_x, false);
        numbers_y = numbers_of(map, view.m, hosts().y, series_y, true);
        map.rows = keep(map.rows, map.count);
        map.layer = nullptr;
        map.diagonal = keep(map.diagonal, 2 * view.n);
        map.series_x = map.series_y = nullptr;
        map.row_stats = nullptr;
        maps.layers = map;
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

    // [count][stats], or [stats][count] for the columns.
    const T* numbers_of(const Layers<T>& map, int64_t count, const T* norms, const T* series,
                        bool columns) {
        std::vector<T> numbers(static_cast<std::size_t>(count * map.stats));
        for (int64_t i = 0; i < count; ++i)
            map.row_stats(map, norms[i], given_series(map, series, i), columns ? count : 1,
                          numbers.data() + i * (columns ? 1 : map.stats));
        return keep(numbers.data(), count * map.stats);
    }
};

// Pieces are as long as may pass between two looks for Ctrl-C.
template <class T>
void run_matmul(const Problem<T>& p, const Device& device, const Poll& poll) {
    const ProblemOnDevice<T> there(device, p);
    if (p.n == 0 || p.columns == 0) return;
    const Operands<T> operands(device, there.view);
    const auto v = upload_matrix(device, p.v, p.ldv, p.m, p.columns);
    const PackedRows<T> right(device, {v.get(), p.columns, p.m, p.columns}, nullptr, false,
                              Quad<T>::kSize);
    const int64_t rows = smaller(p.n, ceil_div<int64_t>(64 * chunk_numbers(), larger(1, p.m)));
    const Numbers<T> product(device, rows * p.columns);
    GramTiles<T> tiles = operands.tiles(there.maps, there.numbers_x, there.numbers_y);
    for (tiles.begin = 0; tiles.begin < p.n; tiles.begin += rows) {
        poll();
        tiles.end = smaller(p.n, tiles.begin + rows);
        const int64_t count = tiles.end - tiles.begin;
        launch_times_v(device, tiles, right.view(), product.get(), p.columns);
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
    const Operands<T> operands(device, there.view);
    GramTiles<T> tiles = operands.tiles(there.maps, there.numbers_x, there.numbers_y);
    const int64_t outs = (p.out[0] != nullptr) + (p.out[1] != nullptr);
    const int64_t rows =
        smaller(p.n, ceil_div<int64_t>(larger(1, chunk_numbers() / (outs * p.m)), kSlab) * kSlab);
    Numbers<T> out[2];
    for (int k = 0; k < 2; ++k)
        if (p.out[k]) out[k] = Numbers<T>(device, rows * p.m), tiles.out[k] = out[k].get();
    for (tiles.begin = 0; tiles.begin < p.n; tiles.begin += rows) {
        poll();
        tiles.end = smaller(p.n, tiles.begin + rows);
        tiles.first = p.symmetric ? tiles.begin : 0;
        const int64_t columns = p.m - tiles.first, count = tiles.end - tiles.begin;
        tiles.ld[0] = tiles.ld[1] = columns;
        launch_gram(device, tiles);
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
