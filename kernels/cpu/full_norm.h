// Normalised inputs of full bases (docs/math.md, eq. 15), with rows as lanes.
#pragma once

#include <algorithm>
#include <cmath>

#include "full_tiles.h"
#include "tasks.h"

KAN_NAMESPACE_BEGIN

template <class T>
struct FullNorm {
  using Tiles = FullTiles<T>;
  using X = typename Tiles::X;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  static constexpr int64_t kRows = Tiles::kRows;

  // mean and rstd of a tile of rows, to the last whole vector; `x` has room for `most` inputs.
  static void statistics(const FullLayer<T>& layer, int64_t r, int64_t count, int64_t most, T* x) {
    T* const mean = layer.norm.statistics + r;
    T* const rstd = mean + layer.norm.stride;
    const int64_t whole = (count + kLanes - 1) / kLanes * kLanes;
    const T inverse = T(1) / static_cast<T>(layer.in_features);
    // deviations from the mean, not squares less its square: those would cancel
    for (const bool second : {false, true}) {
      V total[Tiles::kVectors] = {};
      for (int64_t i = 0; i < layer.in_features; i += most) {
        const int64_t inputs = std::min(most, layer.in_features - i);
        Tiles::columns(layer.x + r * layer.x_row_stride + i * layer.x_col_stride,
                       layer.x_row_stride, layer.x_col_stride, count, inputs, x, kRows);
        for (int64_t l = 0; l < whole; l += kLanes) {
          // inputs of a block first: rounding errors grow with the number of blocks
          V sum{};
          for (int64_t n = 0; n < inputs; ++n) {
            const V at = X::load(x + n * kRows + l);
            const V from = second ? at - X::load(mean + l) : at;
            sum += second ? from * from : from;
          }
          total[l / kLanes] += sum;
        }
      }
      for (int64_t l = 0; l < whole; l += kLanes)
        X::store((second ? rstd : mean) + l, total[l / kLanes] * inverse);
    }
    for (int64_t l = 0; l < whole; ++l)
      rstd[l] = T(1) / std::sqrt(rstd[l] + static_cast<T>(layer.norm.eps));
  }

  // x [inputs, stride] becomes what the functions see, from row r on; n of eq. 15 goes to
  // `standard` where that is not null.
  static void normalise(const FullLayer<T>& layer, int64_t r, int64_t whole, int64_t i,
                        int64_t inputs, T* x, T* standard, int64_t stride) {
    const RowNorm<T>& norm = layer.norm;
    const T* const mean = norm.statistics + r;
    const T* const rstd = mean + norm.stride;
    for (int64_t n = 0; n < inputs; ++n) {
      const T weight = norm.weight == nullptr ? T(1) : norm.weight[i + n];
      const T bias = norm.bias == nullptr ? T(0) : norm.bias[i + n];
      for (int64_t l = 0; l < whole; l += kLanes) {
        T* const at = x + n * stride + l;
        const V value = (X::load(at) - X::load(mean + l)) * X::load(rstd + l);
        if (standard != nullptr) X::store(standard + n * stride + l, value);
        X::store(at, value * weight + bias);
      }
    }
  }

  // Sums over rows of some inputs, [inputs, 2, kLanes], and over inputs of all rows: of z n and z
  // for the gradients of weight and bias, of z weight and z weight n for those of x.
  struct Sums {
    T* inputs;
    T* rows;  // [2, stride]
    int64_t stride;
  };

  // z [inputs, kRows] at a tile of rows becomes z weight; its sums are added to `sums`, whose rows
  // begin with the tile's.
  static void gather(const RowNorm<T>& norm, int64_t i, int64_t inputs, int64_t whole,
                     const T* standard, int64_t stride, T* z, const Sums& sums) {
    for (int64_t l = 0; l < whole; l += kLanes) {
      V plain{}, times{};
      for (int64_t n = 0; n < inputs; ++n) {
        T* const at = z + n * kRows + l;
        const V gradient = X::load(at), value = X::load(standard + n * stride + l);
        T* const sum = sums.inputs + 2 * n * kLanes;
        X::store(sum, X::load(sum) + gradient * value);
        X::store(sum + kLanes, X::load(sum + kLanes) + gradient);
        const V weighted = gradient * (norm.weight == nullptr ? T(1) : norm.weight[i + n]);
        X::store(at, weighted);
        plain += weighted;
        times += weighted * value;
      }
      T* const rows = sums.rows + l;
      X::store(rows, X::load(rows) + plain);
      X::store(rows + sums.stride, X::load(rows + sums.stride) + times);
    }
  }

  // z, which holds z weight, becomes the gradient of x: rstd (z - mean(z) - n mean(z n)). `rows`
  // [parts, 2, stride] are the sums over inputs.
  static void input_gradient(const FullGradients<T>& of, const FullShare& share, const T* rows,
                             int64_t parts, int64_t stride) {
    const FullLayer<T>& layer = of.layer;
    const T inverse = T(1) / static_cast<T>(layer.in_features);
    for (int64_t r = share.row_begin; r < share.row_end; ++r) {
      T plain = 0, times = 0;
      for (int64_t part = 0; part < parts; ++part) {
        plain += rows[2 * part * stride + r];
        times += rows[(2 * part + 1) * stride + r];
      }
      plain *= inverse;
      times *= inverse;
      const T mean = layer.norm.statistics[r], rstd = layer.norm.statistics[layer.norm.stride + r];
      const T* const x = layer.x + r * layer.x_row_stride;
      T* const z = of.z + r * layer.in_features;
      const auto at = [&](int64_t i, T value) {
        z[i] = rstd * (z[i] - plain - (value - mean) * rstd * times);
      };
      if (layer.x_col_stride == 1)
        for (int64_t i = share.in_begin; i < share.in_end; ++i) at(i, x[i]);
      else
        for (int64_t i = share.in_begin; i < share.in_end; ++i) at(i, x[i * layer.x_col_stride]);
    }
  }
};

KAN_NAMESPACE_END
