// Convolutional kernels in the Python module: arrays of images in, Gram matrices out.
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <vector>

#include "bind/bind.hpp"

namespace ntkfast {
namespace {

// A network on images of one shape.
struct ImageNetHolder {
    std::vector<ImageStep> steps;
    std::vector<Level> levels;
    std::vector<double> weight_h, weight_w;
    ImageNet net;
};

template <class T>
using Dense = py::array_t<T, py::array::c_style>;

std::unique_ptr<ImageNetHolder> make_net(const Dense<ImageStep>& steps,
                                         const Dense<ImageLevel>& levels, int64_t channels,
                                         bool circular, const Dense<double>& weight_h,
                                         const Dense<double>& weight_w, double trained,
                                         double bias) {
    expect(steps.ndim() == 1 && levels.ndim() == 1 && levels.shape(0) == steps.shape(0) + 1,
           "steps, levels: expected one level more than steps");
    const int64_t count = steps.shape(0);
    expect(channels >= 1, "channels: expected at least 1");
    expect(count >= 1 && steps.data()->operation == ImageOperation::kConv,
           "steps: expected a convolution first");
    auto holder = std::make_unique<ImageNetHolder>();
    std::array<int64_t, 2> saved[kSlots] = {};
    int64_t offset = 0;
    for (int64_t k = 0; k <= count; ++k) {
        const ImageLevel& r = levels.data()[k];
        expect(r.height >= 1 && r.width >= 1, "levels: expected images of at least one pixel");
        expect(r.reach_h >= 0 && r.reach_h < r.height && r.own_h >= -1 && r.own_h < r.height &&
                   r.reach_w >= 0 && r.reach_w < r.width && r.own_w >= -1 && r.own_w < r.width,
               "levels: displacement out of range");
        holder->levels.push_back(
            {r.height, r.width, offset, {r.reach_h, r.reach_w}, {r.own_h, r.own_w}});
        offset += r.height * r.width;
    }
    holder->steps.assign(steps.data(), steps.data() + count);
    for (int64_t k = 0; k < count; ++k) {
        const ImageStep& step = holder->steps[static_cast<std::size_t>(k)];
        expect(step.operation >= ImageOperation::kConv && step.operation <= ImageOperation::kAdd,
               "steps: unknown operation");
        expect(step.slot >= 0 && step.slot < kSlots, "steps: slot out of range");
        const Level &now = holder->levels[static_cast<std::size_t>(k)],
                    &next = holder->levels[static_cast<std::size_t>(k + 1)];
        std::array<int64_t, 2> wanted{now.h, now.w};
        const int64_t size = step.size;
        if (step.operation == ImageOperation::kConv) {
            expect(size >= 1 && size % 2 == 1, "steps: expected an odd filter");
            expect(!circular || (!step.inside && size <= now.h && size <= now.w),
                   "steps: the filter does not fit a circle");
            if (step.inside) wanted = {now.h - size + 1, now.w - size + 1};
        }
        if (step.operation == ImageOperation::kPool) {
            expect(size >= 1 && now.h % size == 0 && now.w % size == 0,
                   "steps: the pool does not divide the image");
            wanted = {now.h / size, now.w / size};
        }
        if (step.operation == ImageOperation::kSave) saved[step.slot] = wanted;
        if (step.operation == ImageOperation::kAdd)
            expect(saved[step.slot] == wanted, "steps: nothing of this shape was saved");
        expect(next.h == wanted[0] && next.w == wanted[1], "levels: wrong shape");
    }
    const Level& last = holder->levels.back();
    expect(weight_h.size() == last.h * last.h && weight_w.size() == last.w * last.w,
           "weights: expected square matrices");
    holder->weight_h.assign(weight_h.data(), weight_h.data() + weight_h.size());
    holder->weight_w.assign(weight_w.data(), weight_w.data() + weight_w.size());
    holder->net = {holder->steps.data(),
                   count,
                   holder->levels.data(),
                   channels,
                   circular,
                   holder->weight_h.data(),
                   holder->weight_w.data(),
                   trained,
                   bias};
    return holder;
}

template <class T>
void images(const ImageNetHolder& net, py::array_t<T> x, Dense<T> scale_x, Dense<T> factor_x,
            std::optional<py::array_t<T>> y, std::optional<Dense<T>> scale_y,
            std::optional<Dense<T>> factor_y, bool diagonal, std::optional<py::array_t<T>> out,
            std::optional<py::array_t<T>> out_second, int threads, const std::string& isa) {
    Images<T> p{};
    p.net = net.net;
    p.symmetric = !y && !diagonal, p.diagonal = diagonal;
    const py::array_t<T>& right = y ? *y : x;
    p.x = x.data(), p.y = right.data();
    p.ldx = row_stride(x, "x"), p.ldy = row_stride(right, "y");
    p.n = x.shape(0), p.m = right.shape(0);
    const int64_t size = net.levels[0].h * net.levels[0].w * net.net.channels;
    expect(x.shape(1) == size && right.shape(1) == size, "x: expected one image per row");
    const Dense<T>&scale = y ? scale_y.value() : scale_x, &factor = y ? factor_y.value() : factor_x;
    expect(scale_x.size() == p.n && factor_x.size() == p.n, "x: expected one factor per image");
    expect(scale.size() == p.m && factor.size() == p.m, "y: expected one factor per image");
    p.scale_x = scale_x.data(), p.factor_x = factor_x.data();
    p.scale_y = scale.data(), p.factor_y = factor.data();
    std::optional<py::array_t<T>>* outs[2] = {&out, &out_second};
    for (int k = 0; k < 2; ++k) {
        if (!*outs[k]) continue;
        py::array_t<T>& to = **outs[k];
        p.ldo[k] = row_stride(to, "out");
        expect(to.shape(0) == p.n && to.shape(1) == (diagonal ? 1 : p.m), "out: wrong shape");
        p.out[k] = to.mutable_data();
    }
    expect(out || out_second, "out: missing");
    call(isa, threads, [&](const auto& set, auto poll) { ntkfast::run(p, set, threads, poll); });
}

template <class T>
void bind_image_dtype(py::module_& m, const char* name) {
    m.def(name, &images<T>, py::arg("net"), py::arg("x").noconvert(),
          py::arg("scale_x").noconvert(), py::arg("factor_x").noconvert(), py::arg("y").noconvert(),
          py::arg("scale_y").noconvert(), py::arg("factor_y").noconvert(), py::arg("diagonal"),
          py::arg("out").noconvert(), py::arg("out_second").noconvert(), py::arg("threads"),
          py::arg("isa"));
}

}  // namespace

void bind_image(py::module_& m) {
    py::class_<ImageNetHolder>(m, "ImageNet", py::module_local())
        .def(py::init(&make_net), py::arg("steps").noconvert(), py::arg("levels").noconvert(),
             py::arg("channels"), py::arg("circular"), py::arg("weight_h").noconvert(),
             py::arg("weight_w").noconvert(), py::arg("trained"), py::arg("bias"));
    bind_image_dtype<float>(m, "images_f32");
    bind_image_dtype<double>(m, "images_f64");
}

}  // namespace ntkfast
