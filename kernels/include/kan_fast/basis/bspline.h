// B-spline basis functions as polynomials on one cell, and their derivatives.
//
// Cox-de Boor (docs/math.md, eq. 2), with s = (x - t_c) / h the place in cell c and h its width:
//
//   B_{j,0}(s) = 1 if j = c else 0
//   B_{j,m}(s) = (t_c - t_j + h s) / (t_{j+m} - t_j)         * B_{j,m-1}(s)
//              + (t_{j+m+1} - t_c - h s) / (t_{j+m+1} - t_{j+1}) * B_{j+1,m-1}(s)      with 0/0 = 0
//
// carried out on the coefficients of s^0..s^m, in double, once per cell and grid. A kernel then
// needs only Horner's rule: no division, the same code for every order, cell and derivative.
#pragma once

#include "kan_fast/grid.h"

KAN_NAMESPACE_BEGIN

constexpr int kMaxOrder = 7;
constexpr int kMaxDerivative = 5;

// Coefficients of the active functions of one cell.
//
// Args:
//   knots:  [num_knots], non-decreasing, any float type; read as double
//   cell:   0 <= cell < num_knots - 1, of positive width
//   order:  polynomial degree, 0..kMaxOrder
//   coef:   [order + 1, order + 1]; coef[m][p] multiplies s^p in function window_start + m
template <class T>
KAN_HD void bspline_cell_polynomials(const T* knots, int num_knots, int cell, int order,
                                     double* coef) {
  constexpr int kWidth = kMaxOrder + 1;
  const int num_basis = num_knots - 1 - order;
  const double t_c = static_cast<double>(knots[cell]);
  const double h = static_cast<double>(knots[cell + 1]) - t_c;
  // value[a] is function j = cell - order + a of the current level
  double value[kWidth + 1][kWidth] = {};
  double next[kWidth + 1][kWidth] = {};
  value[order][0] = 1.0;
  for (int m = 1; m <= order; ++m) {
    for (int a = order - m; a <= order; ++a) {
      const int j = cell - order + a;
      for (int p = 0; p <= m; ++p) next[a][p] = 0.0;
      // a function needs its knots t_j .. t_{j+m+1} to exist
      if (j < 0 || j + m + 1 > num_knots - 1) continue;
      const double t_j = static_cast<double>(knots[j]);
      const double t_m = static_cast<double>(knots[j + m]);
      const double t_n = static_cast<double>(knots[j + m + 1]);
      const double t_1 = static_cast<double>(knots[j + 1]);
      const double left = t_m > t_j ? 1.0 / (t_m - t_j) : 0.0;
      const double right = t_n > t_1 ? 1.0 / (t_n - t_1) : 0.0;
      for (int p = 0; p < m; ++p) {
        next[a][p] += left * (t_c - t_j) * value[a][p] + right * (t_n - t_c) * value[a + 1][p];
        next[a][p + 1] += h * (left * value[a][p] - right * value[a + 1][p]);
      }
    }
    for (int a = 0; a <= order; ++a)
      for (int p = 0; p <= m; ++p) value[a][p] = next[a][p];
  }
  const int start = window_start(cell, order, num_basis);
  for (int m = 0; m <= order; ++m) {
    const int a = start + m - (cell - order);
    for (int p = 0; p <= order; ++p)
      coef[m * (order + 1) + p] = (a < 0 || a > order) ? 0.0 : value[a][p];
  }
}

// d-th derivative with respect to x of sum_p c_p s^p: entry p of the result is
// c_{p+d} (p+d)! / p! h^-d.
KAN_HD void differentiate_polynomial(const double* coef, int order, int derivative,
                                     double inv_width, double* out) {
  for (int p = 0; p <= order; ++p) {
    double c = 0.0;
    if (p + derivative <= order) {
      c = coef[p + derivative];
      for (int q = 1; q <= derivative; ++q) c *= (p + q) * inv_width;
    }
    out[p] = c;
  }
}

// Horner's rule for a scalar or a vector `s`; `coef` holds order + 1 numbers.
template <class V, class T>
KAN_HD V horner(const T* coef, int order, V s) {
  // the product with zero keeps NaN a NaN for a constant
  if (order == 0) return s * T(0) + coef[0];
  V value = s * coef[order] + coef[order - 1];
  for (int p = order - 2; p >= 0; --p) value = value * s + coef[p];
  return value;
}

KAN_NAMESPACE_END
