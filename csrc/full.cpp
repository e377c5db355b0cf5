// Kernels of full bases for Python.
#include "full.h"

#include "bindings.h"

namespace py = pybind11;

namespace {

#define KAN_FULL_PARAMETERS                                                            \
  bool is_double, int64_t rows, int64_t in_features, int64_t out_features, int family, \
      int num_basis, int activation, double width, int64_t centers, int64_t x,         \
      int64_t x_row_stride, int64_t x_col_stride, int64_t v, int64_t v_row_stride,     \
      int64_t v_col_stride, int64_t weight, int64_t weight_out, int64_t weight_in,     \
      int64_t norm_weight, int64_t norm_bias, double eps, int64_t statistics,          \
      int64_t statistics_stride
#define KAN_FULL_VALUES                                                                           \
  Layer {                                                                                         \
    rows, in_features, out_features, family, num_basis, activation, width, centers, x,            \
        x_row_stride, x_col_stride, v, v_row_stride, v_col_stride, weight, weight_out, weight_in, \
        Norm {                                                                                    \
      norm_weight, norm_bias, eps, statistics, statistics_stride                                  \
    }                                                                                             \
  }

struct Norm {
  int64_t weight, bias;
  double eps;
  int64_t statistics, stride;
};

struct Layer {
  int64_t rows, in_features, out_features;
  int family, num_basis, activation;
  double width;
  int64_t centers, x, x_row_stride, x_col_stride, v, v_row_stride, v_col_stride, weight, weight_out,
      weight_in;
  Norm norm;

  template <class T>
  kan_fast::FullLayer<T> of() const {
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
            pointer<const T>(weight),
            weight_out,
            weight_in,
            {pointer<const T>(norm.weight), pointer<const T>(norm.bias), norm.eps,
             pointer<T>(norm.statistics), norm.stride}};
  }
};

// A base branch: an activation of inputs of its own; `x` is 0 where there is none.
struct Base {
  int activation;
  int64_t x, x_row_stride, x_col_stride, weight, weight_out, weight_in;

  Layer beside(const Layer& main) const {
    return {main.rows,
            main.in_features,
            main.out_features,
            static_cast<int>(kan_fast::Family::kActivation),
            1,
            activation,
            1.0,
            0,
            x,
            x_row_stride,
            x_col_stride,
            0,
            0,
            0,
            weight,
            weight_out,
            weight_in,
            {}};
  }
};

template <class T>
kan_fast::Status out(const Layer& layer, int derivative, int64_t y, const Base& base,
                     int64_t bias) {
  py::gil_scoped_release release;
  return kan_fast::full_out<T>({layer.of<T>(), derivative, pointer<T>(y), base.x != 0,
                                base.beside(layer).of<T>(), pointer<const T>(bias)});
}

struct InWeight {
  int derivative_in, derivative_weight;
  int64_t u, u_row_stride, u_col_stride, z, grad_weight, grad_norm, base_z, base_grad_weight;
};

template <class T>
kan_fast::Status in_weight(const Layer& layer, const InWeight& a, const Base& base) {
  py::gil_scoped_release release;
  return kan_fast::full_in_weight<T>(
      {{layer.of<T>(), a.derivative_in, a.derivative_weight, pointer<T>(a.z),
        pointer<T>(a.grad_weight), pointer<T>(a.grad_norm), false},
       pointer<const T>(a.u),
       a.u_row_stride,
       a.u_col_stride,
       base.x != 0,
       {base.beside(layer).of<T>(), 1, 0, pointer<T>(a.base_z), pointer<T>(a.base_grad_weight),
        nullptr, a.base_z == a.z}});
}

#define KAN_BASE_PARAMETERS                                                    \
  int base_activation, int64_t base_x, int64_t base_x_row, int64_t base_x_col, \
      int64_t base_weight, int64_t base_weight_out, int64_t base_weight_in
#define KAN_BASE_VALUES                                                                           \
  Base {                                                                                          \
    base_activation, base_x, base_x_row, base_x_col, base_weight, base_weight_out, base_weight_in \
  }

}  // namespace

void bind_full(py::module_& m) {
  m.def("full_out",
        [](KAN_FULL_PARAMETERS, int derivative, int64_t y, KAN_BASE_PARAMETERS, int64_t bias) {
          const Layer layer = KAN_FULL_VALUES;
          const Base base = KAN_BASE_VALUES;
          check(is_double ? out<double>(layer, derivative, y, base, bias)
                          : out<float>(layer, derivative, y, base, bias));
        });
  m.def("full_in_weight", [](KAN_FULL_PARAMETERS, int derivative_in, int derivative_weight,
                             int64_t u, int64_t u_row_stride, int64_t u_col_stride, int64_t z,
                             int64_t grad_weight, int64_t grad_norm, KAN_BASE_PARAMETERS,
                             int64_t base_z, int64_t base_grad_weight) {
    const Layer layer = KAN_FULL_VALUES;
    const Base base = KAN_BASE_VALUES;
    const InWeight rest{derivative_in, derivative_weight, u,      u_row_stride,    u_col_stride, z,
                        grad_weight,   grad_norm,         base_z, base_grad_weight};
    check(is_double ? in_weight<double>(layer, rest, base) : in_weight<float>(layer, rest, base));
  });
}
