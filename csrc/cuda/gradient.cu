// Derivatives by rows on a device: the host's part of what gradient_tiles.hpp computes.
#include <vector>

#include "cuda/gradient_tiles.hpp"
#include "cuda/gram_launch.hpp"
#include "cuda/problem.hpp"

namespace {

using namespace ntkfast;

// Tangents magnify what cosines are off by: products are strict whatever is asked, in small tiles, for
// slopes take most registers.
template <class T, class Use>
void with_strict_product(const Device& device, Use use) {
    if constexpr (sizeof(T) == 8)
        if (use_tensor_cores<T>(device))
            return use.template operator()<Mma<T, kSlab, kSlab, Precision::kStrict>>();
    use.template operator()<Fma<T, kSlab, kSlab>>();
}

Device strict(Device device) {
    device.precision = Precision::kStrict;
    return device;
}

// How many blocks share the tiles of each strip.
int64_t ranges_of(int64_t strips, int64_t across) {
    constexpr int64_t kWanted = 1024;  // enough to fill any device
    return larger(smaller(ceil_div(kWanted, strips), across), 1);
}

// A problem on a device, and what a piece of its rows takes there: no more than fits.
template <class T>
class GradientOnDevice {
  public:
    GradientOnDevice(const Gradient<T>& g, const Device& device, const Poll& poll)
        : g_(g),
          device_(strict(device)),
          poll_(poll),
          there_(device_, g.pairs, poll, g.tiny),
          operands_(device_, there_.view),
          outer_(device_, g.pairs.n),
          right_(device_, g.right, g.ld_right, g.pairs.m, g.rank) {
        if (g.pairs.layers) shares_ = shares_of(*g.pairs.layers);
        run_on_device(NormPowers<T>{{{there_.view.norm_x, outer_.get(), g.pairs.n, g.outer_power,
                                      true, g.outer_at_zero}},
                                    1},
                      device_, poll);
    }

    void run() {
        const Problem<T>& p = g_.pairs;
        const int64_t numbers = g_.sums ? rates() : g_.dx ? larger(p.m, p.d) : larger(p.d, rates());
        const bool matrix = g_.v || g_.turned;
        const int64_t most = larger(chunk_numbers() / larger(1, matrix ? p.m : numbers), kSlab);
        const int64_t rows = smaller(p.n, smaller(most, larger(kSlab, chunk_numbers() / numbers)));
        for (int64_t begin = 0; begin < p.n; begin += rows) {
            poll_();
            piece(begin, smaller(p.n, begin + rows));
        }
    }

  private:
    Gradient<T> g_;
    Device device_;
    const Poll& poll_;
    ProblemOnDevice<T> there_;
    Operands<T> operands_;
    Numbers<T> outer_, shares_;
    Matrix<T> right_;

    int64_t rates() const { return g_.pairs.layers ? count_rates(*g_.pairs.layers) : 1; }

    // [layers][m]
    Numbers<T> shares_of(Layers<T> map) const {
        const Problem<T>& p = g_.pairs;
        map.directions = 0;
        std::vector<T> shares(static_cast<std::size_t>(map.count * p.m));
        by_rows(device_, p.m, 100 * map.count, poll_, [&](int64_t first, int64_t last) {
            std::vector<T> one(static_cast<std::size_t>(count_rates(map)));
            for (int64_t j = first; j < last; ++j) {
                map.row_rates(map, p.norm_y[j], given_series(map, map.series_y, j), one.data());
                for (int64_t l = 0; l < map.count; ++l)
                    shares[static_cast<std::size_t>(l * p.m + j)] =
                        one[static_cast<std::size_t>(l * kRates)];
            }
        });
        return {device_, shares.data(), map.count * p.m};
    }

    // [rows][count_rates]
    Numbers<T> rates_of(const Layers<T>& map, int64_t begin, int64_t end) const {
        const Problem<T>& p = g_.pairs;
        std::vector<T> numbers(static_cast<std::size_t>((end - begin) * rates()));
        by_rows(device_, end - begin, 10 * rates(), poll_, [&](int64_t first, int64_t last) {
            for (int64_t row = first; row < last; ++row) {
                const int64_t i = begin + row;
                map.row_rates(map, p.norm_x[i] > 0 ? p.norm_x[i] : g_.tiny,
                              given_series(map, map.series_x, i), numbers.data() + row * rates());
            }
        });
        return {device_, numbers.data(), (end - begin) * rates()};
    }

    void piece(int64_t begin, int64_t end) {
        const Problem<T>& p = g_.pairs;
        const int64_t rows = end - begin;
        const Matrix<T> v(device_, g_.v ? g_.v + begin * g_.ldv : nullptr, g_.ldv, g_.v ? rows : 0,
                          p.m);
        const Matrix<T> turned(device_, g_.turned ? g_.turned + begin : nullptr, g_.ld_turned,
                               g_.turned ? p.m : 0, rows);
        const Matrix<T> left(device_, g_.rank ? g_.left + begin * g_.ld_left : nullptr, g_.ld_left,
                             rows, g_.rank);
        Numbers<T> rates_x;
        if (p.layers) rates_x = rates_of(*p.layers, begin, end);
        GramTiles<T> tiles = operands_.tiles(there_.maps, there_.numbers_x, there_.numbers_y);
        tiles.begin = begin, tiles.end = end;
        PairSlopes<T> slopes{g_, rates_x.get(), shares_.get(), !takes_products(p)};
        Gradient<T>& g = slopes.g;
        g.outer_x = outer_.get();
        g.v = v.data, g.ldv = v.ld, g.turned = turned.data, g.ld_turned = turned.ld;
        g.left = left.data, g.ld_left = left.ld, g.right = right_.data, g.ld_right = right_.ld;
        if (g_.sums) return sum(tiles, slopes);
        const int64_t columns = g_.dx ? p.m : p.d;
        T* const to = g_.out + begin * g_.ldo;
        const bool direct = on_device(to);
        const Numbers<T> out(device_, direct ? 0 : rows * columns);
        g.out = direct ? to : out.get(), g.ldo = direct ? g_.ldo : columns;
        if (g_.dx)
            move(tiles, slopes);
        else
            differentiate(tiles, slopes);
        if (!direct) copy_matrix(device_, to, g_.ldo, out.get(), columns, rows, columns);
    }

    void differentiate(const GramTiles<T>& tiles, const PairSlopes<T>& slopes) const {
        constexpr int64_t kQuad = Quad<T>::kSize;
        const int64_t rows = tiles.end - tiles.begin, columns = ceil_div(tiles.p.d, kQuad) * kQuad;
        with_strict_product<T>(device_, [&]<class Product>() {
            const int64_t strips = ceil_div(rows, Product::kRows);
            const int64_t room = columns_with_room<Product>(device_, kOwnBytes<Product>);
            const int64_t passes = ceil_div(columns, room);
            const int64_t width = ceil_div(columns, passes * kQuad) * kQuad;
            const int64_t ranges =
                ranges_of(strips * passes, ceil_div(tiles.p.m, Product::kColumns));
            const Numbers<double> sums(device_, ranges * rows * columns),
                own(device_, ranges * rows);
            const Pull<T> task{
                {tiles, tiles.right, {}, columns, width, ranges, sums.get(), nullptr},
                slopes,
                own.get()};
            launch(device_, pull<Product>, strips * ranges * ceil_div(columns, width), kThreads,
                   sizeof(double) * (kSumsAt<Product> +
                                     static_cast<std::size_t>(width * int64_t{Product::kRows})) +
                       kOwnBytes<Product>,
                   task);
            launch_over(device_, add_pulls<T>, rows * tiles.p.d, task);
        });
    }

    void move(const GramTiles<T>& tiles, const PairSlopes<T>& slopes) const {
        const int64_t rows = tiles.end - tiles.begin, d = tiles.p.d;
        const Matrix<T> dx(device_, g_.dx + tiles.begin * g_.ld_dx, g_.ld_dx, rows, d);
        const PackedRows<T> steps(device_, {dx.data, dx.ld, rows, d}, nullptr, Packing::kNone,
                                  kQuads * Quad<T>::kSize);
        const Numbers<T> own(device_, rows);
        const Push<T> task{tiles, slopes, steps.view(), own.get()};
        launch_over(device_, steps_along_rows<T>, rows, task);
        with_strict_product<T>(device_, [&]<class Product>() {
            launch(device_, push<Product>,
                   ceil_div(rows, Product::kRows) * ceil_div(tiles.p.m, Product::kColumns),
                   kThreads, kTileBytes<Product, kGramPitch<Product>>, task);
        });
    }

    void sum(const GramTiles<T>& tiles, const PairSlopes<T>& slopes) const {
        const Layers<T>* const map = g_.pairs.layers;
        const int64_t rows = tiles.end - tiles.begin, directions = map ? map->directions : 1;
        with_strict_product<T>(device_, [&]<class Product>() {
            const int64_t strips = ceil_div(rows, Product::kRows);
            const int64_t ranges = ranges_of(strips, ceil_div(tiles.p.m, Product::kColumns));
            const Numbers<double> sums(device_, ranges * rows * directions),
                total(device_, rows * directions);
            launch(device_, weighed_sums<Product>, strips * ranges, kThreads,
                   sizeof(double) *
                       (kSumsAt<Product> +
                        static_cast<std::size_t>(Product::kRows * kWords<Product> * directions)),
                   WeighedSums<T>{tiles, slopes, directions, ranges, sums.get()});
            launch_over(device_, sum_parts<double>, rows * directions,
                        SumParts<double>{sums.get(), ranges, 0, rows, directions, directions,
                                         total.get(), directions, false});
            copy_bytes(device_, g_.sums + tiles.begin * directions, total.get(),
                       sizeof(double) * static_cast<std::size_t>(rows * directions));
        });
    }
};

}  // namespace

namespace ntkfast {

void run_on_device(const Gradient<float>& g, const Device& device, const Poll& poll) {
    GradientOnDevice<float>(g, device, poll).run();
}
void run_on_device(const Gradient<double>& g, const Device& device, const Poll& poll) {
    GradientOnDevice<double>(g, device, poll).run();
}

}  // namespace ntkfast
