// Kernels of convolutional networks on a device: the host's part of what image_kernels.hpp computes.
#include <memory>
#include <stdexcept>
#include <vector>

#include "cuda/image_kernels.hpp"
#include "cuda/run.hpp"

namespace {

struct NetOnDevice {
    Numbers<ImageStep> steps;
    Numbers<Level> levels;
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
        const std::size_t planes = sizeof(T) * static_cast<std::size_t>(plane_numbers(sizes));
        const bool fits = shared_ + planes <= largest_shared(device);
        const int64_t each = pool_numbers(sizes) + (fits ? 0 : plane_numbers(sizes));
        blocks_ = smaller(smaller(most, kMostBlocks), larger(1, chunk_numbers() / larger(1, each)));
        if (fits)
            shared_ += planes;
        else
            planes_ = Numbers<T>(device, blocks_ * plane_numbers(sizes));
        store_ = Numbers<T>(device, blocks_ * pool_numbers(sizes));
    }

    using Kernel = void (*)(ImageJob<T>);  // [whether planes are in shared memory]
    void start(const Kernel (&kernel)[2], int64_t items, ImageJob<T> job) const {
        job.planes = planes_.get(), job.store = store_.get();
        launch(device_, kernel[job.planes == nullptr], smaller(items, blocks_), kImageThreads,
               shared_, job);
    }

  private:
    static constexpr int64_t kMostBlocks = 4096;
    const Device& device_;
    std::size_t shared_;
    int64_t blocks_;
    Numbers<T> planes_, store_;
};

// Where results go: memory of the host or of the device, and factors in the same place.
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
    put_image_values<T>(values, p.out, p.ldo, i, j, p.symmetric);
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

// Pairs of images between two looks for Ctrl-C: half a second by the steps of their pairs of pixels, of
// which a device does some 2^36 a second; enough for all multiprocessors.
int64_t pairs_of_launch(const ImageNet& net, const ImageSizes& sizes) {
    constexpr int64_t kSteps = int64_t{1} << 35, kLeast = 1 << 10, kMost = 1 << 16;
    const Displaced all(net.level[0], net.level[0].reach, net.circular);
    const int64_t planes = larger(1, all.rows.count * all.columns.count);
    const int64_t steps = planes * larger(1, sizes.area) * larger(1, net.count);
    return larger(kLeast, smaller(kMost, kSteps / steps));
}

template <class T>
void run_images(const Images<T>& p, const Device& device, const Poll& poll) {
    if (p.n == 0 || p.m == 0) return;
    for (int64_t k = 0; k < p.net.count; ++k)
        if (p.net.step[k].operation == ImageOperation::kActivate)
            throw std::invalid_argument(
                "engine: expected \"native\" or \"numba\" for images with activations other than "
                "ReLU");
    const ImageSizes sizes(p.net);
    const int64_t pairs = pairs_of_launch(p.net, sizes);
    const NetOnDevice net(device, p.net);
    const ImagesOnDevice<T> x(device, sizes, p.x, p.ldx, p.scale_x, p.n);
    const bool pools = next_pool(p.net, 0) < p.net.count;
    const ImageLauncher<T> launcher(device, sizes, larger(p.n, pairs));
    const int64_t m = p.diagonal ? 1 : p.m, rows = smaller(p.n, larger(1, pairs / m));
    const Numbers<double> totals(device, larger(2 * rows * m, 1));
    const bool there = on_device(p.out[0] ? p.out[0] : p.out[1]);
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
    using Kernel = typename ImageLauncher<T>::Kernel;
    const Kernel prepare[2] = {prepare_images<T, false>, prepare_images<T, true>};
    const Kernel pairs_of_images[2] = {image_pairs<T, false>, image_pairs<T, true>};
    const auto by_rows = [&](const Kernel(&kernel)[2]) {
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
    if (p.diagonal) return by_rows(prepare);
    launcher.start(prepare, p.n, job);
    std::unique_ptr<ImagesOnDevice<T>> y;
    if (!p.symmetric) {
        y = std::make_unique<ImagesOnDevice<T>>(device, sizes, p.y, p.ldy, p.scale_y, p.m);
        ImageJob<T> other = job;
        other.x = y->view, other.end = p.m;
        launcher.start(prepare, p.m, other);
        job.y = y->view;
    }
    by_rows(pairs_of_images);
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
