// The torch-free kernels against plain loops over the definition, without Python. Built with the
// sanitizers by tests/test_cpp.py.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "entry.h"
#include "full.h"
#include "gram.h"
#include "kan_fast/activation.h"
#include "kan_fast/basis/bspline.h"
#include "table.h"

namespace {

using namespace kan_fast;

int failures = 0;

void expect_near(const char* what, double got, double wanted, double scale, double tolerance) {
  if (std::abs(got - wanted) <= tolerance * scale) return;
  std::printf("FAILED %s: got %.17g, wanted %.17g\n", what, got, wanted);
  ++failures;
}

// B_{j,m} by its definition, with 0/0 = 0.
double basis(const std::vector<double>& t, int j, int m, double x) {
  if (m == 0) return t[j] <= x && x < t[j + 1] ? 1.0 : 0.0;
  const double up = t[j + m] > t[j] ? (x - t[j]) / (t[j + m] - t[j]) : 0.0;
  const double down =
      t[j + m + 1] > t[j + 1] ? (t[j + m + 1] - x) / (t[j + m + 1] - t[j + 1]) : 0.0;
  return up * basis(t, j, m - 1, x) + down * basis(t, j + 1, m - 1, x);
}

template <class T>
void compare(int rows, int in, int out, int grid_size, int order, double tolerance) {
  std::mt19937 random(rows * 7 + in);
  std::uniform_real_distribution<double> uniform(-1.5, 1.5);
  const int num_basis = grid_size + order;
  const int num_knots = num_basis + order + 1;
  auto fill = [&](size_t n) {
    std::vector<T> values(n);
    for (T& v : values) v = static_cast<T>(uniform(random));
    return values;
  };
  std::vector<T> knots(in * num_knots);
  for (int i = 0; i < in; ++i)
    for (int j = 0; j < num_knots; ++j)
      knots[i * num_knots + j] = T(-1 + 2.0 / grid_size * (j - order) + 0.1 * i / in);
  const std::vector<T> x = fill(rows * in), u = fill(rows * out);
  const std::vector<T> weight = fill(out * in * num_basis), scaler = fill(out * in);
  const std::vector<T> base = fill(out * in);

  const auto table = find_table(knots.data(), in, num_knots, order);
  const LayerArgs<T> layer{rows, in,      out, 0, table->view(), x.data(),      in,
                           1,    nullptr, 0,   0, weight.data(), scaler.data(), base.data()};
  std::vector<T> y(rows * out), z(rows * in), gw(weight.size()), gs(scaler.size()), gb(base.size());
  if (contract_out<T>({layer, 0, y.data()}) != Status::kOk) ++failures;
  if (contract_in_weight<T>({layer, 1, 0, u.data(), out, 1, z.data(), gw.data(), gs.data(),
                             gb.data()}) != Status::kOk)
    ++failures;

  std::vector<double> y_wanted(y.size()), gw_wanted(gw.size()), gb_wanted(gb.size());
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < in; ++i) {
      const double at = x[r * in + i];
      const std::vector<double> t(knots.begin() + i * num_knots,
                                  knots.begin() + (i + 1) * num_knots);
      const double silu = at / (1 + std::exp(-at));
      for (int g = 0; g <= num_basis; ++g) {
        const double value = g < num_basis ? basis(t, g, order, at) : silu;
        for (int o = 0; o < out; ++o) {
          const int edge = o * in + i;
          const double w = g < num_basis ? double(scaler[edge]) * weight[edge * num_basis + g]
                                         : double(base[edge]);
          y_wanted[r * out + o] += w * value;
          if (g < num_basis)
            gw_wanted[edge * num_basis + g] += value * scaler[edge] * u[r * out + o];
          else
            gb_wanted[edge] += value * u[r * out + o];
        }
      }
    }
  for (size_t n = 0; n < y.size(); ++n) expect_near("y", y[n], y_wanted[n], in, tolerance);
  // few rows are read where their weights are, many have them packed
  LayerArgs<T> first = layer;
  first.rows = 1;
  std::vector<T> few(out);
  if (contract_out<T>({first, 0, few.data()}) != Status::kOk) ++failures;
  for (size_t n = 0; n < few.size(); ++n) expect_near("few", few[n], y_wanted[n], in, tolerance);
  for (size_t n = 0; n < gw.size(); ++n) expect_near("grad", gw[n], gw_wanted[n], rows, tolerance);
  for (size_t n = 0; n < gb.size(); ++n) expect_near("base", gb[n], gb_wanted[n], rows, tolerance);
  // the slope by differences of the forward
  if (sizeof(T) == 8 && order >= 2) {
    std::vector<T> moved = x;
    const double h = 1e-6;
    for (T& v : moved) v += static_cast<T>(h);
    LayerArgs<T> shifted = layer;
    shifted.x = moved.data();
    std::vector<T> y2(y.size());
    contract_out<T>({shifted, 0, y2.data()});
    double change = 0, slope = 0;
    for (size_t n = 0; n < y.size(); ++n) change += (y2[n] - y[n]) / h * u[n];
    for (const T v : z) slope += v;
    expect_near("slope", slope, change, rows * in * 10, 1e-4);
  }
}

// The Gram matrix of one input against plain loops; its trace-like sums over all entries.
void test_gram() {
  const int rows = 50, order = 3, num_basis = 8;
  std::vector<double> t(num_basis + order + 1), x(rows);
  for (size_t j = 0; j < t.size(); ++j) t[j] = -1 + 0.4 * (int(j) - order);
  for (int r = 0; r < rows; ++r) x[r] = -1.3 + 2.6 * r / rows;
  const auto table = find_table(t.data(), 1, int(t.size()), order);
  std::vector<double> found((num_basis + 1) * (num_basis + 1));
  gram<double>({rows, 1, 0, table->view(), table->view(), 0, 0, x.data(), 1, 1, found.data(),
                nullptr, nullptr});
  for (int g = 0; g <= num_basis; ++g)
    for (int h = 0; h <= num_basis; ++h) {
      double wanted = 0;
      for (const double at : x) {
        const double silu = at / (1 + std::exp(-at));
        wanted += (g < num_basis ? basis(t, g, order, at) : silu) *
                  (h < num_basis ? basis(t, h, order, at) : silu);
      }
      expect_near("gram", found[g * (num_basis + 1) + h], wanted, rows, 1e-13);
    }
}

// The function g of a full basis, or its derivative.
double full_value(Family family, double x, int g, double center, double width, bool slope) {
  if (family == Family::kChebyshev)
    return slope ? g * std::sin(g * std::acos(x)) / std::sqrt(1 - x * x)
                 : std::cos(g * std::acos(x));
  if (family == Family::kActivation) {
    const double s = 1 / (1 + std::exp(-x));
    return slope ? s + x * s * (1 - s) : x * s;
  }
  const double s = (x - center) / width;
  return std::exp(-s * s) * (slope ? -2 * s / width : 1);
}

// A full layer and a base branch beside it, against plain loops.
template <class T>
void compare_full(Family family, int rows, int in, int out, int num_basis, double tolerance) {
  std::mt19937 random(rows * 7 + in);
  std::uniform_real_distribution<double> uniform(-0.9, 0.9);
  auto fill = [&](size_t n) {
    std::vector<T> values(n);
    for (T& v : values) v = static_cast<T>(uniform(random));
    return values;
  };
  const std::vector<T> x = fill(rows * in), base_x = fill(rows * in), u = fill(rows * out);
  const std::vector<T> weight = fill(out * in * num_basis), base = fill(out * in);
  const std::vector<T> bias = fill(out), centers = fill(num_basis);
  const int silu = static_cast<int>(Activation::kSilu);
  const FullLayer<T> layer{rows,
                           in,
                           out,
                           static_cast<int>(family),
                           num_basis,
                           silu,
                           0.7,
                           centers.data(),
                           x.data(),
                           in,
                           1,
                           nullptr,
                           0,
                           0,
                           weight.data(),
                           in * num_basis,
                           num_basis,
                           {}};
  const FullLayer<T> beside{rows,
                            in,
                            out,
                            static_cast<int>(Family::kActivation),
                            1,
                            silu,
                            1,
                            nullptr,
                            base_x.data(),
                            in,
                            1,
                            nullptr,
                            0,
                            0,
                            base.data(),
                            in,
                            1,
                            {}};
  std::vector<T> y(rows * out), z(rows * in), grad(weight.size());
  std::vector<T> base_z(rows * in), base_grad(base.size());
  if (full_out<T>({layer, 0, y.data(), true, beside, bias.data()}) != Status::kOk) ++failures;
  if (full_in_weight<T>({{layer, 1, 0, z.data(), grad.data(), nullptr, false},
                         u.data(),
                         out,
                         1,
                         true,
                         {beside, 1, 0, base_z.data(), base_grad.data(), nullptr, false}}) !=
      Status::kOk)
    ++failures;
  std::vector<double> wanted_grad(weight.size()), wanted_base(base.size());
  for (int r = 0; r < rows; ++r) {
    std::vector<double> wanted_y(bias.begin(), bias.end());
    for (int i = 0; i < in; ++i) {
      double wanted_z = 0, wanted_base_z = 0;
      for (int o = 0; o < out; ++o) {
        const double cotangent = u[r * out + o];
        for (int g = 0; g < num_basis; ++g) {
          const size_t at = (size_t(o) * in + i) * num_basis + g;
          const double value = full_value(family, x[r * in + i], g, centers[g], 0.7, false);
          wanted_y[o] += weight[at] * value;
          wanted_grad[at] += cotangent * value;
          wanted_z +=
              cotangent * weight[at] * full_value(family, x[r * in + i], g, centers[g], 0.7, true);
        }
        const double at = base_x[r * in + i];
        const double value = full_value(Family::kActivation, at, 0, 0, 1, false);
        wanted_y[o] += base[o * in + i] * value;
        wanted_base[o * in + i] += cotangent * value;
        wanted_base_z +=
            cotangent * base[o * in + i] * full_value(Family::kActivation, at, 0, 0, 1, true);
      }
      const double scale = out * num_basis * num_basis;
      expect_near("full z", z[r * in + i], wanted_z, scale, tolerance);
      expect_near("full base z", base_z[r * in + i], wanted_base_z, scale, tolerance);
    }
    for (int o = 0; o < out; ++o)
      expect_near("full y", y[r * out + o], wanted_y[o], in * num_basis, tolerance);
  }
  for (size_t n = 0; n < grad.size(); ++n)
    expect_near("full S", grad[n], wanted_grad[n], rows, tolerance);
  for (size_t n = 0; n < base_grad.size(); ++n)
    expect_near("full base S", base_grad[n], wanted_base[n], rows, tolerance);
}

// A layer of normalised inputs, its weights with inputs first, against the layer without on inputs
// that are normalised beforehand.
void compare_norm(int rows, int in, int out, int num_basis) {
  std::mt19937 random(rows + in);
  std::normal_distribution<double> normal;
  auto fill = [&](size_t n) {
    std::vector<double> values(n);
    for (double& v : values) v = normal(random);
    return values;
  };
  const std::vector<double> x = fill(rows * in), u = fill(rows * out), centers = fill(num_basis);
  const std::vector<double> scale = fill(in), shift = fill(in), weight = fill(in * out * num_basis);
  const double eps = 0.1;
  std::vector<double> standard(x.size()), seen(x.size()), rstd(rows);
  for (int r = 0; r < rows; ++r) {
    double mean = 0, variance = 0;
    for (int i = 0; i < in; ++i) mean += x[r * in + i] / in;
    for (int i = 0; i < in; ++i) variance += std::pow(x[r * in + i] - mean, 2) / in;
    rstd[r] = 1 / std::sqrt(variance + eps);
    for (int i = 0; i < in; ++i) {
      standard[r * in + i] = (x[r * in + i] - mean) * rstd[r];
      seen[r * in + i] = standard[r * in + i] * scale[i] + shift[i];
    }
  }
  const int stride = (rows + 63) / 64 * 64;
  std::vector<double> statistics(2 * stride);
  FullLayer<double> layer{rows,
                          in,
                          out,
                          static_cast<int>(Family::kGaussianRbf),
                          num_basis,
                          0,
                          0.7,
                          centers.data(),
                          seen.data(),
                          in,
                          1,
                          nullptr,
                          0,
                          0,
                          weight.data(),
                          num_basis,
                          int64_t{out} * num_basis,
                          {}};
  std::vector<double> y[2], z[2], grad[2];
  std::vector<double> grad_norm(2 * in);
  for (const bool with_norm : {false, true}) {
    if (with_norm) {
      layer.x = x.data();
      layer.norm = {scale.data(), shift.data(), eps, statistics.data(), stride};
    }
    y[with_norm].resize(rows * out);
    z[with_norm].resize(x.size());
    grad[with_norm].resize(weight.size());
    const FullGradients<double> gradients{layer,
                                          1,
                                          0,
                                          z[with_norm].data(),
                                          grad[with_norm].data(),
                                          with_norm ? grad_norm.data() : nullptr,
                                          false};
    if (full_out<double>({layer, 0, y[with_norm].data(), false, {}, nullptr}) != Status::kOk ||
        full_in_weight<double>({gradients, u.data(), out, 1, false, {}}) != Status::kOk)
      ++failures;
  }
  for (size_t n = 0; n < y[0].size(); ++n) expect_near("norm y", y[1][n], y[0][n], in, 1e-12);
  for (size_t n = 0; n < grad[0].size(); ++n)
    expect_near("norm S", grad[1][n], grad[0][n], rows, 1e-12);
  std::vector<double> wanted_norm(2 * in);
  for (int r = 0; r < rows; ++r) {
    double plain = 0, times = 0;
    for (int i = 0; i < in; ++i) {
      const int at = r * in + i;
      wanted_norm[i] += z[0][at] * standard[at];
      wanted_norm[in + i] += z[0][at];
      plain += z[0][at] * scale[i] / in;
      times += z[0][at] * scale[i] * standard[at] / in;
    }
    for (int i = 0; i < in; ++i) {
      const int at = r * in + i;
      expect_near("norm z", z[1][at],
                  rstd[r] * (z[0][at] * scale[i] - plain - standard[at] * times), 10 * out, 1e-12);
    }
  }
  for (int n = 0; n < 2 * in; ++n)
    expect_near("norm gradients", grad_norm[n], wanted_norm[n], 10 * rows, 1e-12);
}

void test_location() {
  const float knots[] = {0.f, 1.f, 1.f, 2.f, 4.f};
  const float x[] = {-0.1f, 0.f, 0.5f, 1.f, 1.9f, 2.f, 3.9f, 4.f, NAN, INFINITY};
  const int wanted[] = {-1, 0, 0, 2, 2, 3, 3, -1, -1, -1};
  for (int n = 0; n < 10; ++n) expect_near("cell", locate(x[n], knots, 5), wanted[n], 1, 0);
  std::vector<float> even(104);
  for (int j = 0; j < 104; ++j) even[j] = -1 + 0.02f * j;
  for (float at = -1.1f; at < 1.2f; at += 0.0007f)
    expect_near("uniform cell", locate_uniform(at, even.data(), 104, 50.f),
                locate(at, even.data(), 104), 1, 0);
}

void test_bad_knots() {
  const double unsorted[] = {0, 2, 1, 3}, flat[] = {1, 1, 1, 1}, nan[] = {0, NAN, 1, 2};
  for (const double* knots : {unsorted, flat, nan})
    if (find_table(knots, 1, 4, 1) != nullptr) ++failures;
}

}  // namespace

int main() {
  test_location();
  test_bad_knots();
  int sets = 0;
  for (const char* isa : {"baseline", "avx2", "avx512"}) {
    if (!set_isa(isa)) continue;  // this CPU or build lacks it
    ++sets;
    test_gram();
    for (const Family family : {Family::kGaussianRbf, Family::kChebyshev}) {
      compare_full<float>(family, 1, 1, 1, 1, 3e-6);
      compare_full<float>(family, 70, 17, 13, 8, 3e-6);
      compare_full<double>(family, 530, 3, 5, 9, 1e-12);
    }
    compare_norm(1, 1, 1, 1);
    compare_norm(70, 19, 3, 8);
    compare_norm(1100, 1, 2, 5);
    for (int order = 0; order <= kMaxOrder; ++order) {
      compare<double>(33, 3, 5, 4, order, 1e-12);
      compare<float>(70, 2, 1, 5, order, 3e-6);
    }
    compare<float>(300, 17, 70, 5, 3, 3e-6);
    compare<float>(9, 5, 530, 60, 3, 3e-6);
    compare<float>(77, 5, 8, 3, 3, 3e-6);
    compare<float>(77, 3, 16, 12, 2, 3e-6);
    compare<double>(1, 1, 1, 1, 3, 1e-12);
  }
  std::printf("%d failures in %d instruction sets\n", failures, sets);
  return failures == 0 ? 0 : 1;
}
