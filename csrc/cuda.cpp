// The CUDA kernels for Python: addresses of a device's memory and a stream.
#include <stdexcept>
#include <string>

#include "bindings.h"
#include "device_entry.h"

namespace py = pybind11;

namespace {

#define KAN_LAYER_PARAMETERS                                                              \
  bool is_double, int64_t rows, int64_t in_features, int64_t out_features, int num_knots, \
      int order, int activation, int64_t knots, int64_t x, int64_t x_row_stride,          \
      int64_t x_col_stride, int64_t v, int64_t v_row_stride, int64_t v_col_stride,        \
      int64_t spline_weight, int64_t spline_scaler, int64_t base_weight
#define KAN_LAYER_VALUES                                                                       \
  Layer {                                                                                      \
    rows, in_features, out_features, num_knots, order, activation, knots, x, x_row_stride,     \
        x_col_stride, v, v_row_stride, v_col_stride, spline_weight, spline_scaler, base_weight \
  }

struct Layer {
  int64_t rows, in_features, out_features;
  int num_knots, order, activation;
  int64_t knots, x, x_row_stride, x_col_stride, v, v_row_stride, v_col_stride;
  int64_t spline_weight, spline_scaler, base_weight;

  template <class T>
  kan_fast::LayerArgs<T> of() const {
    kan_fast::TableView<T> table{};
    table.num_features = in_features;
    table.num_knots = num_knots;
    table.order = order;
    table.num_basis = num_knots - 1 - order;
    table.num_cells = num_knots - 1;
    table.knots = pointer<const T>(knots);
    return {rows,
            in_features,
            out_features,
            activation,
            table,
            pointer<const T>(x),
            x_row_stride,
            x_col_stride,
            pointer<const T>(v),
            v_row_stride,
            v_col_stride,
            pointer<const T>(spline_weight),
            pointer<const T>(spline_scaler),
            pointer<const T>(base_weight)};
  }
};

struct Gradients {
  int derivative_in, derivative_weight;
  int64_t u, u_row_stride, u_col_stride;
  int64_t z, spline_weight, spline_scaler, base_weight;
};

void check_launch(int error) {
  if (error == kan_fast::kCudaOk) return;
  if (error == kan_fast::kTooManyFunctions)
    throw py::value_error(
        "kan_fast: the weights of one input and four outputs must fit in 96 KB of shared memory "
        "for the CUDA kernels, and this grid's do not; use backend='triton'");
  if (error == kan_fast::kTooManyBlocks)
    throw py::value_error(
        "kan_fast: the CUDA kernels take layers of up to 2^31 tiles of 64 rows and outputs; split "
        "the batch");
  const char* what = kan_fast::cuda_error(error);
  throw std::runtime_error(std::string("kan_fast: a CUDA kernel could not be launched: ") +
                           (what == nullptr ? "this build has none" : what));
}

template <class T>
int out(const Layer& layer, int derivative, int64_t y, const kan_fast::CudaTarget& target) {
  py::gil_scoped_release release;
  return kan_fast::gather_out<T>({layer.of<T>(), derivative, pointer<T>(y), nullptr, 0}, target);
}

template <class T>
int in_weight(const Layer& layer, const Gradients& a, int64_t partial,
              const kan_fast::CudaTarget& target) {
  py::gil_scoped_release release;
  return kan_fast::gather_in_weight<T>(
      {layer.of<T>(), a.derivative_in, a.derivative_weight, pointer<const T>(a.u), a.u_row_stride,
       a.u_col_stride, pointer<T>(a.z), pointer<T>(a.spline_weight), pointer<T>(a.spline_scaler),
       pointer<T>(a.base_weight)},
      pointer<T>(partial), target);
}

}  // namespace

void bind_cuda(py::module_& m) {
  m.def("has_cuda", &kan_fast::has_cuda, "whether this build has CUDA kernels");
  m.def("cuda_out",
        [](KAN_LAYER_PARAMETERS, int derivative, int64_t y, bool emulated, int64_t stream) {
          const Layer layer = KAN_LAYER_VALUES;
          const kan_fast::CudaTarget target{emulated, pointer<void>(stream)};
          check_launch(is_double ? out<double>(layer, derivative, y, target)
                                 : out<float>(layer, derivative, y, target));
        });
  m.def("cuda_partial_numbers", [](KAN_LAYER_PARAMETERS) {
    const Layer layer = KAN_LAYER_VALUES;
    return is_double ? kan_fast::gather_partial_numbers(layer.of<double>())
                     : kan_fast::gather_partial_numbers(layer.of<float>());
  });
  m.def("cuda_in_weight",
        [](KAN_LAYER_PARAMETERS, int derivative_in, int derivative_weight, int64_t u,
           int64_t u_row_stride, int64_t u_col_stride, int64_t z, int64_t grad_spline_weight,
           int64_t grad_spline_scaler, int64_t grad_base_weight, int64_t partial, bool emulated,
           int64_t stream) {
          const Layer layer = KAN_LAYER_VALUES;
          const Gradients gradients{derivative_in,      derivative_weight,  u,
                                    u_row_stride,       u_col_stride,       z,
                                    grad_spline_weight, grad_spline_scaler, grad_base_weight};
          const kan_fast::CudaTarget target{emulated, pointer<void>(stream)};
          check_launch(is_double ? in_weight<double>(layer, gradients, partial, target)
                                 : in_weight<float>(layer, gradients, partial, target));
        });
}
