// kan_fast._C: pointers, sizes and strides in, numbers out. Checks of shapes and dtypes are
// Python's.
#include <pybind11/pybind11.h>

#include <string>

#include "bindings.h"
#include "entry.h"
#include "gram.h"
#include "kan_fast/basis/bspline.h"
#include "layer.h"
#include "table.h"

namespace py = pybind11;

namespace {

[[noreturn]] void bad_knots(int64_t feature) {
  throw py::value_error(
      "kan_fast: the knots of input " + std::to_string(feature) +
      " must be finite, non-decreasing and span a grid range of positive width; got knots that are "
      "not. Restore the grid, for example from the last checkpoint or with reset_grid()");
}

template <class T>
std::shared_ptr<const kan_fast::Table<T>> table_of(const Layer& a) {
  const T* knots = pointer<const T>(a.knots);
  auto table = kan_fast::find_table(knots, a.in_features, a.num_knots, a.order);
  if (table == nullptr)
    bad_knots(kan_fast::first_bad_feature(knots, a.in_features, a.num_knots, a.order));
  return table;
}

template <class T>
void out(const Layer& a, int derivative, int64_t y) {
  const auto table = table_of<T>(a);
  kan_fast::Status status;
  {
    py::gil_scoped_release release;
    status = kan_fast::contract_out<T>({a.of(table->view()), derivative, pointer<T>(y)});
  }
  check(status);
}

template <class T>
void in_weight(const Layer& a, const Gradients& gradients) {
  const auto table = table_of<T>(a);
  kan_fast::Status status;
  {
    py::gil_scoped_release release;
    status = kan_fast::contract_in_weight<T>(gradients.of<T>(a.of(table->view())));
  }
  check(status);
}

// Two grids on the same inputs; `z` and `cotangent` or `gram` are 0.
struct Gram {
  int64_t rows, in_features;
  int order, activation;
  int64_t knots_a;
  int num_knots_a;
  int64_t knots_b;
  int num_knots_b;
  int derivative_a, derivative_b;
  int64_t x, x_row_stride, x_col_stride, gram, cotangent, z;
};

template <class T>
void gram(const Gram& g) {
  Layer a{};
  a.in_features = g.in_features;
  a.order = g.order;
  Layer b = a;
  a.num_knots = g.num_knots_a;
  a.knots = g.knots_a;
  b.num_knots = g.num_knots_b;
  b.knots = g.knots_b;
  const auto table_a = table_of<T>(a), table_b = table_of<T>(b);
  kan_fast::Status status;
  {
    py::gil_scoped_release release;
    status = kan_fast::gram<T>(
        {g.rows, g.in_features, g.activation, table_a->view(), table_b->view(), g.derivative_a,
         g.derivative_b, pointer<const T>(g.x), g.x_row_stride, g.x_col_stride,
         pointer<double>(g.gram), pointer<const double>(g.cotangent), pointer<T>(g.z)});
  }
  check(status);
}

constexpr bool has_cuda() {
#if defined(KAN_HAVE_CUDA)
  return true;
#else
  return false;
#endif
}

py::dict build_info() {
  py::dict info;
  info["version"] = KAN_FAST_VERSION;
  info["compiler"] = KAN_FAST_COMPILER;
  info["max_spline_order"] = kan_fast::kMaxOrder;
  info["max_derivative"] = kan_fast::kMaxDerivative;
  py::list sets;
  sets.append("baseline");
#if defined(KAN_HAVE_avx2)
  sets.append("avx2");
#endif
#if defined(KAN_HAVE_avx512)
  sets.append("avx512");
#endif
  info["instruction_sets"] = py::tuple(sets);
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of kan_fast; addresses and strides in elements.";
  // positional arguments only: keywords would triple the cost of a call
  m.def("contract_out", [](KAN_LAYER_PARAMETERS, int derivative, int64_t y) {
    const Layer layer = KAN_LAYER_VALUES;
    is_double ? out<double>(layer, derivative, y) : out<float>(layer, derivative, y);
  });
  m.def("contract_in_weight", [](KAN_LAYER_PARAMETERS, KAN_GRADIENT_PARAMETERS) {
    const Layer layer = KAN_LAYER_VALUES;
    const Gradients gradients = KAN_GRADIENT_VALUES;
    is_double ? in_weight<double>(layer, gradients) : in_weight<float>(layer, gradients);
  });
  m.def("gram", [](bool is_double, int64_t rows, int64_t in_features, int order, int activation,
                   int64_t knots_a, int num_knots_a, int64_t knots_b, int num_knots_b,
                   int derivative_a, int derivative_b, int64_t x, int64_t x_row_stride,
                   int64_t x_col_stride, int64_t out, int64_t cotangent, int64_t z) {
    const Gram g{rows,         in_features,  order,     activation,
                 knots_a,      num_knots_a,  knots_b,   num_knots_b,
                 derivative_a, derivative_b, x,         x_row_stride,
                 x_col_stride, out,          cotangent, z};
    is_double ? gram<double>(g) : gram<float>(g);
  });
  bind_full(m);
#if defined(KAN_HAVE_CUDA)
  bind_cuda(m);
#endif
  m.def("has_cuda", &has_cuda, "whether this build has CUDA kernels");
  m.def("build_info", &build_info);
  m.def("active_isa", &kan_fast::active_isa);
  m.def("set_isa", [](const std::string& name) { return kan_fast::set_isa(name.c_str()); });
  m.def("max_threads", &kan_fast::max_threads);
}
