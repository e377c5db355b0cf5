// Cell polynomials of a grid: built once, kept while the knots keep their values.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kan_fast/args.h"

namespace kan_fast {

template <class T>
class Table {
 public:
  // knots: [num_features, num_knots], contiguous. Requires `first_bad_feature` to be -1.
  Table(const T* knots, int64_t num_features, int num_knots, int order);

  TableView<T> view() const;
  size_t bytes() const { return (knots_.size() + by_cell_.size()) * sizeof(T); }
  // Whether the table still belongs to these knots: compares values, so no edit goes unnoticed.
  bool matches(const T* knots, int64_t num_features, int num_knots, int order) const;

 private:
  int64_t num_features_;
  int num_knots_;
  int order_;
  bool shared_;
  bool uniform_;
  int cell_stride_;
  std::vector<T> knots_;
  std::vector<T> by_cell_;
};

// First feature whose knots are not finite and non-decreasing, or whose grid has no width; else -1.
template <class T>
int64_t first_bad_feature(const T* knots, int64_t num_features, int num_knots, int order);

// The table of these knots, from a small cache keyed by address and checked by value; null when
// `first_bad_feature` is not -1.
template <class T>
std::shared_ptr<const Table<T>> find_table(const T* knots, int64_t num_features, int num_knots,
                                           int order);

}  // namespace kan_fast
