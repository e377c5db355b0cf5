// B-spline basis functions as polynomials on one cell, and their derivatives.
//
// Cox-de Boor (docs/math.md, eq. 2) on cell c, with u = (x - t_c) / h and w = (t_{c+1} - x) / h the
// distances from its ends in units of its width h, so that w = 1 - u:
//
//   B_{j,0} = 1 if j = c else 0
//   B_{j,m} = (w (t_c - t_j)     + u (t_{c+1} - t_j))     / (t_{j+m} - t_j)         * B_{j,m-1}
//           + (w (t_{j+m+1}-t_c) + u (t_{j+m+1}-t_{c+1})) / (t_{j+m+1} - t_{j+1})   * B_{j+1,m-1}
//                                                                                    with 0/0 = 0
//
// carried out on the coefficients of u^p w^(m-p), in double, once per cell and grid. None of them
// is negative, so that a kernel, which adds these terms up, loses no digit of a function that is
// nearly zero; powers of u alone would. No kernel divides, and every order, cell and derivative is
// the same.
#pragma once

#include "kan_fast/grid.h"

KAN_NAMESPACE_BEGIN

constexpr int kMaxOrder = 7;
constexpr int kMaxDerivative = 5;

// Coefficients of a derivative of the active functions of one cell: the recurrence up to the degree
// that is left, and differences from there on (eq. 3).
//
// Args:
//   knots:      [num_knots], non-decreasing, any float type; read as double
//   cell:       0 <= cell < num_knots - 1, of positive width
//   order:      polynomial degree, 0..kMaxOrder
//   derivative: 0..order
//   coef:       [order + 1, order + 1]; coef[m][p] multiplies u^p w^(degree-p) in function
//               window_start + m, where degree = order - derivative; zero for p > degree
template <class T>
KAN_HD void bspline_cell_polynomials(const T* knots, int num_knots, int cell, int order,
                                     int derivative, double* coef) {
  constexpr int kWidth = kMaxOrder + 1;
  const int num_basis = num_knots - 1 - order;
  const double t_c = static_cast<double>(knots[cell]);
  const double t_d = static_cast<double>(knots[cell + 1]);
  // value[a] is function j = cell - order + a of the current level
  double value[kWidth + 1][kWidth] = {};
  double next[kWidth + 1][kWidth] = {};
  value[order][0] = 1.0;
  const int degree = order - derivative;
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
      if (m > degree) {
        for (int p = 0; p <= degree; ++p)
          next[a][p] = m * (left * value[a][p] - right * value[a + 1][p]);
        continue;
      }
      for (int p = 0; p < m; ++p) {
        next[a][p] += left * (t_c - t_j) * value[a][p] + right * (t_n - t_c) * value[a + 1][p];
        next[a][p + 1] += left * (t_d - t_j) * value[a][p] + right * (t_n - t_d) * value[a + 1][p];
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

// Whether a cell has all its functions, so that the first of its window is a power of w and the
// last one of u.
KAN_HD bool is_interior(int cell, int order, int num_basis) {
  return cell >= order && cell < num_basis;
}

KAN_NAMESPACE_END
