// The shared headers compile for a device and agree with the host there; launched on a GPU only.
#include "kan_fast/activation.h"
#include "kan_fast/basis/bspline.h"

__global__ void probe(const float* knots, int num_knots, const float* x, double* out) {
  const int cell = kan_fast::locate(x[threadIdx.x], knots, num_knots);
  double coef[64];
  if (cell >= 0) kan_fast::bspline_cell_polynomials(knots, num_knots, cell, 3, 0, coef);
  out[threadIdx.x] = coef[0] + kan_fast::activation_derivative(kan_fast::Activation::kSilu, 0.5, 2);
}
