// What a problem of pairs keeps on a device: its arrays, its maps, and the numbers of its layers.
#pragma once

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
          one_side_(p.x == p.y && p.ldx == p.ldy && p.n == p.m && p.norm_x == p.norm_y),
          x_(on, p.x, p.ldx, p.n, p.d),
          y_(on, one_side_ ? x_.data : p.y, one_side_ ? x_.ld : p.ldy, p.m, p.d) {
        view.x = x_.data, view.ldx = x_.ld;
        view.y = y_.data, view.ldy = y_.ld;
        upload_.keep(view.norm_x, p.n);
        if (!one_side_) upload_.keep(view.norm_y, p.m);
        for (int k = 0; k < 2; ++k)
            if (p.profile[k]) {
                Profile<T>& profile = maps.profile[k] = *p.profile[k];
                upload_.keep(profile.table, 2 * kPieces * (profile.degree + 1));
            }
        if (p.radial) maps.radial = *p.radial;
        if (p.neuron) use(*p.neuron);
        if (p.layers) use(*p.layers, p);
        upload_.send(device);
        if (one_side_) view.norm_y = view.norm_x;
        take_powers();
        if (maps.layers.layer) take_numbers();
    }

  private:
    T tiny_;
    bool one_side_;
    Matrix<T> x_, y_;
    Upload upload_;
    Numbers<T> powers_, numbers_;

    // Inverses and factors: [2][n] of x, and of y, if it is another.
    void take_powers() {
        Problem<T>& p = view;
        const int64_t others = one_side_ ? 0 : p.m;
        powers_ = Numbers<T>(device, 2 * (p.n + others));
        T* const x = powers_.get();
        T* const y = one_side_ ? x : x + 2 * p.n;
        p.inverse_x = x, p.factor_x = x + p.n;
        p.inverse_y = y, p.factor_y = y + p.m;
        run_on_device(NormPowers<T>{{{p.norm_x, x, p.n, -1, false, 0},
                                     {p.norm_x, x + p.n, p.n, p.power, false, 0},
                                     {p.norm_y, y, p.m, -1, false, 0},
                                     {p.norm_y, y + p.m, p.m, p.power, false, 0}},
                                    one_side_ ? 2 : 4},
                      device, poll);
    }

    void use(Neuron<T> neuron) {
        maps.neuron = neuron;
        upload_.keep(maps.neuron.table, neuron.rows * neuron.knots);
        upload_.keep(maps.neuron.place, view.n);
    }

    // Numbers of layers from norms that lie on the device, [n][stats] and [stats][m], and [n][2].
    void take_numbers() {
        Layers<T>& map = maps.layers;
        numbers_ = Numbers<T>(device, (view.n + view.m) * map.stats + 2 * view.n);
        T* const x = numbers_.get();
        T* const y = x + view.n * map.stats;
        T* const diagonal = y + view.m * map.stats;
        run_on_device(LayerNumbers<T>{map, view.norm_x, view.n, tiny_, false, x, diagonal}, device,
                      poll);
        run_on_device(LayerNumbers<T>{map, view.norm_y, view.m, T(0), true, y, nullptr}, device,
                      poll);
        numbers_x = x, numbers_y = y;
        map.layer = nullptr, map.diagonal = diagonal;
    }

    void use(Layers<T> map, const Problem<T>& p) {
        if (!on_device(p.norm_x)) {
            const T* const series_y = p.symmetric ? map.series_x : map.series_y;
            add_numbers(numbers_x, map, {p.n, p.norm_x, map.series_x, tiny_}, false);
            add_numbers(numbers_y, map, {p.m, p.norm_y, series_y, T(0)}, true);
            map.layer = nullptr;
            map.series_x = map.series_y = nullptr;
        }
        map.row_stats = nullptr, map.row_rates = nullptr;
        maps.layers = map;
        upload_.keep(maps.layers.layer, map.count);  // where the device makes these numbers
        upload_.keep(maps.layers.rows, map.count);
        upload_.keep(maps.layers.diagonal, 2 * p.n);
    }

    struct Side {
        int64_t count;
        const T *norms, *series;
        T tiny;
        T norm(int64_t i) const { return norms[i] > 0 ? norms[i] : tiny; }
    };

    // [count][stats], or [stats][count] for the columns.
    void add_numbers(const T*& to, const Layers<T>& map, const Side& side, bool columns) {
        T* const numbers = upload_.add(to, side.count * map.stats);
        by_rows(device, side.count, 100 * map.stats, poll, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i)
                map.row_stats(map, side.norm(i), given_series(map, side.series, i),
                              columns ? side.count : 1, numbers + i * (columns ? 1 : map.stats));
        });
    }
};

}  // namespace
