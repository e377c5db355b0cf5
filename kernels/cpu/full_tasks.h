// full bases: the share of one thread.
#pragma once

#include <algorithm>

#include "full_norm.h"
#include "full_tiles.h"
#include "tasks.h"

KAN_NAMESPACE_BEGIN

template <class T>
struct FullTasks {
  using Tiles = FullTiles<T>;
  using Norm = FullNorm<T>;
  static constexpr int64_t kRows = Tiles::kRows;

  // Functions of a few inputs at a tile of rows stay in L1 while all outputs read them.
  static constexpr int64_t kOutColumns = 128;
  // Functions of a few inputs at a chunk of rows stay in L2, twice: with and without derivative.
  static constexpr int64_t kInColumns = 64;
  static constexpr int64_t kChunk = 256;
  // a vector more: functions a multiple of 2 KB apart would share lines of L1
  static constexpr int64_t kStride = kChunk + Tiles::kLanes;

  static int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

  // As many inputs as give about so many columns.
  static int64_t inputs_of(const FullLayer<T>& layer, int64_t columns) {
    return std::max<int64_t>(1, std::min(layer.in_features, columns / layer.num_basis));
  }

  static bool out(const FullOutArgs<T>& args, int64_t row_begin, int64_t row_end) {
    const FullLayer<T>& layer = args.layer;
    int64_t most = inputs_of(layer, kOutColumns), columns = most * layer.num_basis;
    if (args.has_base) {
      most = std::max(most, inputs_of(args.base, kOutColumns));
      columns = std::max(columns, inputs_of(args.base, kOutColumns) * args.base.num_basis);
    }
    const int64_t numbers = kRows * (2 * most + columns + layer.out_features);
    T* memory = static_cast<T*>(thread_scratch(sizeof(T) * numbers));
    if (memory == nullptr) return false;
    const OutMemory at{memory, memory + most * kRows, memory + 2 * most * kRows,
                       memory + (2 * most + columns) * kRows};
    for (int64_t r = row_begin; r < row_end; r += kRows) {
      const int64_t count = std::min(kRows, row_end - r);
      if (args.bias != nullptr)
        for (int64_t o = 0; o < layer.out_features; ++o)
          std::fill_n(at.y + o * kRows, kRows, args.bias[o]);
      if (layer.has_norm()) Norm::statistics(layer, r, count, most, at.x);
      add_rows(layer, args.derivative, r, count, args.bias != nullptr, at);
      if (args.has_base) add_rows(args.base, args.derivative, r, count, true, at);
      transpose(at.y, kRows, static_cast<int>(layer.out_features), static_cast<int>(count),
                args.y + r * layer.out_features, layer.out_features);
    }
    return true;
  }

  // z and S of some inputs from some rows, a whole number of tiles from the first. `u` is
  // [out_features, u_stride], rows beyond the last zero. With a normalisation z is that of what
  // `Norm::input_gradient` completes.
  static bool in_weight(const FullGradients<T>& args, const T* u, int64_t u_stride,
                        const FullShare& share, const FullSums<T>& into) {
    const FullLayer<T>& layer = args.layer;
    const int64_t most = inputs_of(layer, kInColumns);
    const InMemory at = in_memory(most, most * layer.num_basis, layer.out_features);
    if (at.x == nullptr) return false;
    if (layer.has_norm() && args.reads_weights())
      for (const int64_t sum : {int64_t{0}, into.stride})
        std::fill(into.rows + sum + share.row_begin,
                  into.rows + sum + round_up(share.row_end, Tiles::kLanes), T(0));
    for (int64_t i = share.in_begin; i < share.in_end; i += most)
      strip(args, u, u_stride, share, i, std::min(most, share.in_end - i), into, at);
    return true;
  }

  static void norm_input(const FullGradients<T>& args, const FullShare& share, const T* rows,
                         int64_t parts, int64_t stride) {
    Norm::input_gradient(args, share, rows, parts, stride);
  }

 private:
  struct OutMemory {
    T *x, *v, *phi, *y;
  };
  struct InMemory {
    T *x, *v, *standard, *phi, *turned, *slope, *product, *weight, *grad, *z, *norm;
  };

  static InMemory in_memory(int64_t inputs, int64_t columns, int64_t outputs) {
    const int64_t whole = round_up(columns, Tiles::kLanes);
    const struct {
      T* InMemory::* to;
      int64_t size;
    } parts[] = {{&InMemory::x, inputs * kStride},
                 {&InMemory::v, inputs * kStride},
                 {&InMemory::standard, inputs * kStride},
                 {&InMemory::phi, columns * kStride},
                 {&InMemory::turned, whole * kChunk},
                 {&InMemory::slope, columns * kStride},
                 {&InMemory::product, columns * kRows},
                 {&InMemory::weight, columns * outputs},
                 {&InMemory::grad, whole * outputs},
                 {&InMemory::z, inputs * kRows},
                 {&InMemory::norm, inputs * 2 * Tiles::kLanes}};
    int64_t numbers = 0;
    for (const auto& part : parts) numbers += part.size;
    T* memory = static_cast<T*>(thread_scratch(sizeof(T) * numbers));
    InMemory found{};
    if (memory == nullptr) return found;
    for (const auto& part : parts) {
      found.*part.to = memory;
      memory += part.size;
    }
    return found;
  }

  // `inputs` inputs from i on, from all rows of the share.
  static void strip(const FullGradients<T>& args, const T* u, int64_t u_stride,
                    const FullShare& share, int64_t i, int64_t inputs, const FullSums<T>& into,
                    const InMemory& at) {
    const FullLayer<T>& layer = args.layer;
    const int64_t outputs = layer.out_features, columns = inputs * layer.num_basis;
    const int64_t grad_stride = round_up(columns, Tiles::kLanes);
    const bool has_z = args.reads_weights(), has_grad = into.weight != nullptr;
    // rows of the weights may lie a multiple of the cache's ways apart
    if (has_z)
      runs(layer, i, inputs, columns, [&](int64_t from, int64_t to, int64_t length) {
        std::copy_n(layer.weight + from, length, at.weight + to);
      });
    if (layer.has_norm()) std::fill_n(at.norm, inputs * 2 * Tiles::kLanes, T(0));
    for (int64_t r = share.row_begin; r < share.row_end; r += kChunk) {
      const int64_t count = std::min(kChunk, share.row_end - r);
      evaluate(layer, r, count, i, inputs, args.derivative_weight, has_grad ? at.phi : nullptr,
               args.derivative_in, has_z ? at.slope : nullptr, at.x, at.v, kStride,
               layer.has_norm() ? at.standard : nullptr);
      if (has_grad)
        add_grad(u + r, u_stride, outputs, at, columns, grad_stride, count, r > share.row_begin);
      for (int64_t p = 0; has_z && p < count; p += kRows) {
        const int64_t rows = std::min(kRows, count - p);
        Tiles::products({u + r + p, u_stride, at.weight, 1, columns, 0, 1, outputs, columns, false,
                         at.product, kRows},
                        rows);
        fold(layer, at.product, at.slope + p, inputs, at.z);
        if (layer.has_norm())
          Norm::gather(layer.norm, i, inputs, round_up(rows, Tiles::kLanes), at.standard + p,
                       kStride, at.z, {at.norm, into.rows + r + p, into.stride});
        if (args.z != nullptr)
          store(at.z, inputs, rows, args.z + (r + p) * layer.in_features + i, layer.in_features,
                args.add, at.product);
      }
    }
    if (has_grad)
      runs(layer, i, inputs, grad_stride, [&](int64_t to, int64_t from, int64_t length) {
        std::copy_n(at.grad + from, length, into.weight + to);
      });
    for (int64_t n = 0; into.norm != nullptr && n < inputs; ++n)
      for (const int64_t which : {0, 1})
        into.norm[which * layer.in_features + i + n] =
            Tiles::X::sum(Tiles::X::load(at.norm + (2 * n + which) * Tiles::kLanes));
  }

  // grad[o, :] (+)= sum_r u[o, r] phi[:, r] for a chunk of rows. Columns as lanes, for which phi is
  // turned around, need no sums over lanes; few outputs are not worth the turn.
  static void add_grad(const T* u, int64_t u_stride, int64_t outputs, const InMemory& at,
                       int64_t columns, int64_t grad_stride, int64_t count, bool add) {
    if (outputs < Tiles::kWide)
      return Tiles::inner_products(u, u_stride, outputs, at.phi, kStride, columns,
                                   round_up(count, Tiles::kLanes), add, at.grad, grad_stride);
    transpose(at.phi, kStride, static_cast<int>(columns), static_cast<int>(count), at.turned,
              grad_stride);
    for (int64_t n = 0; n < columns; n += kRows)
      Tiles::products({at.turned + n, grad_stride, u, u_stride, 1, 0, 1, count, outputs, add,
                       at.grad + n, grad_stride},
                      std::min(kRows, columns - n));
  }

  // run(offset among the weights, offset in a strip [out_features, stride], length) for all of a
  // strip's weights.
  template <class Run>
  static void runs(const FullLayer<T>& layer, int64_t i, int64_t inputs, int64_t stride,
                   const Run& run) {
    const int64_t first = i * layer.weight_in_stride;
    if (layer.weight_in_stride == layer.num_basis)
      for (int64_t o = 0; o < layer.out_features; ++o)
        run(first + o * layer.weight_out_stride, o * stride, inputs * layer.num_basis);
    else
      for (int64_t n = 0; n < inputs; ++n)
        for (int64_t o = 0; o < layer.out_features; ++o)
          run(first + n * layer.weight_in_stride + o * layer.weight_out_stride,
              o * stride + n * layer.num_basis, layer.num_basis);
  }

  // to[r, :inputs] (+)= z[:, r]; `memory` has room for them.
  static void store(const T* z, int64_t inputs, int64_t rows, T* to, int64_t to_stride, bool add,
                    T* memory) {
    const int num_inputs = static_cast<int>(inputs), num_rows = static_cast<int>(rows);
    if (!add) return transpose(z, kRows, num_inputs, num_rows, to, to_stride);
    transpose(z, kRows, num_inputs, num_rows, memory, inputs);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t n = 0; n < inputs; ++n) to[r * to_stride + n] += memory[r * inputs + n];
  }

  // y[o, :] (+)= the layer at a tile of rows.
  static void add_rows(const FullLayer<T>& layer, int derivative, int64_t r, int64_t count,
                       bool add, const OutMemory& at) {
    const int64_t most = inputs_of(layer, kOutColumns);
    // one long sum where weights of neighbouring inputs are neighbours
    const bool joined = layer.weight_in_stride == layer.num_basis;
    for (int64_t i = 0; i < layer.in_features; i += most) {
      const int64_t inputs = std::min(most, layer.in_features - i);
      evaluate(layer, r, count, i, inputs, derivative, at.phi, 0, nullptr, at.x, at.v, kRows);
      Tiles::products({at.phi, kRows, layer.weight + i * layer.weight_in_stride,
                       layer.weight_out_stride, 1, layer.weight_in_stride, joined ? 1 : inputs,
                       joined ? inputs * layer.num_basis : layer.num_basis, layer.out_features,
                       add || i > 0, at.y, kRows},
                      count);
    }
  }

  static void evaluate(const FullLayer<T>& layer, int64_t r, int64_t count, int64_t i,
                       int64_t inputs, int first, T* at_first, int second, T* at_second, T* x, T* v,
                       int64_t stride, T* standard = nullptr) {
    const int64_t whole = round_up(count, Tiles::kLanes);
    Tiles::columns(layer.x + r * layer.x_row_stride + i * layer.x_col_stride, layer.x_row_stride,
                   layer.x_col_stride, count, inputs, x, stride);
    if (layer.has_norm()) Norm::normalise(layer, r, whole, i, inputs, x, standard, stride);
    const bool has_v = layer.v != nullptr;
    if (has_v)
      Tiles::columns(layer.v + r * layer.v_row_stride + i * layer.v_col_stride, layer.v_row_stride,
                     layer.v_col_stride, count, inputs, v, stride);
    const int64_t step = layer.num_basis * stride;
    for (int64_t n = 0; n < inputs; ++n)
      Tiles::functions(layer, x + n * stride, has_v ? v + n * stride : nullptr, whole, first,
                       at_first == nullptr ? nullptr : at_first + n * step, second,
                       at_second == nullptr ? nullptr : at_second + n * step, stride);
  }

  // z[i, :] = sum_g product[i, g, :] slope[i, g, :]
  static void fold(const FullLayer<T>& layer, const T* product, const T* slope, int64_t inputs,
                   T* z) {
    using X = typename Tiles::X;
    for (int64_t n = 0; n < inputs; ++n)
      for (int64_t r = 0; r < kRows; r += Tiles::kLanes) {
        typename X::V sum{};
        for (int64_t g = n * layer.num_basis; g < (n + 1) * layer.num_basis; ++g)
          sum += X::load(product + g * kRows + r) * X::load(slope + g * kStride + r);
        X::store(z + n * kRows + r, sum);
      }
  }
};

KAN_NAMESPACE_END
