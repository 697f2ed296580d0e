// Gram matrices and products in the Python module: maps, rows and arrays of results.
#include <tuple>

#include "bind/gradient.hpp"

namespace ntkfast {
namespace {

// ---- row norms ----------------------------------------------------------------------------------

#if !defined(NTKFAST_CUDA)
// Euclidean norm without overflow or underflow; NaN or inf if the row holds one.
template <class T>
T norm_of(const T* row, int64_t d) {
    double sum = 0;
    for (int64_t k = 0; k < d; ++k)
        sum += static_cast<double>(row[k]) * static_cast<double>(row[k]);
    if (sum > 1e-280 && sum < 1e300) return static_cast<T>(std::sqrt(sum));
    double largest = 0;
    for (int64_t k = 0; k < d; ++k) {
        const double size = std::fabs(static_cast<double>(row[k]));
        if (!(size <= std::numeric_limits<double>::max())) return static_cast<T>(size + sum);
        largest = std::max(largest, size);
    }
    if (largest == 0) return 0;
    sum = 0;
    for (int64_t k = 0; k < d; ++k) {
        const double ratio = static_cast<double>(row[k]) / largest;
        sum += ratio * ratio;
    }
    return static_cast<T>(largest * std::sqrt(sum));
}

// Norms of rows, the least and the largest of them: NaN if a norm is, for both.
template <class T>
std::tuple<py::array_t<T>, double, double> row_norms(Given<T> x) {
    const int64_t ld = row_stride(x, "x");
    py::array_t<T> norms(x.shape(0));
    T* out = norms.mutable_data();
    const T* data = x.data();
    const int64_t n = x.shape(0), d = x.shape(1);
    T least = std::numeric_limits<T>::infinity(), top = 0;
    bool numbers = true;
    without_lock([&] {
        for (int64_t i = 0; i < n; ++i) {
            out[i] = norm_of(data + i * ld, d);
            least = std::min(least, out[i]);
            top = std::max(top, out[i]);
            numbers &= !std::isnan(out[i]);
        }
    });
    if (!numbers) least = top = std::numeric_limits<T>::quiet_NaN();
    return {std::move(norms), least, top};
}

struct Unseen {
    template <class... Numbers>
    void activation(const Numbers&...) {}
    template <class... Numbers>
    void affine(const Numbers&...) {}
    template <class... Numbers>
    void sum(const Numbers&...) {}
    template <class... Numbers>
    void product(const Numbers&...) {}
};

// NTK and NNGP of rows with themselves, [n][2], by their norms: wide, for depth adds roundings.
template <class T>
py::array_t<double> values_at_equal(const LayersHolder& map,
                                    const Given<T, py::array::c_style>& norms) {
    using Wide = long double;
    const int64_t n = norms.size(), count = static_cast<int64_t>(map.layers.size());
    expect(!std::any_of(map.layers.begin(), map.layers.end(),
                        [](const LayerRow& l) { return l.kind == ActivationKind::kHermite; }),
           "map: expected closed forms");
    py::array_t<double> values({n, int64_t{2}});
    double* out = values.mutable_data();
    const T* norm = norms.data();
    without_lock([&] {
        for (int64_t i = 0; i < n; ++i) {
            const Wide size = norm[i];
            const OwnOf<Wide> own = own_of_row(map.layers.data(), count, size * size, Unseen{});
            const Wide both[2] = {own.tangent, own.variance};
            for (int k = 0; k < 2; ++k)
                *out++ = static_cast<double>(std::ldexp(map.scales[k] * both[k], map.exponent));
        }
    });
    return values;
}
#endif

// ---- Gram matrices and products ----------------------------------------------------------------

template <class T>
void gram(Given<T> x, Given<T> norm_x, std::optional<Given<T>> y, std::optional<Given<T>> norm_y,
          const py::object& map, const py::object& second, std::optional<Given<T>> out,
          std::optional<Given<T>> out_second, std::optional<Given<T, py::array::c_style>> series_x,
          std::optional<Given<T, py::array::c_style>> series_y,
          std::optional<Given<T, py::array::c_style>> diagonal_x, int threads,
          const std::string& isa) {
    const Side<T> left{x, norm_x, series_x, diagonal_x};
    const Side<T> right = y ? Side<T>{*y, norm_y.value(), series_y, {}} : left;
    Call<T> call(left, right);
    call.problem.symmetric = !y;
    call.use(map, second, left, right);
    std::optional<Given<T>>* outs[2] = {&out, &out_second};
    for (int k = 0; k < 2; ++k) {
        if (!*outs[k]) continue;
        Given<T>& to = **outs[k];
        call.problem.ldo[k] = row_stride(to, "out");
        expect(to.shape(0) == call.problem.n && to.shape(1) == call.problem.m, "out: wrong shape");
        call.problem.out[k] = to.mutable_data();
    }
    expect(call.problem.layers ? out || out_second : out && (second.is_none() || out_second),
           "out: missing");
    call.run(isa, threads);
}

#if !defined(NTKFAST_CUDA)
// A Gram matrix rounded once to `kept`, whose bits are in `out`; whether all of it is finite.
template <class T, class Number>
bool rounded(Given<T> x, Given<T> norm_x, std::optional<Given<T>> y, std::optional<Given<T>> norm_y,
             const py::object& map, Given<Number> out, int kept, bool second_output,
             std::optional<Given<T, py::array::c_style>> series_x,
             std::optional<Given<T, py::array::c_style>> series_y,
             std::optional<Given<T, py::array::c_style>> diagonal_x, int threads,
             const std::string& isa) {
    const Side<T> left{x, norm_x, series_x, diagonal_x};
    const Side<T> right = y ? Side<T>{*y, norm_y.value(), series_y, {}} : left;
    Call<T> call(left, right);
    call.use(map, py::none(), left, right);
    auto& p = call.problem;
    volatile int infinite = 0;
    p.symmetric = !y;
    p.ldo[0] = row_stride(out, "out");
    expect(out.shape(0) == p.n && out.shape(1) == p.m, "out: wrong shape");
    p.kept = static_cast<Kept>(kept);
    constexpr bool single = sizeof(Number) == 4;
    expect(single ? p.kept == Kept::kSingle : p.kept == Kept::kHalf || p.kept == Kept::kBrain,
           "kept: another type than that of out");
    p.rounded = out.mutable_data();
    p.infinite = &infinite;
    p.use_second = second_output;
    call.run(isa, threads);
    return !infinite;
}
#endif

template <class T>
void matmul(Given<T> x, Given<T> norm_x, std::optional<Given<T>> y, std::optional<Given<T>> norm_y,
            const py::object& map, Given<T> v, Given<T> product, bool second_output,
            std::optional<Given<T, py::array::c_style>> series_x,
            std::optional<Given<T, py::array::c_style>> series_y,
            std::optional<Given<T, py::array::c_style>> diagonal_x, int threads,
            const std::string& isa) {
    const Side<T> left{x, norm_x, series_x, diagonal_x};
    const Side<T> right = y ? Side<T>{*y, norm_y.value(), series_y, {}} : left;
    Call<T> call(left, right);
    call.use(map, py::none(), left, right);
    auto& p = call.problem;
    p.symmetric = !y;
    p.ldv = row_stride(v, "v");
    p.ldp = row_stride(product, "product");
    p.columns = v.shape(1);
    expect(v.shape(0) == p.m && product.shape(0) == p.n && product.shape(1) == p.columns,
           "product: wrong shape");
    p.v = v.data();
    p.product = product.mutable_data();
    p.use_second = second_output;
    call.run(isa, threads);
}

// What the pairs of two groups of rows, or of one (no y), add to a symmetric product of `total` rows:
// K(x, y) v to `left`, those of x, and K(y, x) u to `right`.
template <class T>
void products(Given<T> x, Given<T> norm_x, std::optional<Given<T>> y,
              std::optional<Given<T>> norm_y, const py::object& map, Given<T> u, Given<T> v,
              Given<double, py::array::c_style> left, Given<double, py::array::c_style> right,
              bool second_output, std::optional<Given<T, py::array::c_style>> series_x,
              std::optional<Given<T, py::array::c_style>> series_y,
              std::optional<Given<T, py::array::c_style>> diagonal_x, int64_t total, int threads,
              const std::string& isa) {
    const Side<T> one{x, norm_x, series_x, diagonal_x};
    const Side<T> other = y ? Side<T>{*y, norm_y.value(), series_y, {}} : one;
    Call<T> made(one, other);
    made.use(map, py::none(), one, other);
    auto& p = made.problem;
    p.symmetric = !y;
    p.ldu = row_stride(u, "u"), p.ldv = row_stride(v, "v");
    p.columns = v.shape(1);
    for (const auto& [rows, factor, sums] :
         {std::tuple{p.n, &u, &left}, std::tuple{p.m, &v, &right}})
        expect(factor->shape(0) == rows && factor->shape(1) == p.columns && sums->ndim() == 2 &&
                   sums->shape(0) == rows && sums->shape(1) == p.columns,
               "u, v, left, right: wrong shape");
    p.u = u.data(), p.v = v.data();
    p.use_second = second_output;
    double *const to = left.mutable_data(), *const mirrored = right.mutable_data();
#if defined(NTKFAST_CUDA)
    static_cast<void>(total);  // whose sums are in an order of their own
    call(isa, threads, [&](const Device& device, const Poll& poll) {
        run_on_device(GroupProducts<T>{p, to, mirrored}, device, poll);
    });
#else
    const int64_t rows = group_rows(total);
    expect(p.n <= rows && p.m <= rows && (p.symmetric || p.n == rows),
           "x, y: expected groups of rows, the second one perhaps short");
    call(isa, threads, [&](const auto& set, auto poll) {
        run_groups(p, total, to, mirrored, set, threads, poll);
    });
#endif
}

template <class T>
void bind_gram_dtype(py::module_& m, const char* suffix) {
    py::class_<ProfileHolder<T>>(m, (std::string("Profile") + suffix).c_str(), py::module_local())
        .def(py::init(&make_profile<T>), py::arg("table").noconvert(), py::arg("sub_bits"),
             py::arg("stretch"), py::arg("base"), py::arg("degree"), py::arg("scale"),
             py::arg("refine_below"), py::arg("middle").none(true).noconvert(),
             py::arg("middle_rate"), py::arg("middle_ends"), py::arg("inner_degree"));
    py::class_<NeuronHolder<T>>(m, (std::string("Neuron") + suffix).c_str(), py::module_local())
        .def(py::init(&make_neuron<T>), py::arg("kind"), py::arg("table").noconvert(),
             py::arg("scale"), py::arg("degree"));
#if !defined(NTKFAST_CUDA)
    m.def((std::string("row_norms_") + suffix).c_str(), &row_norms<T>, py::arg("x").noconvert());
    m.def((std::string("values_at_equal_") + suffix).c_str(), &values_at_equal<T>, py::arg("map"),
          py::arg("norms").noconvert());
#endif
    m.def((std::string("gram_") + suffix).c_str(), &gram<T>, py::arg("x").noconvert(),
          py::arg("norm_x").noconvert(), py::arg("y").noconvert(), py::arg("norm_y").noconvert(),
          py::arg("map"), py::arg("second"), py::arg("out").noconvert(),
          py::arg("out_second").noconvert(), py::arg("series_x").noconvert(),
          py::arg("series_y").noconvert(), py::arg("diagonal_x").noconvert(), py::arg("threads"),
          py::arg("isa"));
    m.def((std::string("matmul_") + suffix).c_str(), &matmul<T>, py::arg("x").noconvert(),
          py::arg("norm_x").noconvert(), py::arg("y").noconvert(), py::arg("norm_y").noconvert(),
          py::arg("map"), py::arg("v").noconvert(), py::arg("product").noconvert(),
          py::arg("second_output"), py::arg("series_x").noconvert(),
          py::arg("series_y").noconvert(), py::arg("diagonal_x").noconvert(), py::arg("threads"),
          py::arg("isa"));
#if !defined(NTKFAST_CUDA)
    const auto bind_rounded = [&](auto function) {
        m.def((std::string("rounded_") + suffix).c_str(), function, py::arg("x").noconvert(),
              py::arg("norm_x").noconvert(), py::arg("y").noconvert(),
              py::arg("norm_y").noconvert(), py::arg("map"), py::arg("out").noconvert(),
              py::arg("kept"), py::arg("second_output"), py::arg("series_x").noconvert(),
              py::arg("series_y").noconvert(), py::arg("diagonal_x").noconvert(),
              py::arg("threads"), py::arg("isa"));
    };
    bind_rounded(&rounded<T, std::uint16_t>);
    if constexpr (sizeof(T) == 8) bind_rounded(&rounded<T, std::uint32_t>);
#endif
    m.def((std::string("products_") + suffix).c_str(), &products<T>, py::arg("x").noconvert(),
          py::arg("norm_x").noconvert(), py::arg("y").noconvert(), py::arg("norm_y").noconvert(),
          py::arg("map"), py::arg("u").noconvert(), py::arg("v").noconvert(),
          py::arg("left").noconvert(), py::arg("right").noconvert(), py::arg("second_output"),
          py::arg("series_x").noconvert(), py::arg("series_y").noconvert(),
          py::arg("diagonal_x").noconvert(), py::arg("total"), py::arg("threads"), py::arg("isa"));
}

}  // namespace

void bind_gram(py::module_& m) {
    bind_gram_dtype<float>(m, "f32");
    bind_gram_dtype<double>(m, "f64");
    bind_gradient_dtype<float>(m, "f32");
    bind_gradient_dtype<double>(m, "f64");
    py::class_<RadialHolder>(m, "Radial", py::module_local())
        .def(py::init([](double c, double gamma, bool euclidean, double degree) {
                 return RadialHolder{c, gamma, euclidean, degree};
             }),
             py::arg("c"), py::arg("gamma"), py::arg("euclidean"), py::arg("degree"));
    py::class_<LayersHolder>(m, "Layers", py::module_local())
        .def(py::init(&make_layers), py::arg("numbers").noconvert(), py::arg("scales"),
             py::arg("exponent"), py::arg("sectors") = py::none());
    py::class_<SectorsHolder>(m, "Sectors", py::module_local())
        .def(py::init(&make_sectors), py::arg("table").noconvert(), py::arg("sign").noconvert(),
             py::arg("terms"), py::arg("angles"), py::arg("weight"), py::arg("bias"),
             py::arg("low"), py::arg("high"), py::arg("second"));
}

}  // namespace ntkfast
