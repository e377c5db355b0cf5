// z[r,i]   = sum_o u[r,o] sum_g W[o,i,g] b_g^(d_in)(x[r,i])                   (docs/math.md, eq. 6)
// S[o,i,g] = sum_r u[r,o] v[r,i] b_g^(d_weight)(x[r,i])                       (docs/math.md, eq. 7)
//
// For few outputs, a vector of rows at a time: z through weights looked up in registers; S through
// the basis of a block of rows written out over all functions, which costs num_basis + 1
// multiply-adds an output instead of order + 2, but no sort.
#pragma once

#include <cmath>

#include "narrow.h"

KAN_NAMESPACE_BEGIN

// Functions of one edge: s[g, lane] += sum over rows of u feature; `count` of them, at most kCount.
template <class T, int kBytes, int kCount>
inline void narrow_sums(int count, const T* u, const T* features, int capacity, int num_rows,
                        T* s) {
  using X = Vec<T, kBytes>;
  if constexpr (kCount > 1)
    if (count < kCount) {
      narrow_sums<T, kBytes, kCount - 1>(count, u, features, capacity, num_rows, s);
      return;
    }
  typename X::V sum[kCount];
#pragma GCC unroll 9
  for (int g = 0; g < kCount; ++g) sum[g] = X::load(s + g * X::kLanes);
  for (int r = 0; r < num_rows; r += X::kLanes) {
    const typename X::V g_y = X::load(u + r);
#pragma GCC unroll 9
    for (int g = 0; g < kCount; ++g) sum[g] += g_y * X::load(features + g * capacity + r);
  }
#pragma GCC unroll 9
  for (int g = 0; g < kCount; ++g) X::store(s + g * X::kLanes, sum[g]);
}

template <class T, int kBytes, int kWindow, int kTables, int kWeightTables>
struct NarrowInWeight {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  using I = typename X::I;
  static constexpr int kLanes = X::kLanes;
  // functions whose sums are in registers at once
  static constexpr int kMostSums = 9;

  struct Memory {
    LaneWeights<T> w;
    T* x;         // [in_block, capacity]
    T* v;         // [in_block, capacity]
    T* u;         // [num_outputs, capacity]
    T* z;         // [in_block, capacity]
    T* features;  // [num_basis + 1, capacity]
    T* slope;     // [capacity] of the base activation, for z
    T* s;         // [in_block, num_outputs, num_basis + 1, kLanes], and room for kLanes more
    T* totals;    // [in_block, num_outputs, num_basis + 1]
    bool* poisoned;
    int in_block;
    int capacity;
  };

  static bool allocate(const InWeightTask<T>& task, Memory& memory) {
    const LayerArgs<T>& layer = task.args->layer;
    const int functions = layer.table.num_basis + 1;
    // the features of a block of rows stay in L1
    constexpr int kFeatureBytes = 16 << 10;
    const int rows = kFeatureBytes / (functions * int(sizeof(T))) / kLanes * kLanes;
    memory.capacity =
        round_up(static_cast<int>(min64(rows, task.row_end - task.row_begin)), kLanes);
    memory.in_block = static_cast<int>(min64(task.in_end - task.in_begin, kMostInputs));
    memory.w.table = kWeightTables * kLanes;
    const int64_t edges = memory.in_block * layer.out_features;
    char* base = nullptr;
    for (int pass = 0; pass < 2; ++pass) {
      Bump bump(base);
      memory.w.spline = bump.template take<T>(edges * memory.w.table);
      memory.w.base = bump.template take<T>(edges);
      memory.x = bump.template take<T>(int64_t(memory.in_block) * memory.capacity);
      memory.v = bump.template take<T>(int64_t(memory.in_block) * memory.capacity);
      memory.u = bump.template take<T>(layer.out_features * memory.capacity);
      memory.z = bump.template take<T>(int64_t(memory.in_block) * memory.capacity);
      memory.features = bump.template take<T>(int64_t(functions) * memory.capacity);
      memory.slope = bump.template take<T>(memory.capacity);
      memory.s = bump.template take<T>((edges * functions + kLanes) * kLanes);
      memory.totals = bump.template take<T>(edges * functions + kLanes);
      memory.poisoned = bump.template take<bool>(memory.in_block);
      if (pass == 0) {
        base = static_cast<char*>(thread_scratch(bump.used()));
        if (base == nullptr) return false;
      }
    }
    return true;
  }

  // One input over a block of rows: z, and the features for `sums`. Returns whether a row is NaN or
  // infinite.
  static bool rows_of_input(const InWeightArgs<T>& args, const Memory& memory, int il,
                            int64_t input, int num_rows, bool need_in, bool need_weight) {
    const LayerArgs<T>& layer = args.layer;
    const TableView<T>& table = layer.table;
    const int64_t feature = table.feature(input);
    const LaneGrid<T, kBytes, kWindow, kTables> grid(table, feature);
    const int num_outputs = static_cast<int>(layer.out_features);
    const int capacity = memory.capacity;
    const T* spline = memory.w.spline + int64_t(il) * num_outputs * memory.w.table;
    const T* base = memory.w.base + int64_t(il) * num_outputs;
    T* base_feature = memory.features + int64_t(table.num_basis) * capacity;
    const T* x = memory.x + int64_t(il) * capacity;
    activations<T, kBytes>(static_cast<Activation>(layer.activation), x, num_rows,
                           args.derivative_weight, need_weight ? base_feature : nullptr,
                           args.derivative_in, need_in ? memory.slope : nullptr);
    V poison = {};
    for (int r = 0; r < num_rows; r += kLanes) {
      const V at = X::load(x + r);
      const LaneBasis<T, kBytes, kWindow, kTables> basis(grid, at);
      poison += basis.zero();
      V value[kWindow + 1];
      if (need_in) {
        // sum over outputs first: the values of the basis are common to them
        V slope[kWindow + 1] = {};
        for (int o = 0; o < num_outputs; ++o) {
          const Lookup<T, kBytes, kWeightTables> weight(spline + o * memory.w.table);
          const V g = X::load(memory.u + int64_t(o) * capacity + r);
#pragma GCC unroll 9
          for (int m = 0; m < kWindow; ++m) slope[m] += g * weight[basis.start + m];
          slope[kWindow] += g * base[o];
        }
        basis.values(args.derivative_in, value);
        V z = slope[kWindow] * X::load(memory.slope + r);
#pragma GCC unroll 9
        for (int m = 0; m < kWindow; ++m) z += slope[m] * value[m];
        X::store(memory.z + int64_t(il) * capacity + r, z);
      }
      if (need_weight) {
        basis.values(args.derivative_weight, value);
        value[kWindow] = X::load(base_feature + r);
        if (layer.v != nullptr) {
          const V factor = X::load(memory.v + int64_t(il) * capacity + r);
#pragma GCC unroll 9
          for (int m = 0; m <= kWindow; ++m) value[m] *= factor;
        }
        write_features(basis.start, value, table.num_basis, memory.features + r, capacity);
      }
    }
    return X::sum(poison) != T(0);
  }

  // Active functions to their places among all functions; the others are zero.
  static KAN_INLINE void write_features(I start, const V* value, int num_basis, T* features,
                                        int capacity) {
    I here[kWindow] = {};
    for (int g = 0; g < num_basis; ++g) {
      // here[m]: rows whose function m is function g
#pragma GCC unroll 9
      for (int m = kWindow - 1; m > 0; --m) here[m] = here[m - 1];
      here[0] = start == g;
      V feature = {};
#pragma GCC unroll 9
      for (int m = 0; m < kWindow; ++m) feature = here[m] ? value[m] : feature;
      X::store(features + int64_t(g) * capacity, feature);
    }
    X::store(features + int64_t(num_basis) * capacity, value[kWindow]);
  }

  static void all_sums(const Memory& memory, int il, int num_outputs, int functions, int num_rows) {
    const int parts = (functions + kMostSums - 1) / kMostSums;
    for (int o = 0; o < num_outputs; ++o) {
      T* s = memory.s + (int64_t(il) * num_outputs + o) * functions * kLanes;
      const T* u = memory.u + int64_t(o) * memory.capacity;
      for (int n = 0; n < parts; ++n) {
        const int from = functions * n / parts;
        narrow_sums<T, kBytes, kMostSums>(functions * (n + 1) / parts - from, u,
                                          memory.features + int64_t(from) * memory.capacity,
                                          memory.capacity, num_rows, s + from * kLanes);
      }
    }
  }

  // Lanes added up, then to the parameters' gradients or to the share of this task.
  static void finish(const InWeightTask<T>& task, const Memory& memory, int64_t in,
                     int num_inputs) {
    const InWeightArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const int num_basis = layer.table.num_basis;
    const int functions = num_basis + 1;
    const int64_t O = layer.out_features;
    // all sums of the block, a square of them at a time; what lies beyond is readable
    const int64_t numbers = num_inputs * O * functions;
    for (int64_t n = 0; n < numbers; n += kLanes)
      X::store(memory.totals + n, lane_sums<T, kBytes>(memory.s + n * kLanes));
    for (int il = 0; il < num_inputs; ++il)
      for (int64_t o = 0; o < O; ++o) {
        T* total = memory.totals + (il * O + o) * functions;
        // a non-finite input has no cell: every coefficient of its edges loses its gradient
        if (memory.poisoned[il])
          for (int g = 0; g < functions; ++g) total[g] = T(NAN);
        if (task.partial != nullptr) {
          T* to = task.partial + (in + il - task.in_begin) * functions * O + o;
          for (int g = 0; g < functions; ++g) to[g * O] = total[g];
          continue;
        }
        const int64_t edge = o * layer.in_features + in + il;
        unfold_edge(args, edge, total);
        if (args.grad_base_weight != nullptr) args.grad_base_weight[edge] = total[num_basis];
      }
  }

  static bool run(const InWeightTask<T>& task) {
    const InWeightArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const bool need_in = args.z != nullptr;
    const bool need_weight = args.grad_spline_weight != nullptr ||
                             args.grad_spline_scaler != nullptr || args.grad_base_weight != nullptr;
    const int functions = layer.table.num_basis + 1;
    const int num_outputs = static_cast<int>(layer.out_features);
    Memory memory{};
    if (!allocate(task, memory)) return false;
    for (int64_t in = task.in_begin; in < task.in_end; in += memory.in_block) {
      const int num_inputs = static_cast<int>(min64(memory.in_block, task.in_end - in));
      if (need_in) pack_lane_weights(layer, in, num_inputs, memory.w);
      std::memset(memory.s, 0, sizeof(T) * int64_t(num_inputs) * num_outputs * functions * kLanes);
      for (int il = 0; il < num_inputs; ++il) memory.poisoned[il] = false;
      for (int64_t rb = task.row_begin; rb < task.row_end; rb += memory.capacity) {
        const int num_rows = static_cast<int>(min64(memory.capacity, task.row_end - rb));
        gather_inputs(layer.x, layer.x_row_stride, layer.x_col_stride, rb, num_rows, in, num_inputs,
                      memory.capacity, memory.x);
        if (layer.v != nullptr)
          gather_inputs(layer.v, layer.v_row_stride, layer.v_col_stride, rb, num_rows, in,
                        num_inputs, memory.capacity, memory.v);
        gather_inputs(args.u, args.u_row_stride, args.u_col_stride, rb, num_rows, 0, num_outputs,
                      memory.capacity, memory.u);
        for (int il = 0; il < num_inputs; ++il) {
          memory.poisoned[il] |=
              rows_of_input(args, memory, il, in + il, num_rows, need_in, need_weight);
          if (need_weight) all_sums(memory, il, num_outputs, functions, num_rows);
        }
        if (need_in)
          scatter_inputs(memory.z, memory.capacity, num_rows, num_inputs, true,
                         args.z + rb * layer.in_features + in, layer.in_features);
      }
      if (need_weight) finish(task, memory, in, num_inputs);
    }
    return true;
  }
};

KAN_NAMESPACE_END
