// Kernels of convolutional networks on a card: one pair of images per block at a time.
//
// As on the CPU the planes of displacements are worked on one after the other; the threads share the
// pixel pairs of a plane. Planes lie in shared memory where they fit, window sums are taken along
// columns first, then along rows. Standard deviations are found beforehand, one image per block.
#include "formulas/image_pairs.hpp"

#include <memory>
#include <vector>

#include "cuda/device.hpp"
#include "cuda/run.hpp"

namespace {

constexpr int kImageThreads = 128;

template <class T>
struct PlaneOnDevice {
    T *s, *v, *t;
    NTK_DEVICE PixelPair<T> get(int64_t at) const { return {s[at], v[at], t[at]}; }
    NTK_DEVICE void put(int64_t at, const PixelPair<T>& pair) const {
        s[at] = pair.s, v[at] = pair.v, t[at] = pair.t;
    }
};

// Numbers that a block works on: sums of pools on the card, the planes there or in shared memory.
struct ImageSizes {
    int64_t area, pixels, data, slots, pooled;

    explicit ImageSizes(const ImageNet& net)
        : area(net.level[0].h * net.level[0].w),
          pixels(total_pixels(net)),
          data(area * net.channels),
          slots(0),
          pooled(0) {
        for (int64_t k = 0; k < net.count; ++k) {
            const ImageStep& step = net.step[k];
            if (step.op == ImageOp::kSave) slots = larger(slots, step.slot + 1);
            if (step.op != ImageOp::kPool) continue;
            const ImageLevel& next = net.level[k + 1];
            pooled = larger(pooled, Store(next, next.reach, net.circular).size());
            if (next.self[0] >= 0)
                pooled = larger(pooled, Store(next, next.self, net.circular).size());
        }
    }
    NTK_FN int64_t plane_numbers() const { return (8 + 3 * slots) * area; }
    NTK_FN int64_t pool_numbers() const { return 4 * pooled; }
};

template <class T>
struct ImageWork {
    PlaneOnDevice<T> plane, other, slot[kSlots];
    T *sums_s, *sums_t;  // windows along columns
    T* store[2];
    double* partial;  // [2][threads]

    NTK_DEVICE ImageWork(const ImageSizes& sizes, T* planes, T* pools, double* totals)
        : partial(totals) {
        const auto take = [&] {
            T* const at = planes;
            planes += sizes.area;
            return at;
        };
        const auto take_plane = [&](PlaneOnDevice<T>& to) {
            to.s = take(), to.v = take(), to.t = take();
        };
        take_plane(plane), take_plane(other);
        for (int64_t k = 0; k < kSlots; ++k)
            if (k < sizes.slots) take_plane(slot[k]);
        sums_s = take(), sums_t = take();
        store[0] = pools, store[1] = pools + 2 * sizes.pooled;
    }
};

template <class T, bool Self>
struct PairOnDevice : PairOfImages<T, Self> {
    ImageWork<T>& work;
};

// Calls body(index in the plane, row, column, pixel of x, pixel of y) for this thread's pairs.
template <class Body>
NTK_DEVICE void own_pairs(const ImageLevel& level, const Frame& f, Body body) {
    for (int64_t at = thread(); at < f.rows.length * f.columns.length; at += threads()) {
        const int64_t i = at / f.columns.length, j = at % f.columns.length;
        body(at, i, j, level.offset + (f.rows.x + i) * level.w + f.columns.x + j,
             level.offset + f.rows.other(i, level.h) * level.w + f.columns.other(j, level.w));
    }
}

template <class T, bool Self>
NTK_DEVICE void start_pairs(const PairOnDevice<T, Self>& p) {
    own_pairs(p.net.level[0], p.frame(0), [&](int64_t at, int64_t, int64_t, int64_t x, int64_t y) {
        p.work.plane.put(at, {first_covariance<T>(p, x, y), T(0), T(0)});
    });
    barrier();
}

template <class T, bool Self>
NTK_DEVICE PixelPair<T> after_relu(const PairOnDevice<T, Self>& p, int64_t at, int64_t x,
                                   int64_t y) {
    const PixelPair<T> pair = p.work.plane.get(at);
    return relu_pair<T, false>(pair.s, pair.v, pair.t, p.left(p.x.norm, x) * p.right(p.y.norm, y));
}

template <class T, bool Self>
NTK_DEVICE void relu_pairs(const PairOnDevice<T, Self>& p, int64_t k) {
    own_pairs(p.net.level[k + 1], p.frame(k),
              [&](int64_t at, int64_t, int64_t, int64_t x, int64_t y) {
                  p.work.plane.put(at, after_relu(p, at, x, y));
              });
    barrier();
}

template <class T, bool Self, bool Raw>
NTK_DEVICE void convolve_pairs(const PairOnDevice<T, Self>& p, int64_t k) {
    const ImageStep& step = p.net.step[k];
    const Frame now = p.frame(k), next = p.frame(k + 1);
    const int64_t start = step.valid ? 0 : -(step.size / 2), width = now.columns.length;
    const PlaneOnDevice<T> plane = p.work.plane, other = p.work.other;
    const auto tap = [&](int64_t i, const Segment& along) {
        return met(i + start, along.length, p.net.circular);
    };
    for (int64_t at = thread(); at < next.rows.length * width; at += threads()) {
        T s = 0, t = 0;
        for (int64_t a = 0; a < step.size; ++a) {
            const int64_t row = tap(at / width + a, now.rows);
            if (row < 0) continue;
            s += plane.s[row * width + at % width];
            if constexpr (!Raw) t += plane.t[row * width + at % width];
        }
        p.work.sums_s[at] = s, p.work.sums_t[at] = t;
    }
    barrier();
    own_pairs(
        p.net.level[k + 1], next, [&](int64_t at, int64_t i, int64_t j, int64_t x, int64_t y) {
            T s = 0, t = 0;
            for (int64_t b = 0; b < step.size; ++b) {
                const int64_t column = tap(j + b, now.columns);
                if (column < 0) continue;
                s += p.work.sums_s[i * width + column];
                t += p.work.sums_t[i * width + column];
            }
            const auto better = [&](T sum, T inverse_x, T inverse_y) {
                return window_defect<T, Raw>(
                    p, k, i, j, sum, inverse_x, inverse_y, [&](int64_t a, int64_t b) {
                        return plane.get(tap(i + a, now.rows) * width + tap(j + b, now.columns));
                    });
            };
            other.put(at, convolved<T, Raw>(p, step, x, y, s, t, better));
        });
    barrier();
    p.work.plane = other, p.work.other = plane;
}

template <class T, bool Self>
NTK_DEVICE void save_pairs(const PairOnDevice<T, Self>& p, int64_t k) {
    const Frame f = p.frame(k);
    const PlaneOnDevice<T>& slot = p.work.slot[p.net.step[k].slot];
    for (int64_t at = thread(); at < f.rows.length * f.columns.length; at += threads())
        slot.put(at, p.work.plane.get(at));
    barrier();
}

template <class T, bool Self>
NTK_DEVICE void add_pairs(const PairOnDevice<T, Self>& p, int64_t k) {
    const PlaneOnDevice<T>& slot = p.work.slot[p.net.step[k].slot];
    const int64_t here = p.net.level[k + 1].offset, to_branch = here - p.net.level[k].offset;
    const int64_t to_saved = here - saved_level(p.net, k).offset;
    own_pairs(
        p.net.level[k + 1], p.frame(k), [&](int64_t at, int64_t, int64_t, int64_t x, int64_t y) {
            p.work.plane.put(
                at, added<T>(p, x, y, p.work.plane.get(at), to_branch, slot.get(at), to_saved));
        });
    barrier();
}

// Adds the plane to those after step k, a pool. A thread takes whole blocks of pixels of x, whose
// pairs no other thread adds to, and in the order of the CPU.
template <class T, bool Self>
NTK_DEVICE void pool_pairs(const PairOnDevice<T, Self>& p, int64_t k, const Store& to, T* sums) {
    const Frame f = p.frame(k);
    const ImageLevel& level = p.net.level[k];
    const int64_t block = p.net.step[k].size, half = to.size(), all = to.all_columns();
    const T share = T(1) / static_cast<T>(block * block * block * block);
    for (int64_t target = thread(); target < to.h * to.w; target += threads()) {
        const int64_t xr = target / to.w, xc = target % to.w;
        for (int64_t e = 0; e < block * block; ++e) {
            const int64_t i = xr * block + e / block - f.rows.x,
                          j = xc * block + e % block - f.columns.x;
            if (i < 0 || i >= f.rows.length || j < 0 || j >= f.columns.length) continue;
            const int64_t a = to.find(to.rows, f.rows.other(i, level.h) / block - xr, to.h);
            const int64_t b = to.find(to.columns, f.columns.other(j, level.w) / block - xc, to.w);
            if (a < 0 || b < 0) continue;
            const Segment rows = pairs_at(to.rows.first + a, to.h, to.circular),
                          columns = pairs_at(to.columns.first + b, to.w, to.circular);
            T* const s = sums + to.before(to.rows, to.h, a) * all +
                         rows.length * to.before(to.columns, to.w, b) +
                         (xr - rows.x) * columns.length + xc - columns.x;
            const int64_t at = i * f.columns.length + j;
            s[0] += share * p.work.plane.s[at];
            s[half] += share * p.work.plane.t[at];
        }
    }
    barrier();
}

template <class T, bool Self>
NTK_DEVICE void fetch_pairs(const PairOnDevice<T, Self>& p, int64_t k, const Store& from, int64_t a,
                            int64_t b, const T* sums) {
    const T* const s = sums + plane_at(from, a, b);
    const T* const t = s + from.size();
    const T differ = p.di == 0 && p.dj == 0 ? p.differ : T(1);
    own_pairs(p.net.level[k], p.frame(k), [&](int64_t at, int64_t, int64_t, int64_t x, int64_t y) {
        p.work.plane.put(at, pooled<T>(p, x, y, s[at], t[at], differ));
    });
    barrier();
}

struct Totals {
    double t, s;
};

// Adds this thread's part of the weighted sums of T and S, after a last ReLU.
template <class T, bool Self>
NTK_DEVICE void read_pairs(const PairOnDevice<T, Self>& p, double factor, Totals& total) {
    const ImageLevel& level = last_level(p.net);
    const Frame f = p.frame(p.net.count);
    const bool relu = relu_before(p.net, p.net.count);
    T s = 0, t = 0;
    own_pairs(level, f, [&](int64_t at, int64_t i, int64_t j, int64_t x, int64_t y) {
        const PixelPair<T> pair = relu ? after_relu(p, at, x, y) : p.work.plane.get(at);
        const T share = static_cast<T>(
            p.net.weight_h[(f.rows.x + i) * level.h + f.rows.other(i, level.h)] *
            p.net.weight_w[(f.columns.x + j) * level.w + f.columns.other(j, level.w)]);
        s += share * pair.s, t += share * pair.t;
    });
    total.s += factor * static_cast<double>(s), total.t += factor * static_cast<double>(t);
    barrier();
}

template <class T, bool Self>
NTK_DEVICE void run_steps(const PairOnDevice<T, Self>& p, int64_t k, int64_t end) {
    for (; k < end; ++k) switch (p.net.step[k].op) {
            case ImageOp::kConv:
                if (k == 0)
                    convolve_pairs<T, Self, true>(p, k);
                else
                    convolve_pairs<T, Self, false>(p, k);
                break;
            case ImageOp::kRelu: relu_pairs(p, k); break;
            case ImageOp::kSave: save_pairs(p, k); break;
            case ImageOp::kAdd: add_pairs(p, k); break;
            case ImageOp::kPool: break;
        }
}

// ---- deviations of images -----------------------------------------------------------------------

template <class T>
NTK_DEVICE void put_deviation(const Pixels<T>& side, int64_t pixel, const Deviation<T>& now) {
    side.norm[pixel] = now.norm, side.inverse[pixel] = now.inverse;
}

template <class T>
NTK_DEVICE void first_deviations(const ImageNet& net, const Pixels<T>& side) {
    for (int64_t k = thread(); k < net.level[0].h * net.level[0].w; k += threads()) {
        T sum = 0;
        for (int64_t c = 0; c < net.channels; ++c) {
            const T a = side.data[k * net.channels + c];
            sum += a * a;
        }
        put_deviation<T>(side, k, deviation<T>(sum));
    }
    barrier();
}

// The sum of the variances of the window of a pixel after a convolution.
template <class T>
NTK_DEVICE T window_variance(const ImageNet& net, int64_t k, const Pixels<T>& side, int64_t pixel) {
    const ImageStep& step = net.step[k];
    const ImageLevel &now = net.level[k], &next = net.level[k + 1];
    const int64_t start = step.valid ? 0 : -(step.size / 2);
    T sum = 0;
    for (int64_t a = 0; a < step.size; ++a)
        for (int64_t b = 0; b < step.size; ++b) {
            const int64_t row = met(pixel / next.w + a + start, now.h, net.circular),
                          column = met(pixel % next.w + b + start, now.w, net.circular);
            if (row < 0 || column < 0) continue;
            const T n = side.norm[now.offset + row * now.w + column];
            sum += n * n;
        }
    return sum;
}

// Deviations after a step that is no pool.
template <class T>
NTK_DEVICE void next_deviations(const ImageNet& net, int64_t k, const Pixels<T>& side) {
    const ImageStep& step = net.step[k];
    const ImageLevel &now = net.level[k], &next = net.level[k + 1];
    const int64_t other = step.op == ImageOp::kAdd ? saved_level(net, k).offset : 0;
    for (int64_t pixel = thread(); pixel < next.h * next.w; pixel += threads()) {
        const T n = side.norm[now.offset + (step.op == ImageOp::kConv ? 0 : pixel)];
        Deviation<T> result;
        if (step.op == ImageOp::kConv)
            result = deviation<T>(window_variance(net, k, side, pixel) * static_cast<T>(step.gain) +
                                  static_cast<T>(step.bias));
        else if (step.op == ImageOp::kRelu)
            result = deviation_after_relu<T>(n, side.inverse[now.offset + pixel]);
        else if (step.op == ImageOp::kAdd)
            result = deviation<T>(n * n + side.norm[other + pixel] * side.norm[other + pixel]);
        else
            result = deviation<T>(n * n);
        put_deviation<T>(side, next.offset + pixel, result);
    }
    barrier();
}

// ---- a pair of images ---------------------------------------------------------------------------

// As run_pair of the CPU: all steps on all planes; the result is this thread's part of the totals.
template <class T, bool Self>
NTK_DEVICE Totals all_planes(PairOnDevice<T, Self>& p, bool whole) {
    const ImageNet& net = p.net;
    Totals total{0, 0};
    const auto store_of = [&](int64_t k) {
        return Store(net.level[k], whole ? net.level[k].reach : net.level[k].self, net.circular);
    };
    T *from = p.work.store[0], *to = p.work.store[1];
    for (int64_t k = 0;;) {
        const int64_t end = next_pool(net, k);
        if constexpr (Self)
            for (int64_t l = k; l < end; ++l) next_deviations(net, l, p.x);
        if (end == net.count && !whole) return total;
        const Store here = store_of(k), next = store_of(end < net.count ? end + 1 : end);
        if (end < net.count)
            for (int64_t e = thread(); e < 2 * next.size(); e += threads()) to[e] = 0;
        barrier();
        for (int64_t a = 0; a < here.rows.count; ++a)
            for (int64_t b = 0; b < here.columns.count; ++b) {
                const double factor = Self && !p.pools ? multiplicity(here, a, b) : 1;
                if (factor == 0) continue;
                p.di = here.rows.first + a, p.dj = here.columns.first + b;
                if (k == 0)
                    start_pairs(p);
                else
                    fetch_pairs(p, k, here, a, b, from);
                run_steps(p, k, end - (end == net.count && relu_before(net, net.count)));
                if (end < net.count)
                    pool_pairs(p, end, next, to);
                else
                    read_pairs(p, factor, total);
            }
        if (end == net.count) return total;
        T* const done = to;
        to = from, from = done, k = end + 1;
        if constexpr (Self) {  // the variances after the pool are the pairs without displacement
            const int64_t at =
                plane_at(next, next.find(next.rows, 0, next.h), next.find(next.columns, 0, next.w));
            for (int64_t pixel = thread(); pixel < next.h * next.w; pixel += threads())
                put_deviation<T>(p.x, net.level[k].offset + pixel, deviation<T>(from[at + pixel]));
            barrier();
        }
    }
}

// Sums the parts of the threads, in a fixed order, into totals[2]: of T and of S.
template <class T>
NTK_DEVICE void add_up(const ImageWork<T>& work, const Totals& own, double* totals) {
    work.partial[thread()] = own.t, work.partial[threads() + thread()] = own.s;
    barrier();
    if (thread() < 2) {
        double sum = 0;
        for (int k = 0; k < threads(); ++k) sum += work.partial[thread() * threads() + k];
        totals[thread()] = sum;
    }
    barrier();
}

template <class T>
struct ImageSide {
    const T *x, *scale;  // images as they are given; null once they are prepared
    T *data, *norm, *inverse;
    NTK_DEVICE Pixels<T> image(const ImageSizes& sizes, int64_t i) const {
        return {data + i * sizes.data, norm + i * sizes.pixels, inverse + i * sizes.pixels};
    }
};

template <class T>
struct ImageJob {
    ImageNet net;  // arrays on the card
    ImageSizes sizes;
    ImageSide<T> x, y;
    int64_t begin, end, m;  // images of x: begin to end; images of y
    bool symmetric, pools, whole;
    T *planes, *store;  // of all blocks; planes: null in shared memory
    double* totals;     // [end - begin][m][2]
};

template <class T>
NTK_DEVICE ImageWork<T> work_of(const ImageJob<T>& job) {
    double* const partial = shared_memory<double>();
    T* const shared = reinterpret_cast<T*>(partial + 2 * threads());
    T* const planes = job.planes ? job.planes + block() * job.sizes.plane_numbers() : shared;
    return {job.sizes, planes, job.store + block() * job.sizes.pool_numbers(), partial};
}

// Reads images and finds their deviations; if `whole`, their kernels with themselves too.
template <class T>
NTK_KERNEL prepare_images(ImageJob<T> job) {
    ImageWork<T> work = work_of(job);
    for (int64_t i = job.begin + block(); i < job.end; i += blocks()) {
        const Pixels<T> side = job.x.image(job.sizes, i);
        for (int64_t k = thread(); k < job.sizes.data; k += threads())
            side.data[k] = job.x.x[i * job.sizes.data + k] * job.x.scale[i];
        barrier();
        first_deviations(job.net, side);
        PairOnDevice<T, true> self{{job.net, side, side, job.pools, T(0), 0, 0}, work};
        const Totals own = all_planes(self, job.whole);
        if (job.whole) add_up(work, own, job.totals + 2 * (i - job.begin));
        barrier();
    }
}

// 0 where two images are equal, else 1; all threads of the block take part.
template <class T>
NTK_DEVICE T different_images(const ImageSizes& sizes, const Pixels<T>& x, const Pixels<T>& y,
                              double* partial) {
    double found = 0;
    for (int64_t k = thread(); k < sizes.data; k += threads())
        if (!(x.data[k] == y.data[k])) found = 1;
    partial[thread()] = found;
    barrier();
    for (int k = 0; k < threads(); ++k) found = max2(found, partial[k]);
    barrier();
    return static_cast<T>(found);
}

template <class T>
NTK_KERNEL image_pairs(ImageJob<T> job) {
    ImageWork<T> work = work_of(job);
    for (int64_t at = block(); at < (job.end - job.begin) * job.m; at += blocks()) {
        const int64_t i = job.begin + at / job.m, j = at % job.m;
        if (job.symmetric && j < i) continue;
        const Pixels<T> x = job.x.image(job.sizes, i), y = job.y.image(job.sizes, j);
        const T differ = job.pools ? different_images(job.sizes, x, y, work.partial) : T(1);
        PairOnDevice<T, false> pair{{job.net, x, y, job.pools, differ, 0, 0}, work};
        add_up(work, all_planes(pair, true), job.totals + 2 * at);
    }
}

// ---- the host's part ----------------------------------------------------------------------------

struct NetOnDevice {
    Numbers<ImageStep> steps;
    Numbers<ImageLevel> levels;
    Numbers<double> weight_h, weight_w;
    ImageNet view;

    NetOnDevice(const Device& device, const ImageNet& net)
        : steps(device, net.step, net.count),
          levels(device, net.level, net.count + 1),
          weight_h(device, net.weight_h, last_level(net).h * last_level(net).h),
          weight_w(device, net.weight_w, last_level(net).w * last_level(net).w),
          view(net) {
        view.step = steps.get(), view.level = levels.get();
        view.weight_h = weight_h.get(), view.weight_w = weight_w.get();
    }
};

template <class T>
struct ImagesOnDevice {
    Numbers<T> given, scale, data, norm, inverse;
    ImageSide<T> view;

    ImagesOnDevice(const Device& device, const ImageSizes& sizes, const T* x, int64_t ld,
                   const T* factors, int64_t count)
        : given(dense_copy(device, x, ld, count, sizes.data)),
          scale(device, factors, count),
          data(device, count * sizes.data),
          norm(device, count * sizes.pixels),
          inverse(device, count * sizes.pixels),
          view{given.get(), scale.get(), data.get(), norm.get(), inverse.get()} {}
};

// Starts kernels, with the memory that their blocks work in.
template <class T>
class ImageLauncher {
  public:
    ImageLauncher(const Device& device, const ImageSizes& sizes, int64_t most)
        : device_(device), shared_(2 * kImageThreads * sizeof(double)) {
        const std::size_t planes = sizeof(T) * static_cast<std::size_t>(sizes.plane_numbers());
        const bool fits = shared_ + planes <= largest_shared(device);
        const int64_t each = sizes.pool_numbers() + (fits ? 0 : sizes.plane_numbers());
        blocks_ = smaller(smaller(most, kMostBlocks), larger(1, chunk_numbers() / larger(1, each)));
        if (fits)
            shared_ += planes;
        else
            planes_ = Numbers<T>(device, blocks_ * sizes.plane_numbers());
        store_ = Numbers<T>(device, blocks_ * sizes.pool_numbers());
    }

    void start(void (*kernel)(ImageJob<T>), int64_t items, ImageJob<T> job) const {
        job.planes = planes_.get(), job.store = store_.get();
        launch(device_, kernel, smaller(items, blocks_), kImageThreads, shared_, job);
    }

  private:
    static constexpr int64_t kMostBlocks = 4096;
    const Device& device_;
    std::size_t shared_;
    int64_t blocks_;
    Numbers<T> planes_, store_;
};

// Where results go: memory of the host or of the card, and factors in the same place.
template <class T>
struct ImageResults {
    ImageNet net;
    const T *factor_x, *factor_y;
    T* out[2];
    int64_t ldo[2];
    const double* totals;  // of the images from `begin` on
    int64_t begin, end, m;
    bool symmetric, diagonal;
};

// Writes the results of a pair; of a diagonal one column.
template <class T>
NTK_FN void write_pair(const ImageResults<T>& p, int64_t i, int64_t j) {
    if (p.symmetric && j < i) return;
    const double* const total = p.totals + 2 * ((i - p.begin) * p.m + j);
    const T factor = p.diagonal ? p.factor_x[i] : p.factor_y[j];
    const ImageValues values = image_values(
        p.net, total[0], total[1], static_cast<double>(p.factor_x[i]), static_cast<double>(factor));
    for (int k = 0; k < 2; ++k) {
        if (!p.out[k]) continue;
        p.out[k][i * p.ldo[k] + j] = static_cast<T>(values.value[k]);
        if (p.symmetric) p.out[k][j * p.ldo[k] + i] = static_cast<T>(values.value[k]);
    }
}

template <class T>
NTK_KERNEL write_pairs(ImageResults<T> p) {
    for (int64_t at = first_element(); at < (p.end - p.begin) * p.m; at += element_step())
        write_pair(p, p.begin + at / p.m, at % p.m);
}

template <class T>
void write_on_host(ImageResults<T> p, const Device& device, std::vector<double>& totals) {
    totals.resize(static_cast<std::size_t>(2 * (p.end - p.begin) * p.m));
    copy_bytes(device, totals.data(), p.totals, sizeof(double) * totals.size());
    p.totals = totals.data();
    for (int64_t i = p.begin; i < p.end; ++i)
        for (int64_t j = 0; j < p.m; ++j) write_pair(p, i, j);
}

template <class T>
void run_images(const Images<T>& p, const Device& device, const Poll& poll) {
    if (p.n == 0 || p.m == 0) return;
    constexpr int64_t kPairs = 1 << 16;  // of a launch: seconds at most, between looks for Ctrl-C
    const ImageSizes sizes(p.net);
    const NetOnDevice net(device, p.net);
    const ImagesOnDevice<T> x(device, sizes, p.x, p.ldx, p.scale_x, p.n);
    const bool pools = next_pool(p.net, 0) < p.net.count;
    const ImageLauncher<T> launcher(device, sizes, larger(p.n, kPairs));
    const int64_t m = p.diagonal ? 1 : p.m, rows = smaller(p.n, larger(1, kPairs / m));
    const Numbers<double> totals(device, larger(2 * rows * m, 1));
    const bool there = on_card(p.out[0] ? p.out[0] : p.out[1]);
    const Numbers<T> factor_x(device, p.factor_x, there ? p.n : 0),
        factor_y(device, p.factor_y, there ? p.m : 0);
    ImageResults<T> results{p.net,
                            there ? factor_x.get() : p.factor_x,
                            there ? factor_y.get() : p.factor_y,
                            {p.out[0], p.out[1]},
                            {p.ldo[0], p.ldo[1]},
                            totals.get(),
                            0,
                            0,
                            m,
                            p.symmetric,
                            p.diagonal};
    std::vector<double> values;
    ImageJob<T> job{net.view,    sizes, x.view,     x.view,  0,       p.n,         p.m,
                    p.symmetric, pools, p.diagonal, nullptr, nullptr, totals.get()};
    const auto by_rows = [&](void (*kernel)(ImageJob<T>)) {
        for (job.begin = 0; job.begin < p.n; job.begin += rows) {
            poll();
            job.end = smaller(p.n, job.begin + rows);
            launcher.start(kernel, (job.end - job.begin) * m, job);
            results.begin = job.begin, results.end = job.end;
            if (there)
                launch_over(device, write_pairs<T>, (job.end - job.begin) * m, results);
            else
                write_on_host(results, device, values);
        }
    };
    if (p.diagonal) return by_rows(prepare_images<T>);
    launcher.start(prepare_images<T>, p.n, job);
    std::unique_ptr<ImagesOnDevice<T>> y;
    if (!p.symmetric) {
        y = std::make_unique<ImagesOnDevice<T>>(device, sizes, p.y, p.ldy, p.scale_y, p.m);
        ImageJob<T> other = job;
        other.x = y->view, other.end = p.m;
        launcher.start(prepare_images<T>, p.m, other);
        job.y = y->view;
    }
    by_rows(image_pairs<T>);
}

}  // namespace

namespace ntkfast {

void run_on_device(const Images<float>& p, const Device& device, const Poll& poll) {
    run_images(p, device, poll);
}
void run_on_device(const Images<double>& p, const Device& device, const Poll& poll) {
    run_images(p, device, poll);
}

}  // namespace ntkfast
