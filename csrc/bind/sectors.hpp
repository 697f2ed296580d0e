// Sectors of angles in the Python module: a part of the map of layers.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <variant>
#include <vector>

#include "bind/bind.hpp"

namespace ntkfast {
namespace {

// For a network whose first layer has the weight and the bias variance given.
template <class T>
struct SectorsHolder {
    using Numbers = py::array_t<T, py::array::c_style>;
    using Terms = std::vector<std::vector<int64_t>>;
    Numbers table, sign;  // [numbers / kSectorUnit][pieces][degree + 1][kSectorUnit], [numbers]
    Terms terms;          // of each sector
    std::vector<Sector<T>> sectors;
    double weight, bias, low, high;  // binary logarithms of the variance after it
    bool second;
};

using AnySectors = std::variant<SectorsHolder<float>, SectorsHolder<double>>;

template <class T>
SectorsHolder<T> make_sectors(typename SectorsHolder<T>::Numbers table,
                              typename SectorsHolder<T>::Numbers sign,
                              typename SectorsHolder<T>::Terms terms,
                              const std::vector<std::array<T, 2 + kSectorTerms>>& angles,
                              double weight, double bias, double low, double high, bool second) {
    expect(table.ndim() == 4 && table.shape(0) >= 1 && table.shape(1) >= 1 && table.shape(2) >= 1 &&
               table.shape(2) <= kSectorDegree + 1 && table.shape(3) == kSectorUnit,
           "table: expected shape (numbers / 64, pieces, degree + 1, 64)");
    const py::ssize_t numbers_of_row = table.shape(0) * kSectorUnit;
    expect(sign.ndim() == 1 && sign.shape(0) == numbers_of_row, "sign: one per number");
    expect(!terms.empty() && terms.size() == angles.size(), "terms: expected those of each sector");
    int64_t total = 1;
    std::vector<Sector<T>> sectors;
    for (std::size_t s = 0; s < terms.size(); ++s) {
        for (int64_t count : terms[s]) expect(count >= 0, "terms: negative");
        const int64_t numbers = 2 * std::accumulate(terms[s].begin(), terms[s].end(), int64_t{0});
        Sector<T> sector{angles[s][0], angles[s][1], {}, 0, nullptr, numbers};
        std::copy_n(angles[s].data() + 2, kSectorTerms, sector.z);
        sector.powers = static_cast<int64_t>(terms[s].size());
        sectors.push_back(sector);
        total += numbers;
    }
    expect(total <= numbers_of_row, "terms: more than numbers");
    expect(weight > 0 && bias >= 0 && low < high, "low, high: expected a range of variances");
    return {std::move(table),
            std::move(sign),
            std::move(terms),
            std::move(sectors),
            weight,
            bias,
            low,
            high,
            second};
}

// Sectors of one call.
template <class T>
struct SectorCall {
    Sectors<T> view{};
    std::vector<Sector<T>> sectors;
    std::vector<SectorPlace<T>> places_x, places_y;

    const Sectors<T>* use(const AnySectors& any, const Problem<T>& p) {
        expect(std::holds_alternative<SectorsHolder<T>>(any), "sectors: of another type than rows");
        const auto& map = *std::get_if<SectorsHolder<T>>(&any);
        sectors = map.sectors;
        for (std::size_t s = 0; s < sectors.size(); ++s) sectors[s].terms = map.terms[s].data();
        place(map, p.norm_x, p.n, places_x);
        if (p.norm_y != p.norm_x || p.n != p.m) place(map, p.norm_y, p.m, places_y);
        view = {sectors.data(),         static_cast<int64_t>(sectors.size()),
                map.table.data(),       map.table.shape(1),
                map.table.shape(2) - 1, map.sign.shape(0),
                map.sign.data(),        map.second,
                places_x.data(),        places_y.empty() ? places_x.data() : places_y.data()};
        return &view;
    }

    static void place(const SectorsHolder<T>& map, const T* norms, int64_t count,
                      std::vector<SectorPlace<T>>& to) {
        constexpr T kBeyond = 8;  // no angle over pi is larger
        const double pieces = static_cast<double>(map.table.shape(1));
        to.reserve(static_cast<std::size_t>(count));
        for (int64_t i = 0; i < count; ++i) {
            const double norm = static_cast<double>(norms[i]), part = map.weight * norm * norm;
            const double whole = part + map.bias;
            const double at = (std::log2(whole) - map.low) / (map.high - map.low) * pieces;
            if (!(at >= 0 && at < pieces)) {
                to.push_back({0, 0, {1, 0, 0, 1, kBeyond}});
                continue;
            }
            const double piece = std::floor(at), cosine = std::sqrt(part / whole);
            const double sine = std::sqrt(map.bias / whole), half = std::sqrt((1 + cosine) / 2);
            to.push_back({2 * (at - piece) - 1,
                          static_cast<int64_t>(piece),
                          {static_cast<T>(cosine), static_cast<T>(sine),
                           static_cast<T>(sine / (2 * half)), static_cast<T>(half), 0}});
        }
    }
};

}  // namespace
}  // namespace ntkfast
