// The CUDA kernels against the CPU kernels: thread by thread on the host, where under the
// sanitizers an index outside of shared memory or of a tensor stops the program, and on a GPU where
// there is one.
//
//     cmake -S . -B build/tests -DKAN_FAST_CXX_TESTS=ON && cmake --build build/tests
//     build/tests/test_device
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "device_memory.h"
#include "entry.h"
#include "kan_fast/activation.h"
#include "launch_mma.h"
#include "table.h"

using namespace kan_fast;

namespace {

int failures = 0;

template <class T>
void expect_near(const char* where, const char* what, const Numbers<T>& found,
                 const Numbers<T>& wanted, double tolerance) {
  double largest = 0, scale = 1;
  for (size_t n = 0; n < wanted.size(); ++n) {
    const double error = std::abs(double(found[n]) - double(wanted[n]));
    largest = error <= largest ? largest : error;  // NaN counts
    scale = std::fmax(scale, std::abs(double(wanted[n])));
  }
  if (largest <= tolerance * scale) return;
  ++failures;
  std::printf("%s, %s: %g of %g\n", where, what, largest, scale);
}

template <class T>
struct Layer {
  int rows, in, out, num_knots, order;
  std::shared_ptr<const Table<T>> table;
  Numbers<T> knots, x, v, u, spline, scaler, base;

  Layer(int rows, int in, int out, int grid_size, int order)
      : rows(rows), in(in), out(out), num_knots(grid_size + 2 * order + 1), order(order) {
    std::mt19937 random(rows + 31 * in + 7 * order);
    std::uniform_real_distribution<double> uniform(-1.3, 1.3);
    auto fill = [&](size_t n) {
      Numbers<T> values(n);
      for (T& value : values) value = static_cast<T>(uniform(random));
      return values;
    };
    knots.resize(in * num_knots);
    for (int i = 0; i < in; ++i)
      for (int j = 0; j < num_knots; ++j)
        knots[i * num_knots + j] =
            static_cast<T>(-1 + (j - order + 0.2 * i / in) * 2.0 / grid_size);
    table = find_table(knots.data(), in, num_knots, order);
    x = fill(rows * in), v = fill(rows * in), u = fill(rows * out);
    spline = fill(out * in * (grid_size + order)), scaler = fill(out * in), base = fill(out * in);
  }

  LayerArgs<T> args(const T* x, const T* v) const {
    TableView<T> view = table->view();
    // one row of knots for each input, where both sides read it
    view.num_features = view.num_features == 1 ? 1 : in;
    view.knots = knots.data();
    return {rows,
            in,
            out,
            static_cast<int>(Activation::kSilu),
            view,
            x,
            in,
            1,
            v,
            in,
            1,
            spline.data(),
            scaler.data(),
            base.data()};
  }
};

template <class T>
struct Results {
  Numbers<T> y, z, spline, scaler, base;

  explicit Results(const Layer<T>& l)
      : y(l.rows * l.out),
        z(l.rows * l.in),
        spline(l.spline.size()),
        scaler(l.scaler.size()),
        base(l.base.size()) {}

  InWeightArgs<T> gradients(const Layer<T>& l, const LayerArgs<T>& args, const T* u) {
    return {args, 1, 0, u, l.out, 1, z.data(), spline.data(), scaler.data(), base.data()};
  }
  void expect(const char* where, const Results& wanted, double tolerance) const {
    expect_near(where, "y", y, wanted.y, tolerance);
    expect_near(where, "z", z, wanted.z, tolerance);
    expect_near(where, "spline weights", spline, wanted.spline, tolerance);
    expect_near(where, "scaler", scaler, wanted.scaler, tolerance);
    expect_near(where, "base weights", base, wanted.base, tolerance);
  }
};

// Tensor cores, in every precision and form.
void compare_products(const char* where, const CudaTarget& target, const Layer<float>& layer,
                      const LayerArgs<float>& args, const Results<float>& wanted,
                      double tolerance) {
  const int functions = args.table.num_basis, order = layer.order;
  const struct {
    Product product;
    double tolerance;
  } products[] = {{Product::kTf32x3, tolerance},
                  {Product::kTf32, 4e-3},
                  {Product::kBf16, 3e-2},
                  {Product::kF16, 4e-3}};
  for (const auto& [product, allowed] : products) {
    Results<float> found(layer);
    for (const bool wgmma : {false, true}) {
      if (wgmma && !target.emulated && !has_wgmma()) continue;
      for (const bool sparse : {false, true}) {
        const MmaChoice choice{product, sparse, wgmma, (wgmma ? 227 : 99) * 1024};
        const int64_t words = mma_packed_words(args, choice);
        Numbers<uint32_t> packed(words);
        const bool fits = order >= 1 && order <= 3;
        failures += functions <= 16 ? (words != 0) != fits : words != 0 && !fits;
        failures += !runs(target, words == 0 ? kTooManyFunctions : kCudaOk, [&] {
          return mma_out(on(target, OutArgs<float>{args, 1, found.y.data()}), choice,
                         on(target, packed.data()), target);
        });
        if (words != 0) expect_near(where, "y of products", found.y, wanted.y, allowed);
      }
    }
    const int64_t numbers = mma_partial_numbers(args, product);
    const bool fits = order >= 1 && order <= 3 && functions <= 63;
    failures += (numbers >= 0) != fits;
    if (!fits) continue;
    Numbers<float> partial(numbers);
    found.y = wanted.y;
    failures += !runs(target, kCudaOk, [&] {
      return mma_in_weight(on(target, found.gradients(layer, args, layer.u.data())), product,
                           on(target, partial.data()), target);
    });
    found.expect(where, wanted, allowed);
  }
}

// Every kernel of single layers, on `target`.
template <class T>
void compare(const char* where, const CudaTarget& target, int rows, int in, int out, int grid_size,
             int order, double tolerance) {
  const Layer<T> layer(rows, in, out, grid_size, order);
  const LayerArgs<T> args = layer.args(layer.x.data(), layer.v.data());
  Results<T> wanted(layer), found(layer);
  failures += contract_out<T>({args, 1, wanted.y.data()}) != Status::kOk;
  failures += contract_in_weight(wanted.gradients(layer, args, layer.u.data())) != Status::kOk;
  Numbers<T> partial(gather_partial_numbers(args));
  failures += !runs(target, kCudaOk, [&] {
    return gather_out(on(target, OutArgs<T>{args, 1, found.y.data()}), target);
  });
  failures += !runs(target, kCudaOk, [&] {
    return gather_in_weight(on(target, found.gradients(layer, args, layer.u.data())),
                            on(target, partial.data()), target);
  });
  found.expect(where, wanted, tolerance);
  if constexpr (sizeof(T) == 4) compare_products(where, target, layer, args, wanted, tolerance);
}

// Two layers in one launch.
template <class T>
void compare_network(const char* where, const CudaTarget& target, int rows, int in, int middle,
                     int out, double tolerance, bool sums_itself = true) {
  const Layer<T> first(rows, in, middle, 5, 3), second(rows, middle, out, 5, 3);
  Results<T> wanted[] = {Results<T>(first), Results<T>(second)};
  Results<T> found[] = {Results<T>(first), Results<T>(second)};
  const LayerArgs<T> args = first.args(first.x.data(), nullptr);
  contract_out<T>({args, 0, wanted[0].y.data()});
  const LayerArgs<T> above = second.args(wanted[0].y.data(), nullptr);
  contract_out<T>({above, 0, wanted[1].y.data()});
  contract_in_weight(wanted[1].gradients(second, above, second.u.data()));
  contract_in_weight(wanted[0].gradients(first, args, wanted[1].z.data()));

  NetworkArgs<T> network_args{};
  network_args.num_layers = 2;
  network_args.of[0] = found[0].gradients(first, args, nullptr);
  network_args.of[1] =
      found[1].gradients(second, second.args(found[0].y.data(), nullptr), second.u.data());
  for (int n = 0; n < 2; ++n) network_args.y[n] = found[n].y.data();
  const NetworkSize size = network_size(network_args, NetworkPass::kBackward);
  Numbers<T> partial(size.blocks * size.numbers);
  network_args.partial = partial.data();
  // with what a forward finds there
  Numbers<int> arrived(1, 7);
  network_args.arrived = sums_itself ? arrived.data() : nullptr;
  for (const NetworkPass pass : {NetworkPass::kForward, NetworkPass::kBackward})
    failures +=
        !runs(target, kCudaOk, [&] { return network(on(target, network_args), pass, target); });
  failures += sums_itself && arrived[0] != 0;
  found[1].z = wanted[1].z;  // stays in shared memory
  found[0].expect(where, wanted[0], tolerance);
  found[1].expect(where, wanted[1], tolerance);
}

// Two stages of a forward, only where two such blocks fit into a multiprocessor.
void test_stages() {
  for (const int64_t block_kb : {99, 163, 227}) {  // compute capabilities 8.6, 8.0, 9.0
    const int64_t most = block_kb * 1024, multiprocessor = most + 1024;
    int64_t largest = 0;
    for (int64_t bytes = 128; bytes <= most; bytes += 128) {
      const int64_t stages = mma_stages(bytes, {Product::kTf32, false, false, most});
      if (stages == 2) largest = bytes;
    }
    const auto two_blocks = [](int64_t bytes) { return 2 * (2 * bytes + 1024); };
    if (two_blocks(largest) <= multiprocessor && two_blocks(largest + 128) > multiprocessor)
      continue;
    ++failures;
    std::printf("two blocks of two stages of %d bytes in %d KB\n", int(largest), int(block_kb + 1));
  }
}

void test(const char* where, const CudaTarget& target) {
  for (int order = 0; order <= 7; ++order) {
    compare<double>(where, target, 67, 5, 9, 4, order, 1e-10);
    compare<float>(where, target, 130, 3, 70, 60, order, 3e-4);
  }
  compare<float>(where, target, 70, 17, 67, 5, 3, 3e-4);
  compare<float>(where, target, 3, 2, 1, 45, 3, 3e-4);
  compare<double>(where, target, 1, 1, 1, 1, 3, 1e-11);
  compare<float>(where, target, 1100, 9, 1, 5, 3, 3e-4);
  compare<double>(where, target, 5, 2, 3, 700, 3, 1e-10);
  compare_network<double>(where, target, 100, 2, 5, 1, 1e-10);
  compare_network<double>(where, target, 33, 12, 8, 17, 1e-10);
  compare_network<double>(where, target, 33, 12, 8, 17, 1e-10, false);
  compare_network<float>(where, target, 9000, 2, 5, 1, 1e-3);
}

}  // namespace

int main() {
  test_stages();
  test("on the host", kHost);
  if (has_gpu()) test("on the GPU", kDevice);
  std::printf("%d failures, %s\n", failures, has_gpu() ? "host and GPU" : "host alone");
  return failures == 0 ? 0 : 1;
}
