// Kernels of dense families for Python.
#include "dense.h"

#include "bindings.h"

namespace py = pybind11;

namespace {

#define KAN_DENSE_PARAMETERS                                                           \
  bool is_double, int64_t rows, int64_t in_features, int64_t out_features, int family, \
      int num_basis, int activation, double width, int64_t centers, int64_t x,         \
      int64_t x_row_stride, int64_t x_col_stride, int64_t v, int64_t v_row_stride,     \
      int64_t v_col_stride, int64_t weight
#define KAN_DENSE_VALUES                                                               \
  Layer {                                                                              \
    rows, in_features, out_features, family, num_basis, activation, width, centers, x, \
        x_row_stride, x_col_stride, v, v_row_stride, v_col_stride, weight              \
  }

struct Layer {
  int64_t rows, in_features, out_features;
  int family, num_basis, activation;
  double width;
  int64_t centers, x, x_row_stride, x_col_stride, v, v_row_stride, v_col_stride, weight;

  template <class T>
  kan_fast::DenseLayer<T> of() const {
    return {rows,
            in_features,
            out_features,
            family,
            num_basis,
            activation,
            width,
            pointer<const T>(centers),
            pointer<const T>(x),
            x_row_stride,
            x_col_stride,
            pointer<const T>(v),
            v_row_stride,
            v_col_stride,
            pointer<const T>(weight)};
  }
};

template <class T>
kan_fast::Status out(const Layer& layer, int derivative, int64_t y) {
  py::gil_scoped_release release;
  return kan_fast::dense_out<T>({layer.of<T>(), derivative, pointer<T>(y)});
}

struct InWeight {
  int derivative_in, derivative_weight;
  int64_t u, u_row_stride, u_col_stride, z, grad_weight;
};

template <class T>
kan_fast::Status in_weight(const Layer& layer, const InWeight& a) {
  py::gil_scoped_release release;
  return kan_fast::dense_in_weight<T>({layer.of<T>(), a.derivative_in, a.derivative_weight,
                                       pointer<const T>(a.u), a.u_row_stride, a.u_col_stride,
                                       pointer<T>(a.z), pointer<T>(a.grad_weight)});
}

}  // namespace

void bind_dense(py::module_& m) {
  m.def("dense_out", [](KAN_DENSE_PARAMETERS, int derivative, int64_t y) {
    const Layer layer = KAN_DENSE_VALUES;
    check(is_double ? out<double>(layer, derivative, y) : out<float>(layer, derivative, y));
  });
  m.def("dense_in_weight",
        [](KAN_DENSE_PARAMETERS, int derivative_in, int derivative_weight, int64_t u,
           int64_t u_row_stride, int64_t u_col_stride, int64_t z, int64_t grad_weight) {
          const Layer layer = KAN_DENSE_VALUES;
          const InWeight rest{derivative_in, derivative_weight, u, u_row_stride, u_col_stride, z,
                              grad_weight};
          check(is_double ? in_weight<double>(layer, rest) : in_weight<float>(layer, rest));
        });
}
