// The numbers of rows that layers multiply pairwise, from norms that lie on a device.
#include "cuda/device.hpp"
#include "cuda/run.hpp"
#include "host/row_stats.hpp"

namespace {

using namespace ntkfast;

// A thread per row.
template <class T>
NTK_KERNEL numbers_of_layers(NTK_ARGUMENT LayerNumbers<T> p) {
    const Layers<T>& map = p.map;
    for (int64_t i = first_element(); i < p.n; i += element_step()) {
        const T norm = p.norms[i] > 0 ? p.norms[i] : p.tiny;
        T* const to = p.to + i * (p.columns ? 1 : map.stats);
        const Own own = numbers_of_row<T>(map, norm, nullptr, p.columns ? p.n : 1, to);
        if (!p.diagonal) continue;
        const double values[2] = {own.tangent, own.variance};
        for (int k = 0; k < 2; ++k)
            p.diagonal[2 * i + k] =
                static_cast<T>(std::ldexp(map.exact_scale[k] * values[k], map.exponent));
    }
}

}  // namespace

namespace ntkfast {

void run_on_device(const LayerNumbers<float>& p, const Device& device, const Poll&) {
    launch_over(device, numbers_of_layers<float>, p.n, p);
}
void run_on_device(const LayerNumbers<double>& p, const Device& device, const Poll&) {
    launch_over(device, numbers_of_layers<double>, p.n, p);
}

}  // namespace ntkfast
