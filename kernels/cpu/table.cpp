#include "table.h"

#include <cmath>
#include <cstring>
#include <list>
#include <mutex>

#include "kan_fast/basis/bspline.h"

namespace kan_fast {

template <class T>
Table<T>::Table(const T* knots, int64_t num_features, int num_knots, int order)
    : num_features_(num_features),
      num_knots_(num_knots),
      order_(order),
      shared_(true),
      uniform_(true),
      cell_stride_((num_knots - 1 + kCellUnit - 1) / kCellUnit * kCellUnit),
      knots_(knots, knots + num_features * num_knots) {
  const size_t row = sizeof(T) * num_knots;
  for (int64_t f = 1; f < num_features && shared_; ++f)
    shared_ = std::memcmp(knots, knots + f * num_knots, row) == 0;

  const int64_t rows = shared_ ? (num_features > 0 ? 1 : 0) : num_features;
  const int num_cells = num_knots - 1;
  const int width = order + 1;
  const int64_t kinds = 3 + int64_t(width) * width * width;
  by_cell_.resize(rows * kinds * cell_stride_);
  double coef[(kMaxOrder + 1) * (kMaxOrder + 1)];
  for (int64_t f = 0; f < rows; ++f) {
    const T* t = knots + f * num_knots;
    T* at = by_cell_.data() + f * kinds * cell_stride_;
    const double step = (double(t[num_cells]) - double(t[0])) / num_cells;
    for (int c = 0; c < num_cells; ++c) {
      // a guess that is off by a fraction of a cell still starts next to the right one
      if (std::abs(double(t[c]) - double(t[0]) - c * step) > 0.25 * step) uniform_ = false;
      const double h = double(t[c + 1]) - double(t[c]);
      at[c] = t[c];
      at[cell_stride_ + c] = t[c + 1];
      if (!(h > 0)) continue;
      at[2 * cell_stride_ + c] = static_cast<T>(1.0 / h);
      for (int d = 0; d <= order; ++d) {
        bspline_cell_polynomials(t, num_knots, c, order, d, coef);
        for (int n = 0; n < width * width; ++n)
          at[(3 + d * width * width + n) * cell_stride_ + c] = static_cast<T>(coef[n]);
      }
    }
  }
}

template <class T>
TableView<T> Table<T>::view() const {
  return {shared_ ? 1 : num_features_,
          num_knots_,
          order_,
          num_knots_ - 1 - order_,
          num_knots_ - 1,
          uniform_,
          cell_stride_,
          knots_.data(),
          by_cell_.data()};
}

template <class T>
bool Table<T>::matches(const T* knots, int64_t num_features, int num_knots, int order) const {
  return num_features == num_features_ && num_knots == num_knots_ && order == order_ &&
         std::memcmp(knots, knots_.data(), knots_.size() * sizeof(T)) == 0;
}

template <class T>
int64_t first_bad_feature(const T* knots, int64_t num_features, int num_knots, int order) {
  for (int64_t f = 0; f < num_features; ++f) {
    const T* t = knots + f * num_knots;
    bool good = std::isfinite(t[0]) && std::isfinite(t[num_knots - 1]);
    for (int j = 1; j < num_knots; ++j) good = good && t[j - 1] <= t[j];
    if (!good || !(t[order] < t[num_knots - 1 - order])) return f;
  }
  return -1;
}

template <class T>
std::shared_ptr<const Table<T>> find_table(const T* knots, int64_t num_features, int num_knots,
                                           int order) {
  struct Entry {
    const T* knots;
    std::shared_ptr<const Table<T>> table;
  };
  // most recently used first; a model rarely has more layers than this
  constexpr size_t kMostEntries = 256;
  constexpr size_t kMostBytes = size_t(1) << 30;
  static std::mutex mutex;
  static std::list<Entry> entries;
  static size_t bytes = 0;

  {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto it = entries.begin(); it != entries.end(); ++it) {
      if (it->knots != knots) continue;
      if (it->table->matches(knots, num_features, num_knots, order)) {
        entries.splice(entries.begin(), entries, it);
        return it->table;
      }
      bytes -= it->table->bytes();
      entries.erase(it);
      break;
    }
  }
  if (first_bad_feature(knots, num_features, num_knots, order) >= 0) return nullptr;
  auto table = std::make_shared<const Table<T>>(knots, num_features, num_knots, order);
  std::lock_guard<std::mutex> lock(mutex);
  entries.push_front({knots, table});
  bytes += table->bytes();
  while (entries.size() > kMostEntries || (bytes > kMostBytes && entries.size() > 1)) {
    bytes -= entries.back().table->bytes();
    entries.pop_back();
  }
  return table;
}

template class Table<float>;
template class Table<double>;
template int64_t first_bad_feature(const float*, int64_t, int, int);
template int64_t first_bad_feature(const double*, int64_t, int, int);
template std::shared_ptr<const Table<float>> find_table(const float*, int64_t, int, int);
template std::shared_ptr<const Table<double>> find_table(const double*, int64_t, int, int);

}  // namespace kan_fast
