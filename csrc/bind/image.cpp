// Convolutional kernels in the Python module: arrays of images in, Gram matrices out.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "bind/bind.hpp"
#include "host/pixel_numbers.hpp"

namespace ntkfast {
namespace {

// A network on images of one shape.
struct ImageNetHolder {
    std::vector<ImageStep> steps;
    std::vector<Level> levels;
    std::vector<double> weight_h, weight_w;
    std::vector<LayerConstants<float>> constants_f32;
    std::vector<LayerConstants<double>> constants_f64;
    ImageNet net;
};

template <class T>
using Dense = py::array_t<T, py::array::c_style>;

// One axis of an image before and after a step.
struct AxisOfStep {
    std::int64_t now, next, unit, next_unit, reach;
};

// Numbers of pixels and units of displacement fit, so that no window leaves the memory of an engine.
void check_axis(const ImageStep& step, int axis, const AxisOfStep& at, bool circular) {
    const std::int64_t window = step.window[axis], stride = step.stride[axis];
    const std::int64_t before = step.before[axis];
    if (step.operation != ImageOperation::kConv && step.operation != ImageOperation::kPool) return;
    expect(window >= 1 && stride >= 1 && before >= 0, "steps: bad window");
    expect(before < (1 << 20) && window < (1 << 20) && stride < (1 << 20), "steps: large window");
    const std::int64_t covered = (at.next - 1) * stride + window;
    if (step.operation == ImageOperation::kPool)
        expect(at.unit == 1, "levels: wrong unit before a pool");
    else
        expect(at.reach <= 0 || at.unit == stride * at.next_unit,
               "levels: wrong unit before a convolution");
    if (circular && step.operation == ImageOperation::kConv)
        expect(before < window && window <= at.now &&
                   (at.next == 1 || at.now == stride * at.next) &&
                   covered - before - at.now < window,
               "steps: the filter does not fit a circle");
}

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
    holder->steps.assign(steps.data(), steps.data() + count);
    int64_t offset = 0, numbers = 0;
    for (int64_t k = 0; k <= count; ++k) {
        const ImageLevel& r = levels.data()[k];
        expect(r.height >= 1 && r.width >= 1, "levels: expected images of at least one pixel");
        expect(r.scale_h >= 1 && r.scale_w >= 1, "levels: expected units of at least one pixel");
        expect(!circular || (r.height % r.scale_h == 0 && r.width % r.scale_w == 0),
               "levels: units do not divide a circle");
        expect(r.reach_h >= 0 && r.own_h >= -1 && r.reach_w >= 0 && r.own_w >= -1 &&
                   (!circular || (std::max(r.reach_h, r.own_h) * r.scale_h < r.height &&
                                  std::max(r.reach_w, r.own_w) * r.scale_w < r.width)),
               "levels: displacement out of range");
        holder->levels.push_back({r.height,
                                  r.width,
                                  offset,
                                  {r.reach_h, r.reach_w},
                                  {r.own_h, r.own_w},
                                  {r.scale_h, r.scale_w},
                                  numbers});
        offset += r.height * r.width;
        if (k == count) break;
        const ImageStep& step = steps.data()[k];
        const LayerRow layer = layer_of(step);
        expect(step.kind >= ActivationKind::kIdentity && step.kind < ActivationKind::kHermite,
               "steps: unknown activation");
        holder->constants_f32.push_back(layer_constants<float>(layer));
        holder->constants_f64.push_back(layer_constants<double>(layer));
        if (step.operation == ImageOperation::kActivate)
            numbers += (activation_stats(layer) + 1) * r.height * r.width;
    }
    const Level* saved[kSlots] = {};
    for (int64_t k = 0; k < count; ++k) {
        const ImageStep& step = holder->steps[static_cast<std::size_t>(k)];
        const ImageOperation op = step.operation;
        expect(op >= ImageOperation::kConv && op <= ImageOperation::kMultiply,
               "steps: unknown operation");
        expect(step.slot >= 0 && step.slot < kSlots, "steps: slot out of range");
        const Level &now = holder->levels[static_cast<std::size_t>(k)],
                    &next = holder->levels[static_cast<std::size_t>(k + 1)];
        const std::int64_t reach[2] = {std::max(now.reach[0], now.own[0]),
                                       std::max(now.reach[1], now.own[1])};
        check_axis(step, 0, {now.h, next.h, now.scale[0], next.scale[0], reach[0]}, circular);
        check_axis(step, 1, {now.w, next.w, now.scale[1], next.scale[1], reach[1]}, circular);
        const auto like = [&](const Level* one) {
            return one && one->h == next.h && one->w == next.w && one->scale[0] == next.scale[0] &&
                   one->scale[1] == next.scale[1];
        };
        if (op == ImageOperation::kConv || op == ImageOperation::kPool) {
            if (op == ImageOperation::kPool) std::fill(saved, saved + kSlots, nullptr);
            continue;
        }
        if (op == ImageOperation::kSwap || op == ImageOperation::kAdd ||
            op == ImageOperation::kMultiply)
            expect(like(saved[step.slot]), "steps: nothing of this shape was saved");
        if (op != ImageOperation::kSwap) expect(like(&now), "levels: wrong shape");
        if (op == ImageOperation::kSave || op == ImageOperation::kSwap) saved[step.slot] = &now;
    }
    const Level& last = holder->levels.back();
    expect(last.scale[0] == 1 && last.scale[1] == 1, "levels: wrong unit at the end");
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
                   bias,
                   {holder->constants_f32.data(), numbers_of_pixels<float>},
                   {holder->constants_f64.data(), numbers_of_pixels<double>}};
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
