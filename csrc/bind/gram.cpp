// Gram matrices and products in the Python module: maps, rows and arrays of results.
#include <tuple>

#include "bind/gradient.hpp"

namespace ntkfast {
namespace {

// ---- row norms ----------------------------------------------------------------------------------

#if !defined(NTKFAST_CUDA)
template <class T>
double square_sum(const T* row, int64_t d) {
    double sum = 0;
    for (int64_t k = 0; k < d; ++k)
        sum += static_cast<double>(row[k]) * static_cast<double>(row[k]);
    return sum;
}

// Euclidean norm, from the sum of the squares unless that did overflow or underflow; NaN or inf if the row
// holds one.
template <class T>
T norm_of(const T* row, int64_t d, double sum) {
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
std::tuple<py::array_t<T>, double, double> row_norms(const Given<T>& x) {
    const int64_t ld = row_stride(x, "x");
    py::array_t<T> norms(x.shape(0));
    T* out = norms.mutable_data();
    const T* data = x.data();
    const int64_t n = x.shape(0), d = x.shape(1);
    T least = std::numeric_limits<T>::infinity(), top = 0;
    bool numbers = true;
    without_lock([&] {
        const auto square_sums = tiles_of<T>(*choose("").tiles()).square_sums;
        constexpr int64_t kBlock = 64, kWide = 32;  // narrower rows are faster one by one
        double sums[kBlock];
        for (int64_t i = 0; i < n; ++i) {
            const T* const row = data + i * ld;
            if (d >= kWide && i % kBlock == 0)
                square_sums(row, ld, std::min(kBlock, n - i), d, sums);
            out[i] = norm_of(row, d, d < kWide ? square_sum(row, d) : sums[i % kBlock]);
            least = std::min(least, out[i]);
            top = std::max(top, out[i]);
            numbers &= !std::isnan(out[i]);
        }
    });
    if (!numbers) least = top = std::numeric_limits<T>::quiet_NaN();
    return {std::move(norms), least, top};
}

// Whether engines read an argument as it is: an array of NumPy itself, of whole numbers T in memory and
// rows of unit stride, none of them empty.
template <class T>
bool is_plain(py::handle given) {
    const auto& numpy = py::detail::npy_api::get();
    if (Py_TYPE(given.ptr()) != numpy.PyArray_Type_ || !py::isinstance<py::array_t<T, 0>>(given))
        return false;
    const auto a = py::reinterpret_borrow<py::array>(given);
    constexpr auto item = static_cast<py::ssize_t>(sizeof(T));
    return (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) && a.ndim() == 2 && a.size() &&
           a.strides(1) == item && a.strides(0) % item == 0;
}

// What row_norms returns of x, and then of y, if there is one: as one tuple, or None where an argument
// is not plain, or both do not fit together.
py::object plain_rows(py::handle x, py::handle y) {
    const auto measure = [&](auto number) -> py::object {
        using T = decltype(number);
        if (!is_plain<T>(x) || !(y.is_none() || is_plain<T>(y))) return py::none();
        const auto left = py::reinterpret_borrow<Given<T>>(x);
        if (y.is_none()) return py::cast(row_norms(left));
        const auto right = py::reinterpret_borrow<Given<T>>(y);
        if (left.shape(1) != right.shape(1)) return py::none();
        return py::cast(std::tuple_cat(row_norms(left), row_norms(right)));
    };
    py::object found = measure(0.0);
    return found.is_none() ? measure(0.0F) : found;
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
void gram(const Sides<T>& sides, const py::object& map, const py::object& second,
          std::optional<Given<T>> out, std::optional<Given<T>> out_second, int threads,
          const std::string& isa) {
    Call<T> call(sides, map, second);
    call.problem.symmetric = sides.symmetric;
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
bool rounded(const Sides<T>& sides, const py::object& map, Given<Number> out, int kept,
             bool second_output, int threads, const std::string& isa) {
    Call<T> call(sides, map);
    auto& p = call.problem;
    Flag infinite;
    p.symmetric = sides.symmetric;
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
void matmul(const Sides<T>& sides, const py::object& map, Given<T> v, Given<T> product,
            bool second_output, int threads, const std::string& isa) {
    Call<T> call(sides, map);
    auto& p = call.problem;
    p.symmetric = sides.symmetric;
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
void products(const Sides<T>& sides, const py::object& map, Given<T> u, Given<T> v,
              Given<double, py::array::c_style> left, Given<double, py::array::c_style> right,
              bool second_output, int64_t total, int threads, const std::string& isa) {
    Call<T> made(sides, map);
    auto& p = made.problem;
    p.symmetric = sides.symmetric;
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
void bind_gram_dtype(py::module_& m, const std::string& suffix) {
    py::class_<ProfileHolder<T>>(m, ("Profile" + suffix).c_str(), py::module_local())
        .def(py::init(&make_profile<T>), py::arg("table").noconvert(), py::arg("sub_bits"),
             py::arg("stretch"), py::arg("base"), py::arg("degree"), py::arg("scale"),
             py::arg("refine_below"), py::arg("middle").none(true).noconvert(),
             py::arg("middle_rate"), py::arg("middle_ends"), py::arg("inner_degree"));
    py::class_<NeuronHolder<T>>(m, ("Neuron" + suffix).c_str(), py::module_local())
        .def(py::init(&make_neuron<T>), py::arg("kind"), py::arg("table").noconvert(),
             py::arg("scale"), py::arg("degree"));
    py::class_<SectorsHolder<T>>(m, ("Sectors" + suffix).c_str(), py::module_local())
        .def(py::init(&make_sectors<T>), py::arg("table").noconvert(), py::arg("sign").noconvert(),
             py::arg("terms"), py::arg("angles"), py::arg("weight"), py::arg("bias"),
             py::arg("low"), py::arg("high"), py::arg("second"));
#if !defined(NTKFAST_CUDA)
    m.def(("row_norms_" + suffix).c_str(), &row_norms<T>, py::arg("x").noconvert());
    m.def(("values_at_equal_" + suffix).c_str(), &values_at_equal<T>, py::arg("map"),
          py::arg("norms").noconvert());
#endif
    bind_of_rows(m, "gram_" + suffix, &gram<T>, py::arg("second"), py::arg("out").noconvert(),
                 py::arg("out_second").noconvert(), py::arg("threads"), py::arg("isa"));
    bind_of_rows(m, "matmul_" + suffix, &matmul<T>, py::arg("v").noconvert(),
                 py::arg("product").noconvert(), py::arg("second_output"), py::arg("threads"),
                 py::arg("isa"));
#if !defined(NTKFAST_CUDA)
    const auto bind_rounded = [&](auto function) {
        bind_of_rows(m, "rounded_" + suffix, function, py::arg("out").noconvert(), py::arg("kept"),
                     py::arg("second_output"), py::arg("threads"), py::arg("isa"));
    };
    bind_rounded(&rounded<T, std::uint16_t>);
    if constexpr (sizeof(T) == 8) bind_rounded(&rounded<T, std::uint32_t>);
#endif
    bind_of_rows(m, "products_" + suffix, &products<T>, py::arg("u").noconvert(),
                 py::arg("v").noconvert(), py::arg("left").noconvert(),
                 py::arg("right").noconvert(), py::arg("second_output"), py::arg("total"),
                 py::arg("threads"), py::arg("isa"));
}

}  // namespace

void bind_gram(py::module_& m) {
#if !defined(NTKFAST_CUDA)
    m.def("plain_rows", &plain_rows, py::arg("x"), py::arg("y"));
#endif
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
}

}  // namespace ntkfast
