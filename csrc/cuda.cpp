// The CUDA kernels for Python: addresses of a device's memory and a stream.
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "bindings.h"
#include "device_entry.h"
#include "layer.h"

namespace py = pybind11;

namespace {

// The kernels find cells and evaluate functions from the knots alone.
template <class T>
kan_fast::LayerArgs<T> args_of(const Layer& layer) {
  kan_fast::TableView<T> table{};
  table.num_features = layer.in_features;
  table.num_knots = layer.num_knots;
  table.order = layer.order;
  table.num_basis = layer.num_knots - 1 - layer.order;
  table.num_cells = layer.num_knots - 1;
  table.knots = pointer<const T>(layer.knots);
  return layer.of(table);
}

kan_fast::MmaChoice choice_of(int product, bool sparse, bool wgmma, int64_t most_shared) {
  return {static_cast<kan_fast::Product>(product), sparse, wgmma, most_shared};
}

void check_single(bool is_double) {
  if (is_double) throw py::type_error("kan_fast: tensor cores take float32 here, got float64");
}

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
  return kan_fast::gather_out<T>({args_of<T>(layer), derivative, pointer<T>(y)}, target);
}

template <class T>
int in_weight(const Layer& layer, const Gradients& a, int64_t partial,
              const kan_fast::CudaTarget& target) {
  py::gil_scoped_release release;
  return kan_fast::gather_in_weight<T>(a.of<T>(args_of<T>(layer)), pointer<T>(partial), target);
}

using Layers = std::vector<Layer>;

// Addresses of the gradients of a layer of a network.
struct LayerGradients {
  int64_t spline_weight, spline_scaler, base_weight;
};

template <class T>
kan_fast::NetworkArgs<T> network_of(const Layers& layers) {
  kan_fast::NetworkArgs<T> args{};
  // one too many is refused by its number
  args.num_layers = static_cast<int>(layers.size());
  for (size_t n = 0; n < layers.size() && n < kan_fast::kMostLayers; ++n)
    args.of[n].layer = args_of<T>(layers[n]);
  return args;
}

template <class T>
int network_out(const Layers& layers, const std::vector<int64_t>& y, int64_t arrived,
                const kan_fast::CudaTarget& target) {
  kan_fast::NetworkArgs<T> args = network_of<T>(layers);
  args.arrived = pointer<int>(arrived);
  for (size_t n = 0; n < y.size(); ++n) args.y[n] = pointer<T>(y[n]);
  py::gil_scoped_release release;
  return kan_fast::network<T>(args, kan_fast::NetworkPass::kForward, target);
}

// A matrix; of an absent one all are 0.
struct Strided {
  int64_t address, row_stride, col_stride;
};

// The backward, or where `t` is given the backward's own.
template <class T>
int network_in_weight(const Layers& layers, const Strided& u, int64_t z,
                      const std::vector<LayerGradients>& gradients, const Strided& t,
                      int64_t grad_u, int64_t partial, int64_t arrived,
                      const kan_fast::CudaTarget& target) {
  kan_fast::NetworkArgs<T> args = network_of<T>(layers);
  kan_fast::InWeightArgs<T>& last = args.of[args.num_layers - 1];
  last.u = pointer<const T>(u.address);
  last.u_row_stride = u.row_stride;
  last.u_col_stride = u.col_stride;
  args.of[0].z = pointer<T>(z);
  for (size_t n = 0; n < gradients.size(); ++n) {
    args.of[n].grad_spline_weight = pointer<T>(gradients[n].spline_weight);
    args.of[n].grad_spline_scaler = pointer<T>(gradients[n].spline_scaler);
    args.of[n].grad_base_weight = pointer<T>(gradients[n].base_weight);
  }
  args.t = pointer<const T>(t.address);
  args.t_row_stride = t.row_stride;
  args.t_col_stride = t.col_stride;
  args.grad_u = pointer<T>(grad_u);
  args.partial = pointer<T>(partial);
  args.arrived = pointer<int>(arrived);
  py::gil_scoped_release release;
  return kan_fast::network<T>(
      args,
      args.t == nullptr ? kan_fast::NetworkPass::kBackward : kan_fast::NetworkPass::kDoubleBackward,
      target);
}

}  // namespace

void bind_cuda(py::module_& m) {
  // what a network passes, by name; of this module, since tests have another one beside it
  py::class_<Layer>(m, "CudaLayer", py::module_local()).def(py::init([](KAN_LAYER_PARAMETERS) {
    (void)is_double;
    return KAN_LAYER_VALUES;
  }));
  py::class_<LayerGradients>(m, "CudaGradients", py::module_local())
      .def(py::init([](int64_t spline_weight, int64_t spline_scaler, int64_t base_weight) {
        return LayerGradients{spline_weight, spline_scaler, base_weight};
      }));
  py::class_<Strided>(m, "CudaStrided", py::module_local())
      .def(py::init([](int64_t address, int64_t row_stride, int64_t col_stride) {
        return Strided{address, row_stride, col_stride};
      }));
  m.def("cuda_out",
        [](KAN_LAYER_PARAMETERS, int derivative, int64_t y, bool emulated, int64_t stream) {
          const Layer layer = KAN_LAYER_VALUES;
          const kan_fast::CudaTarget target{emulated, pointer<void>(stream)};
          check_launch(is_double ? out<double>(layer, derivative, y, target)
                                 : out<float>(layer, derivative, y, target));
        });
  m.def("cuda_mma_words",
        [](KAN_LAYER_PARAMETERS, int product, bool sparse, bool wgmma, int64_t most_shared) {
          (void)is_double;
          const Layer layer = KAN_LAYER_VALUES;
          return kan_fast::mma_packed_words(args_of<float>(layer),
                                            choice_of(product, sparse, wgmma, most_shared));
        });
  m.def("cuda_mma_out",
        [](KAN_LAYER_PARAMETERS, int derivative, int64_t y, int product, bool sparse, bool wgmma,
           int64_t most_shared, int64_t packed, bool emulated, int64_t stream) {
          check_single(is_double);
          const Layer layer = KAN_LAYER_VALUES;
          py::gil_scoped_release release;
          const int error =
              kan_fast::mma_out({args_of<float>(layer), derivative, pointer<float>(y)},
                                choice_of(product, sparse, wgmma, most_shared),
                                pointer<uint32_t>(packed), {emulated, pointer<void>(stream)});
          py::gil_scoped_acquire acquire;
          check_launch(error);
        });
  m.def("cuda_mma_partial_numbers", [](KAN_LAYER_PARAMETERS, int product) {
    (void)is_double;
    const Layer layer = KAN_LAYER_VALUES;
    return kan_fast::mma_partial_numbers(args_of<float>(layer),
                                         static_cast<kan_fast::Product>(product));
  });
  m.def("cuda_mma_in_weight", [](KAN_LAYER_PARAMETERS, KAN_GRADIENT_PARAMETERS, int64_t partial,
                                 int product, bool emulated, int64_t stream) {
    check_single(is_double);
    const Layer layer = KAN_LAYER_VALUES;
    const Gradients gradients = KAN_GRADIENT_VALUES;
    py::gil_scoped_release release;
    const int error = kan_fast::mma_in_weight(
        gradients.of<float>(args_of<float>(layer)), static_cast<kan_fast::Product>(product),
        pointer<float>(partial), {emulated, pointer<void>(stream)});
    py::gil_scoped_acquire acquire;
    check_launch(error);
  });
  m.def("cuda_partial_numbers", [](KAN_LAYER_PARAMETERS) {
    const Layer layer = KAN_LAYER_VALUES;
    return is_double ? kan_fast::gather_partial_numbers(args_of<double>(layer))
                     : kan_fast::gather_partial_numbers(args_of<float>(layer));
  });
  m.def("cuda_in_weight", [](KAN_LAYER_PARAMETERS, KAN_GRADIENT_PARAMETERS, int64_t partial,
                             bool emulated, int64_t stream) {
    const Layer layer = KAN_LAYER_VALUES;
    const Gradients gradients = KAN_GRADIENT_VALUES;
    const kan_fast::CudaTarget target{emulated, pointer<void>(stream)};
    check_launch(is_double ? in_weight<double>(layer, gradients, partial, target)
                           : in_weight<float>(layer, gradients, partial, target));
  });
  m.def("cuda_network_size", [](bool is_double, const Layers& layers, bool double_backward) {
    const auto pass =
        double_backward ? kan_fast::NetworkPass::kDoubleBackward : kan_fast::NetworkPass::kBackward;
    const kan_fast::NetworkSize size =
        is_double ? kan_fast::network_size(network_of<double>(layers), pass)
                  : kan_fast::network_size(network_of<float>(layers), pass);
    return std::make_pair(size.blocks, size.numbers);
  });
  m.def("cuda_network_out", [](bool is_double, const Layers& layers, const std::vector<int64_t>& y,
                               int64_t arrived, bool emulated, int64_t stream) {
    const kan_fast::CudaTarget target{emulated, pointer<void>(stream)};
    check_launch(is_double ? network_out<double>(layers, y, arrived, target)
                           : network_out<float>(layers, y, arrived, target));
  });
  m.def("cuda_network_in_weight",
        [](bool is_double, const Layers& layers, const Strided& u, int64_t z,
           const std::vector<LayerGradients>& gradients, const Strided& t, int64_t grad_u,
           int64_t partial, int64_t arrived, bool emulated, int64_t stream) {
          const kan_fast::CudaTarget target{emulated, pointer<void>(stream)};
          check_launch(is_double ? network_in_weight<double>(layers, u, z, gradients, t, grad_u,
                                                             partial, arrived, target)
                                 : network_in_weight<float>(layers, u, z, gradients, t, grad_u,
                                                            partial, arrived, target));
        });
}
