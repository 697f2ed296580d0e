// What a problem of pairs keeps on a device: its arrays, its maps, and the numbers of its layers.
#pragma once

#include <vector>

#include "cuda/gram_tiles.hpp"
#include "cuda/pieces.hpp"

namespace {

using namespace ntkfast;

// What a problem keeps on the device; `view` is the problem there, whose maps are at hand in `maps`.
template <class T>
struct ProblemOnDevice {
    const Device& device;
    const Poll& poll;
    Problem<T> view;
    Maps<T> maps{};
    const T *numbers_x = nullptr, *numbers_y = nullptr;

    // In layers `tiny` stands for the norm of a row of zeros of x.
    ProblemOnDevice(const Device& on, const Problem<T>& p, const Poll& between, T tiny = 0)
        : device(on),
          poll(between),
          view(p),
          tiny_(tiny),
          x_(on, p.x, p.ldx, p.n, p.d),
          y_(on, p.symmetric ? x_.data : p.y, p.symmetric ? x_.ld : p.ldy, p.m, p.d) {
        view.x = x_.data, view.ldx = x_.ld;
        view.y = y_.data, view.ldy = y_.ld;
        view.norm_x = keep(p.norm_x, p.n), view.norm_y = keep(p.norm_y, p.m);
        view.inverse_x = keep(p.inverse_x, p.n), view.inverse_y = keep(p.inverse_y, p.m);
        view.factor_x = keep(p.factor_x, p.n), view.factor_y = keep(p.factor_y, p.m);
        for (int k = 0; k < 2; ++k)
            if (p.profile[k]) {
                Profile<T>& profile = maps.profile[k] = *p.profile[k];
                profile.table = keep(profile.table, 2 * kPieces * (profile.degree + 1));
            }
        if (p.radial) maps.radial = *p.radial;
        if (p.neuron) use(*p.neuron);
        if (p.layers) use(*p.layers, p);
    }

  private:
    T tiny_;
    Matrix<T> x_, y_;
    std::vector<Numbers<char>> kept_;

    template <class U>
    const U* keep(const U* from, int64_t count) {
        if (!from) return nullptr;
        kept_.emplace_back(device, reinterpret_cast<const char*>(from),
                           count * static_cast<int64_t>(sizeof(U)));
        return reinterpret_cast<const U*>(kept_.back().get());
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

    void use(Layers<T> map, const Problem<T>& p) {
        const T* const series_y = p.symmetric ? map.series_x : map.series_y;
        numbers_x = numbers_of(map, {p.n, p.norm_x, map.series_x, tiny_}, false);
        numbers_y = numbers_of(map, {p.m, p.norm_y, series_y, T(0)}, true);
        map.rows = keep(map.rows, map.count);
        map.layer = nullptr;
        map.diagonal = keep(map.diagonal, 2 * p.n);
        map.series_x = map.series_y = nullptr;
        map.row_stats = nullptr, map.row_rates = nullptr;
        maps.layers = map;
    }

    struct Side {
        int64_t count;
        const T *norms, *series;
        T tiny;
        T norm(int64_t i) const { return norms[i] > 0 ? norms[i] : tiny; }
    };

    // [count][stats], or [stats][count] for the columns.
    const T* numbers_of(const Layers<T>& map, const Side& side, bool columns) {
        std::vector<T> numbers(static_cast<std::size_t>(side.count * map.stats));
        by_rows(device, side.count, 100 * map.stats, poll, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i)
                map.row_stats(map, side.norm(i), given_series(map, side.series, i),
                              columns ? side.count : 1,
                              numbers.data() + i * (columns ? 1 : map.stats));
        });
        return keep(numbers.data(), side.count * map.stats);
    }
};

}  // namespace
