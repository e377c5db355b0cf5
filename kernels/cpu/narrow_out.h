// y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i]) for few outputs       (docs/math.md, eq. 5)
//
// A vector of rows at a time: the basis of an input once, then order + 2 multiply-adds an output,
// with the weights of each row's cell looked up in registers.
#pragma once

#include "narrow.h"

KAN_NAMESPACE_BEGIN

template <class T, int kBytes, int kWindow, int kTables, int kWeightTables>
struct NarrowOut {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  static constexpr int kRows = 128;

  // All inputs of a block for one vector of rows: sums[o] += ...
  static KAN_INLINE void vector_of_rows(const OutArgs<T>& args, int64_t in_begin, int num_inputs,
                                        const LaneWeights<T>& w, const T* x, const T* base_value,
                                        const T* v /* all [input, stride] */, int64_t stride,
                                        T* sums /* [num_outputs, kLanes] */) {
    const LayerArgs<T>& layer = args.layer;
    const TableView<T>& table = layer.table;
    const int num_outputs = static_cast<int>(layer.out_features);
    LaneGrid<T, kBytes, kWindow, kTables> grid(table, 0);
    for (int il = 0; il < num_inputs; ++il) {
      const int64_t feature = table.feature(in_begin + il);
      if (feature != 0) grid = LaneGrid<T, kBytes, kWindow, kTables>(table, feature);
      const LaneBasis<T, kBytes, kWindow, kTables> basis(grid, X::load(x + il * stride));
      V value[kWindow + 1];
      basis.values(args.derivative, value);
      value[kWindow] = X::load(base_value + il * stride);
      if (v != nullptr) {
        const V factor = X::load(v + il * stride);
#pragma GCC unroll 9
        for (int m = 0; m <= kWindow; ++m) value[m] *= factor;
      }
      const T* spline = w.spline + int64_t(il) * num_outputs * w.table;
      const T* base = w.base + int64_t(il) * num_outputs;
      for (int o = 0; o < num_outputs; ++o) {
        const Lookup<T, kBytes, kWeightTables> weight(spline + o * w.table);
        V sum = X::load(sums + o * kLanes) + value[kWindow] * base[o];
#pragma GCC unroll 9
        for (int m = 0; m < kWindow; ++m) sum += value[m] * weight[basis.start + m];
        X::store(sums + o * kLanes, sum);
      }
    }
  }

  static bool run(const OutTask<T>& task) {
    const OutArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const int num_outputs = static_cast<int>(layer.out_features);
    const int table = kWeightTables * kLanes;
    const int in_block = static_cast<int>(min64(layer.in_features, kMostInputs));
    const int64_t capacity =
        round_up(static_cast<int>(min64(kRows, task.row_end - task.row_begin)), kLanes);
    LaneWeights<T> w{nullptr, nullptr, table};
    T *x = nullptr, *base_value = nullptr, *v = nullptr, *sums = nullptr;
    char* memory = nullptr;
    for (int pass = 0; pass < 2; ++pass) {
      Bump bump(memory);
      w.spline = bump.template take<T>(int64_t(in_block) * num_outputs * table);
      w.base = bump.template take<T>(int64_t(in_block) * num_outputs);
      x = bump.template take<T>(in_block * capacity);
      base_value = bump.template take<T>(in_block * capacity);
      v = bump.template take<T>(in_block * capacity);
      sums = bump.template take<T>(int64_t(num_outputs) * kLanes);
      if (pass == 0) {
        memory = static_cast<char*>(thread_scratch(bump.used()));
        if (memory == nullptr) return false;
      }
    }
    for (int64_t in = 0; in < layer.in_features; in += in_block) {
      const int num_inputs = static_cast<int>(min64(in_block, layer.in_features - in));
      pack_lane_weights(layer, in, num_inputs, w);
      for (int64_t rb = task.row_begin; rb < task.row_end; rb += capacity) {
        const int num_rows = static_cast<int>(min64(capacity, task.row_end - rb));
        gather_inputs(layer.x, layer.x_row_stride, layer.x_col_stride, rb, num_rows, in, num_inputs,
                      static_cast<int>(capacity), x);
        if (layer.v != nullptr)
          gather_inputs(layer.v, layer.v_row_stride, layer.v_col_stride, rb, num_rows, in,
                        num_inputs, static_cast<int>(capacity), v);
        activations<T, kBytes>(static_cast<Activation>(layer.activation), x, num_inputs * capacity,
                               args.derivative, base_value, 0, nullptr);
        for (int r = 0; r < num_rows; r += kLanes) {
          std::memset(sums, 0, sizeof(T) * num_outputs * kLanes);
          vector_of_rows(args, in, num_inputs, w, x + r, base_value + r,
                         layer.v != nullptr ? v + r : nullptr, capacity, sums);
          const int rows = num_rows - r < kLanes ? num_rows - r : kLanes;
          scatter_inputs(sums, kLanes, rows, num_outputs, in == 0, args.y + (rb + r) * num_outputs,
                         num_outputs);
        }
      }
    }
    return true;
  }
};

KAN_NAMESPACE_END
