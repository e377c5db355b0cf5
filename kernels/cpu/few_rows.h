// y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i]) for a handful of rows   (docs/math.md, eq.
// 5)
//
// Inference a row at a time: the weights are packed already (they are read once, so packing them
// would cost several times the layer), inputs are the lanes of the basis, and the weight rows of
// each input's cell stream by while the sums of a tile of outputs stay in registers.
#pragma once

#include "block.h"

KAN_NAMESPACE_BEGIN

template <class T, int kBytes, int kWindow>
struct FewRows {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  static constexpr int kInputs = 64;  // inputs whose basis waits in L1; even
  static constexpr int kTile = kRegisters >= 32 ? 8 : 4;

  // The basis of a block of inputs at one row.
  struct Block {
    T x[kInputs];
    int start[kInputs];
    T value[kWindow + 1][kInputs];
  };

  static void basis_of_one(const LayerArgs<T>& layer, int64_t input, int derivative, int il,
                           Block& block) {
    const TableView<T>& table = layer.table;
    const int64_t feature = table.feature(input);
    const T x = block.x[il];
    const int cell = locate(x, table.knots + feature * table.num_knots, table.num_knots);
    const int degree = kWindow - 1 - derivative;
    block.start[il] = cell < 0 ? 0 : window_start(cell, table.order, table.num_basis);
    if (cell < 0 || degree < 0) {
      for (int m = 0; m < kWindow; ++m) block.value[m][il] = x - x;
      return;
    }
    const T s = (x - table.left(feature)[cell]) * table.inv_width(feature)[cell];
    const T* coef = table.coef(feature, derivative) + cell;
    for (int m = 0; m < kWindow; ++m) {
      const T* row = coef + m * kWindow * table.cell_stride;
      T sum = row[degree * table.cell_stride];
      for (int p = degree - 1; p >= 0; --p) sum = sum * s + row[p * table.cell_stride];
      block.value[m][il] = sum;
    }
  }

  // One input a lane, where all inputs share their knots.
  template <int kTables>
  static void basis_of_lanes(const TableView<T>& table, int derivative, int num_inputs,
                             Block& block) {
    const T inv_step = inverse_step(table, 0);
    for (int il = 0; il < num_inputs; il += kLanes) {
      const LaneBasis<T, kBytes, kWindow, kTables> basis(table, 0, inv_step, X::load(block.x + il));
      V value[kWindow];
      basis.values(table, 0, derivative, value);
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
    if constexpr (lookup_lanes<T, kBytes>() > 0 && kWindow >= 2 && kWindow <= 4)
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
    const Activation kind = static_cast<Activation>(layer.activation);
    for (int il = 0; il < num_inputs; il += kLanes)
      X::store(
          block.value[kWindow] + il,
          VectorActivation<T, kBytes>(kind, X::load(block.x + il)).derivative(args.derivative));
    // an odd number of inputs gets one of no weight
    if (num_inputs % 2 != 0) {
      block.start[num_inputs] = 0;
      for (int m = 0; m <= kWindow; ++m) block.value[m][num_inputs] = T(0);
    }
    if (layer.v == nullptr) return;
    const T* v = layer.v + row * layer.v_row_stride + in * layer.v_col_stride;
    for (int m = 0; m <= kWindow; ++m)
      for (int il = 0; il < num_inputs; ++il) block.value[m][il] *= v[il * layer.v_col_stride];
  }

  template <int kNumVectors>
  static void tile(const Block& block, int num_inputs, const T* w /* of the first input */,
                   int num_basis, int64_t ld, T* sums) {
    // two inputs at a time: the multiply-adds of one would wait for each other
    V sum[2][kNumVectors];
    for (int n = 0; n < kNumVectors; ++n) {
      sum[0][n] = X::load(sums + n * kLanes);
      sum[1][n] = V{};
    }
    const int64_t next_input = (num_basis + 1) * ld;
    for (int il = 0; il < num_inputs; il += 2, w += 2 * next_input) {
      // the second of the last two may be padding: its values are zero, its weights are the first's
      const T* second = il + 1 < num_inputs ? w + next_input : w;
      const T* row[2] = {w + block.start[il] * ld, second + block.start[il + 1] * ld};
      const T* base[2] = {w + num_basis * ld, second + num_basis * ld};
      for (int m = 0; m < kWindow; ++m)
        for (int a = 0; a < 2; ++a)
          for (int n = 0; n < kNumVectors; ++n)
            sum[a][n] += block.value[m][il + a] * X::load(row[a] + m * ld + n * kLanes);
      for (int a = 0; a < 2; ++a)
        for (int n = 0; n < kNumVectors; ++n)
          sum[a][n] += block.value[kWindow][il + a] * X::load(base[a] + n * kLanes);
    }
    for (int n = 0; n < kNumVectors; ++n) X::store(sums + n * kLanes, sum[0][n] + sum[1][n]);
  }

  // `packed` is [in_features, num_basis + 1, ld], outputs in whole vectors of the widest kind.
  static bool run(const OutTask<T>& task) {
    const OutArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const int num_basis = layer.table.num_basis;
    const int64_t ld = args.packed_stride;
    const int64_t outputs = task.out_end - task.out_begin;
    const int64_t padded = (outputs + kLanes - 1) / kLanes * kLanes;
    T* sums = static_cast<T*>(thread_scratch(sizeof(T) * padded));
    if (sums == nullptr) return false;
    Block block;
    for (int64_t row = task.row_begin; row < task.row_end; ++row) {
      std::memset(sums, 0, sizeof(T) * padded);
      for (int64_t in = 0; in < layer.in_features; in += kInputs) {
        const int num_inputs = static_cast<int>(min64(kInputs, layer.in_features - in));
        basis(args, row, in, num_inputs, block);
        const T* w = args.packed + in * (num_basis + 1) * ld + task.out_begin;
        int64_t from = 0;
        for (; from + kTile * kLanes <= padded; from += kTile * kLanes)
          tile<kTile>(block, num_inputs, w + from, num_basis, ld, sums + from);
        for (; from + 4 * kLanes <= padded; from += 4 * kLanes)
          tile<4>(block, num_inputs, w + from, num_basis, ld, sums + from);
        for (; from < padded; from += kLanes)
          tile<1>(block, num_inputs, w + from, num_basis, ld, sums + from);
      }
      std::memcpy(args.y + row * layer.out_features + task.out_begin, sums, sizeof(T) * outputs);
    }
    return true;
  }
};

KAN_NAMESPACE_END
