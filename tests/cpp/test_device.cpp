// The CUDA kernels, thread by thread on the host, against the CPU kernels: under the sanitizers an
// index outside of shared memory or of a tensor stops the program.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "device_entry.h"
#include "entry.h"
#include "kan_fast/activation.h"
#include "table.h"

using namespace kan_fast;

namespace {

int failures = 0;

template <class T>
void expect_near(const char* what, const std::vector<T>& found, const std::vector<T>& wanted,
                 double tolerance) {
  double largest = 0, scale = 1;
  for (size_t n = 0; n < wanted.size(); ++n) {
    largest = std::fmax(largest, std::abs(double(found[n]) - double(wanted[n])));
    scale = std::fmax(scale, std::abs(double(wanted[n])));
  }
  if (largest <= tolerance * scale) return;
  ++failures;
  std::printf("%s: %g of %g\n", what, largest, scale);
}

template <class T>
void compare(int rows, int in, int out, int grid_size, int order, double tolerance) {
  const int num_knots = grid_size + 2 * order + 1, num_basis = grid_size + order;
  std::mt19937 random(rows + 31 * in + 7 * order);
  std::uniform_real_distribution<double> uniform(-1.3, 1.3);
  auto fill = [&](size_t n) {
    std::vector<T> values(n);
    for (T& v : values) v = static_cast<T>(uniform(random));
    return values;
  };
  std::vector<T> knots(in * num_knots);
  for (int i = 0; i < in; ++i)
    for (int j = 0; j < num_knots; ++j)
      knots[i * num_knots + j] = static_cast<T>(-1 + (j - order + 0.2 * i / in) * 2.0 / grid_size);
  const auto table = find_table(knots.data(), in, num_knots, order);
  const std::vector<T> x = fill(rows * in), v = fill(rows * in), u = fill(rows * out);
  const std::vector<T> spline = fill(out * in * num_basis), scaler = fill(out * in);
  const std::vector<T> base = fill(out * in);
  const LayerArgs<T> layer{rows,          in,         out, static_cast<int>(Activation::kSilu),
                           table->view(), x.data(),   in,  1,
                           v.data(),      in,         1,   spline.data(),
                           scaler.data(), base.data()};
  const CudaTarget host{true, nullptr};
  struct Results {
    std::vector<T> y, z, spline, scaler, base;
  };
  Results results[2];
  for (const bool device : {false, true}) {
    Results& r = results[device];
    r.y.resize(rows * out), r.z.resize(x.size()), r.spline.resize(spline.size());
    r.scaler.resize(scaler.size()), r.base.resize(base.size());
    const OutArgs<T> forward{layer, 1, r.y.data(), nullptr, 0};
    const InWeightArgs<T> backward{
        layer, 1, 0, u.data(), out, 1, r.z.data(), r.spline.data(), r.scaler.data(), r.base.data()};
    if (device) {
      std::vector<T> partial(gather_partial_numbers(layer));
      failures += gather_out(forward, host) != kCudaOk;
      failures += gather_in_weight(backward, partial.data(), host) != kCudaOk;
    } else {
      failures += contract_out(forward) != Status::kOk;
      failures += contract_in_weight(backward) != Status::kOk;
    }
  }
  expect_near("y", results[1].y, results[0].y, tolerance);
  if constexpr (sizeof(T) == 4) {
    std::vector<T> y(rows * out);
    for (const bool sparse : {false, true}) {
      const int error = mma_out({layer, 1, y.data(), nullptr, 0}, 3, sparse, host);
      if (num_basis <= 48 && (!sparse || (order >= 1 && order <= 3))) {
        failures += error != kCudaOk;
        expect_near("y of tensor cores", y, results[0].y, tolerance);
      } else {
        failures += error != kTooManyFunctions;
      }
    }
  }
  expect_near("z", results[1].z, results[0].z, tolerance);
  expect_near("spline weights", results[1].spline, results[0].spline, tolerance);
  expect_near("scaler", results[1].scaler, results[0].scaler, tolerance);
  expect_near("base weights", results[1].base, results[0].base, tolerance);
}

}  // namespace

int main() {
  for (int order = 0; order <= 7; ++order) {
    compare<double>(67, 5, 9, 4, order, 1e-10);
    compare<float>(130, 3, 70, 60, order, 3e-4);
  }
  compare<float>(70, 17, 67, 5, 3, 3e-4);
  compare<float>(3, 2, 1, 45, 3, 3e-4);
  compare<double>(1, 1, 1, 1, 3, 1e-11);
  compare<float>(1100, 9, 1, 5, 3, 3e-4);
  compare<double>(5, 2, 3, 700, 3, 1e-10);
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
