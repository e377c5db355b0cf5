// Dense families: the share of one thread.
#pragma once

#include <algorithm>

#include "dense_tiles.h"
#include "tasks.h"

KAN_NAMESPACE_BEGIN

template <class T>
struct DenseTasks {
  using Tiles = DenseTiles<T>;
  static constexpr int64_t kRows = Tiles::kRows;

  // Functions of a few inputs at a tile of rows stay in L1 while all outputs read them.
  static constexpr int64_t kOutColumns = 128;
  // Functions of a few inputs at a chunk of rows stay in L2, twice: with and without derivative.
  static constexpr int64_t kInColumns = 64;
  static constexpr int64_t kChunk = 512;
  // a vector more: functions a multiple of 2 KB apart would share lines of L1
  static constexpr int64_t kStride = kChunk + Tiles::kLanes;

  static int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

  // As many inputs as give about so many columns.
  static int64_t inputs_of(const DenseLayer<T>& layer, int64_t columns) {
    return std::max<int64_t>(1, std::min(layer.in_features, columns / layer.num_basis));
  }

  static bool out(const DenseOutArgs<T>& args, int64_t row_begin, int64_t row_end) {
    const DenseLayer<T>& layer = args.layer;
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
      add_rows(layer, args.derivative, r, count, args.bias != nullptr, at);
      if (args.has_base) add_rows(args.base, args.derivative, r, count, true, at);
      transpose(at.y, kRows, static_cast<int>(layer.out_features), static_cast<int>(count),
                args.y + r * layer.out_features, layer.out_features);
    }
    return true;
  }

  // z and S of some inputs from some rows, a whole number of tiles from the first. `u` is
  // [out_features, u_stride], rows beyond the last zero; `grad` as the weights.
  static bool in_weight(const DenseGradients<T>& args, const T* u, int64_t u_stride,
                        int64_t row_begin, int64_t row_end, int64_t in_begin, int64_t in_end,
                        T* grad) {
    const DenseLayer<T>& layer = args.layer;
    const int64_t most = inputs_of(layer, kInColumns), outputs = layer.out_features;
    const int64_t most_columns = most * layer.num_basis;
    const int64_t numbers =
        kStride * 2 * (most + most_columns) + most_columns * (kRows + outputs) + most * kRows;
    T* memory = static_cast<T*>(thread_scratch(sizeof(T) * numbers));
    if (memory == nullptr) return false;
    T* const x = memory;
    T* const v = x + most * kStride;
    T* const phi = v + most * kStride;
    T* const slope = phi + most_columns * kStride;
    T* const product = slope + most_columns * kStride;
    T* const weight = product + most_columns * kRows;
    T* const z = weight + most_columns * outputs;
    for (int64_t i = in_begin; i < in_end; i += most) {
      const int64_t inputs = std::min(most, in_end - i), columns = inputs * layer.num_basis;
      // rows of the weights may lie a multiple of the cache's ways apart
      if (args.z != nullptr)
        for (int64_t o = 0; o < outputs; ++o)
          std::copy_n(layer.weight + o * layer.columns() + i * layer.num_basis, columns,
                      weight + o * columns);
      for (int64_t r = row_begin; r < row_end; r += kChunk) {
        const int64_t count = std::min(kChunk, row_end - r);
        const int64_t whole = round_up(count, Tiles::kLanes);
        evaluate(layer, r, count, i, inputs, args.derivative_weight,
                 grad == nullptr ? nullptr : phi, args.derivative_in,
                 args.z == nullptr ? nullptr : slope, x, v, kStride);
        if (grad != nullptr)
          Tiles::inner_products(u + r, u_stride, outputs, phi, kStride, columns, whole,
                                r > row_begin, grad + i * layer.num_basis, layer.columns());
        for (int64_t p = 0; args.z != nullptr && p < count; p += kRows) {
          Tiles::products(
              {u + r + p, u_stride, weight, 1, columns, outputs, columns, false, product, kRows},
              count - p);
          fold(layer, product, slope + p, inputs, z);
          transpose(z, kRows, static_cast<int>(inputs),
                    static_cast<int>(std::min(kRows, count - p)),
                    args.z + (r + p) * layer.in_features + i, layer.in_features);
        }
      }
    }
    return true;
  }

 private:
  struct OutMemory {
    T *x, *v, *phi, *y;
  };

  // y[o, :] (+)= the layer at a tile of rows.
  static void add_rows(const DenseLayer<T>& layer, int derivative, int64_t r, int64_t count,
                       bool add, const OutMemory& at) {
    const int64_t most = inputs_of(layer, kOutColumns);
    for (int64_t i = 0; i < layer.in_features; i += most) {
      const int64_t inputs = std::min(most, layer.in_features - i);
      evaluate(layer, r, count, i, inputs, derivative, at.phi, 0, nullptr, at.x, at.v, kRows);
      Tiles::products({at.phi, kRows, layer.weight + i * layer.num_basis, layer.columns(), 1,
                       inputs * layer.num_basis, layer.out_features, add || i > 0, at.y, kRows},
                      count);
    }
  }

  static void evaluate(const DenseLayer<T>& layer, int64_t r, int64_t count, int64_t i,
                       int64_t inputs, int first, T* at_first, int second, T* at_second, T* x, T* v,
                       int64_t stride) {
    Tiles::columns(layer.x + r * layer.x_row_stride + i * layer.x_col_stride, layer.x_row_stride,
                   layer.x_col_stride, count, inputs, x, stride);
    const bool has_v = layer.v != nullptr;
    if (has_v)
      Tiles::columns(layer.v + r * layer.v_row_stride + i * layer.v_col_stride, layer.v_row_stride,
                     layer.v_col_stride, count, inputs, v, stride);
    const int64_t step = layer.num_basis * stride;
    for (int64_t n = 0; n < inputs; ++n)
      Tiles::functions(layer, x + n * stride, has_v ? v + n * stride : nullptr,
                       round_up(count, Tiles::kLanes), first,
                       at_first == nullptr ? nullptr : at_first + n * step, second,
                       at_second == nullptr ? nullptr : at_second + n * step, stride);
  }

  // z[i, :] = sum_g product[i, g, :] slope[i, g, :]
  static void fold(const DenseLayer<T>& layer, const T* product, const T* slope, int64_t inputs,
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
