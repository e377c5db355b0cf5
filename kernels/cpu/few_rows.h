// y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i]) for a handful of rows   (docs/math.md, eq.
// 5)
//
// Weights are read where the user has them, since packing them would cost several times the layer:
// the few that an edge's cell needs lie beside each other. Inputs are the lanes of the basis, and
// the weights of a strip of inputs and one output serve all rows before the next come: as long a
// strip as the basis of all rows leaves in L1, since what is read in a row is read fastest.
#pragma once

#include "block.h"
#include "kan_fast/grid.h"
#include "lanes.h"
#include "vector_activation.h"

KAN_NAMESPACE_BEGIN

template <class T, int kBytes, int kWindow>
struct FewRows {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  static constexpr int kInputs = 64;  // inputs of a block
  static constexpr int kBlocks = 8;   // whose basis waits in L1

  // The basis of a block of inputs at one row.
  struct Block {
    T x[kInputs];
    int start[kInputs];
    T value[kWindow + 1][kInputs];  // the base last
    T window[kInputs][kWindow];     // the functions of each input side by side
  };

  static void basis_of_one(const LayerArgs<T>& layer, int64_t input, int derivative, int il,
                           Block& block) {
    const TableView<T>& table = layer.table;
    const int64_t feature = table.feature(input);
    const T x = block.x[il];
    const int cell = locate(x, table.knots + feature * table.num_knots, table.num_knots);
    const int window = window_of<kWindow>(table.order);
    const int degree = window - 1 - derivative;
    block.start[il] = cell < 0 ? 0 : window_start(cell, table.order, table.num_basis);
    if (cell < 0 || degree < 0) {
      for (int m = 0; m < window; ++m) block.value[m][il] = x - x;
      return;
    }
    const T inv_width = table.inv_width(feature)[cell];
    const T* from = table.coef(feature, derivative) + cell;
    T value[kWindow];
    const T u = (x - table.left(feature)[cell]) * inv_width;
    const T w = (table.right(feature)[cell] - x) * inv_width;
    const auto coef = [&](int m, int p) KAN_INLINE_LAMBDA {
      return m < window ? from[(m * window + p) * table.cell_stride] : T(0);
    };
    if constexpr (kWindow == kAnyWindow)
      any_window_values(window, degree, u, w, coef, value);
    else
      window_values<kWindow, false>(degree, u, w, coef, value);
    for (int m = 0; m < window; ++m) block.value[m][il] = value[m];
  }

  // One input a lane, where all inputs share their knots.
  template <int kTables>
  static void basis_of_lanes(const TableView<T>& table, int derivative, int num_inputs,
                             Block& block) {
    const LaneGrid<T, kBytes, kWindow, kTables> grid(table, 0);
    for (int il = 0; il < num_inputs; il += kLanes) {
      const LaneBasis<T, kBytes, kWindow, kTables> basis(grid, X::load(block.x + il));
      V value[kWindow];
      basis.values(derivative, value);
      for (int m = 0; m < kWindow; ++m) X::store(block.value[m] + il, value[m]);
      if constexpr (sizeof(T) == sizeof(int))
        std::memcpy(block.start + il, &basis.start, sizeof(basis.start));
      else
        for (int l = 0; l < kLanes; ++l) block.start[il + l] = static_cast<int>(basis.start[l]);
    }
  }

  static void basis(const OutArgs<T>& args, int64_t row, int64_t in, int num_inputs, Block& block) {
    const LayerArgs<T>& layer = args.layer;
    const TableView<T>& table = layer.table;
    const T* x = layer.x + row * layer.x_row_stride + in * layer.x_col_stride;
    for (int il = 0; il < num_inputs; ++il) block.x[il] = x[il * layer.x_col_stride];
    const int padded = round_up(num_inputs, kLanes);
    for (int il = num_inputs; il < padded; ++il) block.x[il] = T(0);
    bool looked_up = false;
    if constexpr (lookup_lanes<T, kBytes>() > 0 && kWindow != kAnyWindow)
      if (table.num_features == 1 && has_lane_basis<T, kBytes>(table)) {
        looked_up = true;
        if (lookup_tables<T, kBytes>(table.num_cells) == 1)
          basis_of_lanes<1>(table, args.derivative, num_inputs, block);
        else
          basis_of_lanes<2>(table, args.derivative, num_inputs, block);
      }
    if (!looked_up)
      for (int il = 0; il < num_inputs; ++il)
        basis_of_one(layer, in + il, args.derivative, il, block);
    const int window = window_of<kWindow>(table.order);
    activations<T, kBytes>(static_cast<Activation>(layer.activation), block.x, num_inputs,
                           args.derivative, block.value[kWindow], 0, nullptr);
    if (layer.v != nullptr) {
      const T* v = layer.v + row * layer.v_row_stride + in * layer.v_col_stride;
      const auto times_v = [&](T* value) {
        for (int il = 0; il < num_inputs; ++il) value[il] *= v[il * layer.v_col_stride];
      };
      for (int m = 0; m < window; ++m) times_v(block.value[m]);
      times_v(block.value[kWindow]);
    }
    for (int il = 0; il < num_inputs; ++il)
      for (int m = 0; m < window; ++m) block.window[il][m] = block.value[m][il];
  }

  // The splines of the edges of one output, scaled, for one row.
  template <bool kScaled>
  static T splines(const Block& block, int window, int num_inputs, const T* w, const T* scaler,
                   int num_basis) {
    if constexpr (kWindow == 4) {
      // a window is a vector, and two sums do not wait for each other
      using W = Vec<T, 4 * sizeof(T)>;
      typename W::V even{}, odd{};
      int il = 0;
      for (; il + 2 <= num_inputs; il += 2, w += 2 * num_basis) {
        typename W::V a = W::load(block.window[il]), b = W::load(block.window[il + 1]);
        if constexpr (kScaled) {
          a *= scaler[il];
          b *= scaler[il + 1];
        }
        even += a * W::load(w + block.start[il]);
        odd += b * W::load(w + num_basis + block.start[il + 1]);
      }
      if (il < num_inputs)
        even += W::load(block.window[il]) * (kScaled ? scaler[il] : T(1)) *
                W::load(w + block.start[il]);
      return W::sum(even + odd);
    } else if (kWindow == kAnyWindow && window > 4) {
      // four functions are a vector, the others one by one
      using W = Vec<T, 4 * sizeof(T)>;
      typename W::V sum{};
      T rest[4] = {};
      for (int il = 0; il < num_inputs; ++il, w += num_basis) {
        const T* const value = block.window[il];
        const T* const at = w + block.start[il];
        const T scale = kScaled ? scaler[il] : T(1);
        sum += W::load(value) * scale * W::load(at);
        for (int m = 4; m < window; ++m) rest[m - 4] += value[m] * scale * at[m];
      }
      return W::sum(sum) + ((rest[0] + rest[1]) + (rest[2] + rest[3]));
    } else {
      T sums[2] = {};
      for (int il = 0; il < num_inputs; ++il, w += num_basis) {
        const T* at = w + block.start[il];
        T sum = 0;
        for (int m = 0; m < window; ++m) sum += block.window[il][m] * at[m];
        sums[il % 2] += kScaled ? scaler[il] * sum : sum;
      }
      return sums[0] + sums[1];
    }
  }

  // Their base branch.
  static T bases(const Block& block, int num_inputs, const T* weight) {
    V sum{};
    int il = 0;
    for (; il + kLanes <= num_inputs; il += kLanes)
      sum += X::load(block.value[kWindow] + il) * X::load(weight + il);
    T rest = 0;
    for (; il < num_inputs; ++il) rest += block.value[kWindow][il] * weight[il];
    return X::sum(sum) + rest;
  }

  static bool run(const OutTask<T>& task) {
    const OutArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const int num_basis = layer.table.num_basis;
    const int64_t rows = task.row_end - task.row_begin;
    const int64_t blocks = rows < kBlocks ? kBlocks / rows : 1;
    Block* const all = static_cast<Block*>(thread_scratch(sizeof(Block) * rows * blocks));
    if (all == nullptr) return false;
    for (int64_t strip = 0; strip < layer.in_features; strip += blocks * kInputs) {
      const int64_t strip_end = min64(strip + blocks * kInputs, layer.in_features);
      const auto each_block = [&](int64_t r, auto body) {
        Block* block = all + r * blocks;
        for (int64_t in = strip; in < strip_end; in += kInputs)
          body(*block++, in, static_cast<int>(min64(kInputs, strip_end - in)));
      };
      for (int64_t r = 0; r < rows; ++r)
        each_block(r, [&](Block& block, int64_t in, int num_inputs) {
          basis(args, task.row_begin + r, in, num_inputs, block);
        });
      for (int64_t o = task.out_begin; o < task.out_end; ++o)
        for (int64_t r = 0; r < rows; ++r) {
          T sum = 0;
          each_block(r, [&](const Block& block, int64_t in, int num_inputs) {
            sum += edges(layer, block, o * layer.in_features + in, num_inputs, num_basis);
          });
          T& y = args.y[(task.row_begin + r) * layer.out_features + o];
          y = strip == 0 ? sum : y + sum;
        }
    }
    return true;
  }

  // The sum over a block of edges of one output, `edge` being the first.
  static T edges(const LayerArgs<T>& layer, const Block& block, int64_t edge, int num_inputs,
                 int num_basis) {
    const T* w = layer.spline_weight + edge * num_basis;
    const int window = window_of<kWindow>(layer.table.order);
    T sum =
        layer.spline_scaler == nullptr
            ? splines<false>(block, window, num_inputs, w, nullptr, num_basis)
            : splines<true>(block, window, num_inputs, w, layer.spline_scaler + edge, num_basis);
    if (layer.base_weight != nullptr) sum += bases(block, num_inputs, layer.base_weight + edge);
    return sum;
  }
};

KAN_NAMESPACE_END
