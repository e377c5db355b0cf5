// z[r,i]   = sum_o u[r,o] sum_g W[o,i,g] b_g^(d_in)(x[r,i])                   (docs/math.md, eq. 6)
// S[o,i,g] = sum_r u[r,o] v[r,i] b_g^(d_weight)(x[r,i])                       (docs/math.md, eq. 7)
//
// Inside a bucket all rows share their weight rows and their rows of S. S sums rows, so a tile of
// its outputs sits in registers while rows stream by. z sums outputs, so a few rows keep a dot
// product with every active weight row in registers while outputs stream by: each load of a weight
// serves those rows, and the basis multiplies the finished dot products. A task owns its inputs, so
// nothing is shared between threads and sums are always taken in the same order.
#pragma once

#include <cmath>

#include "block.h"
#include "cell_basis.h"

KAN_NAMESPACE_BEGIN

template <class T, int kBytes, int kWindow>
struct ContractInWeight {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  // functions, the base included, whose sums are in registers at once: all, where the compiler
  // knows how many there are
  static constexpr int kFunctions = kWindow == kAnyWindow ? 4 : kWindow + 1;
  // vectors of outputs whose sums of S are in registers at once
  static constexpr int kTile = clamp_int((kRegisters - 2) / (kFunctions + 1), 1, 4);
  // rows whose dot products are in registers at once
  static constexpr int kRowGroup = clamp_int((kRegisters - 1) / (kFunctions + 1), 1, 4);

  // body(first, count) for groups of functions that are summed at once, the count a constant.
  template <class Body>
  static KAN_INLINE void each_group(int window, const Body& body) {
    if constexpr (kWindow != kAnyWindow) {
      body(std::integral_constant<int, 0>(), std::integral_constant<int, kFunctions>());
    } else {
      int first = 0;
      for (; first + kFunctions <= window + 1; first += kFunctions)
        body(first, std::integral_constant<int, kFunctions>());
      if (window + 1 - first == 1) body(first, std::integral_constant<int, 1>());
      if (window + 1 - first == 2) body(first, std::integral_constant<int, 2>());
      if (window + 1 - first == 3) body(first, std::integral_constant<int, 3>());
    }
  }

  // S += ... for one input, kCount functions and kNumVectors vectors of outputs.
  template <int kNumVectors, int kCount>
  static void weight_tile(const Stage<T>& stage, int first, T* s /* [num_basis + 1, ld] */, int ld,
                          int num_basis, const T* u, int64_t u_stride) {
    const int window = window_of<kWindow>(stage.window - 1);
    const int step = step_of(window);
    const int* permutation = stage.permutation;
    const T* values = stage.values + first;
    for (int b = 0; b < stage.num_buckets; ++b) {
      const Bucket bucket = stage.buckets[b];
      // the base's sum as well ends with the bucket: rows in the order of x are the worst order to
      // add an activation in, whose sign follows x
      V sum[kCount][kNumVectors] = {};
      for (int p = bucket.begin; p < bucket.end; ++p) {
        const int64_t r = permutation[p];
        const T* row = u + r * u_stride;
        const T* value = values + r * step;
        V g[kNumVectors];
#pragma GCC unroll 4
        for (int n = 0; n < kNumVectors; ++n) g[n] = X::load(row + n * kLanes);
#pragma GCC unroll 9
        for (int m = 0; m < kCount; ++m)
#pragma GCC unroll 4
          for (int n = 0; n < kNumVectors; ++n) sum[m][n] += value[m] * g[n];
      }
#pragma GCC unroll 9
      for (int m = 0; m < kCount; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < kNumVectors; ++n) {
          const int function = first + m < window ? bucket.start + first + m : num_basis;
          T* at = s + function * ld + n * kLanes;
          X::store(at, X::load(at) + sum[m][n]);
        }
    }
  }

  template <int kNumVectors>
  static void weight_vectors(const Stage<T>& stage, T* s, int ld, int num_basis, const T* u,
                             int64_t u_stride) {
    each_group(stage.window, [&](auto first, auto count) {
      weight_tile<kNumVectors, count()>(stage, first, s, ld, num_basis, u, u_stride);
    });
  }

  static void weight_tiles(const Stage<T>& stage, T* s, int ld, int num_basis, const T* u,
                           int64_t u_stride) {
    int from = 0;
    for (; from + kTile * kLanes <= ld; from += kTile * kLanes)
      weight_vectors<kTile>(stage, s + from, ld, num_basis, u + from, u_stride);
    if constexpr (kTile > 2)
      for (; from + 2 * kLanes <= ld; from += 2 * kLanes)
        weight_vectors<2>(stage, s + from, ld, num_basis, u + from, u_stride);
    for (; from < ld; from += kLanes)
      weight_vectors<1>(stage, s + from, ld, num_basis, u + from, u_stride);
  }

  // Lane-wise sums of z over kCount functions for kRows rows of one cell, at the places from p on;
  // the first functions start them.
  template <int kRows, int kCount>
  static KAN_INLINE void in_functions(const Stage<T>& stage, int p, int first,
                                      const T* w /* of the cell */, const T* base_w, int ld,
                                      const T* u, int64_t u_stride,
                                      T* z_lanes /* [capacity, kLanes] */) {
    const int window = window_of<kWindow>(stage.window - 1);
    const T* row[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) row[r] = u + stage.permutation[p + r] * u_stride;
    V dot[kCount][kRows] = {};
    for (int o = 0; o < ld; o += kLanes) {
      V g[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) g[r] = X::load(row[r] + o);
#pragma GCC unroll 9
      for (int m = 0; m < kCount; ++m) {
        const V weight = X::load((first + m < window ? w + (first + m) * int64_t(ld) : base_w) + o);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) dot[m][r] += weight * g[r];
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const T* value =
          stage.values_in + int64_t(stage.permutation[p + r]) * step_of(window) + first;
      T* const sum = z_lanes + int64_t(p + r) * kLanes;
      V z = value[0] * dot[0][r];
#pragma GCC unroll 9
      for (int m = 1; m < kCount; ++m) z += value[m] * dot[m][r];
      X::store(sum, first == 0 ? z : X::load(sum) + z);
    }
  }

  template <int kRows>
  static KAN_INLINE void in_rows(const Stage<T>& stage, int p, const T* w, const T* base_w, int ld,
                                 const T* u, int64_t u_stride, T* z_lanes) {
    each_group(stage.window, [&](auto first, auto count) KAN_INLINE_LAMBDA {
      in_functions<kRows, count()>(stage, p, first, w, base_w, ld, u, u_stride, z_lanes);
    });
  }

  static void in_all_rows(const Stage<T>& stage, const T* w /* [num_basis + 1, ld] */, int ld,
                          int num_basis, const T* u, int64_t u_stride, T* z_lanes) {
    const T* base_w = w + int64_t(num_basis) * ld;
    for (int b = 0; b < stage.num_buckets; ++b) {
      const Bucket bucket = stage.buckets[b];
      const T* of_cell = w + int64_t(bucket.start) * ld;
      int p = bucket.begin;
      if (bucket.end - p < kRowGroup) {
        for (; p < bucket.end; ++p) in_rows<1>(stage, p, of_cell, base_w, ld, u, u_stride, z_lanes);
        continue;
      }
      for (; p + kRowGroup <= bucket.end; p += kRowGroup)
        in_rows<kRowGroup>(stage, p, of_cell, base_w, ld, u, u_stride, z_lanes);
      // the last group takes rows along that are done: the same numbers once more
      if (p < bucket.end)
        in_rows<kRowGroup>(stage, bucket.end - kRowGroup, of_cell, base_w, ld, u, u_stride,
                           z_lanes);
    }
  }

  // z[permutation[p]] = sum of lanes of place p
  static void scatter_sums(const T* z_lanes, const int* permutation, int num_rows, T* z) {
    T sums[kLanes];
    for (int p = 0; p < num_rows; p += kLanes) {
      // places beyond num_rows are readable, and their sums are not used
      X::store(sums, lane_sums<T, kBytes>(z_lanes + int64_t(p) * kLanes));
      const int count = num_rows - p < kLanes ? num_rows - p : kLanes;
      for (int n = 0; n < count; ++n) z[permutation[p + n]] = sums[n];
    }
  }

  static bool run(const InWeightTask<T>& task) {
    const InWeightArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const bool need_in = args.z != nullptr;
    const bool need_weight = args.grad_spline_weight != nullptr ||
                             args.grad_spline_scaler != nullptr || args.grad_base_weight != nullptr;
    const int num_basis = layer.table.num_basis;
    const int64_t num_rows = task.row_end - task.row_begin;
    const BlockSizes size = block_sizes<T, kBytes>(layer, num_rows, layer.out_features,
                                                   task.in_end - task.in_begin, 2, true);
    const int64_t weight_size = int64_t(size.in_block) * (num_basis + 1) * size.padded;

    char* memory = nullptr;
    StageScratch<T> scratch{};
    Stage<T> stage{};
    T *w = nullptr, *s = nullptr, *x_block = nullptr, *v_block = nullptr, *u_block = nullptr;
    T *z_lanes = nullptr, *z_block = nullptr, *unfold_tile = nullptr;
    for (int pass = 0; pass < 2; ++pass) {
      Bump bump(memory);
      w = bump.template take<T>(weight_size);
      s = bump.template take<T>(weight_size);
      x_block = bump.template take<T>(int64_t(size.in_block) * size.capacity);
      v_block = bump.template take<T>(int64_t(size.in_block) * size.capacity);
      z_block = bump.template take<T>(int64_t(size.in_block) * size.capacity);
      u_block = bump.template take<T>(int64_t(size.row_block) * size.padded);
      z_lanes = bump.template take<T>(int64_t(size.capacity) * kLanes);
      unfold_tile = bump.template take<T>(int64_t(kPackOutputs) * size.in_block * num_basis);
      scratch = take_stage_scratch(bump, layer.table, size.capacity);
      stage.permutation = bump.template take<int>(size.capacity);
      stage.buckets = bump.template take<Bucket>(layer.table.num_cells + 1);
      stage.window = layer.table.order + 1;
      const int64_t numbers = int64_t(step_of(stage.window)) * size.capacity;
      T* values = bump.template take<T>(numbers);
      T* values_in = bump.template take<T>(numbers);
      stage.values = need_weight ? values : nullptr;
      stage.values_in = need_in ? values_in : nullptr;
      if (pass == 0) {
        memory = static_cast<char*>(thread_scratch(bump.used()));
        if (memory == nullptr) return false;
      }
    }

    for (int64_t out = 0; out < layer.out_features; out += size.out_chunk) {
      WeightBlock block{0, 0, out,
                        static_cast<int>(min64(size.out_chunk, layer.out_features - out)), 0};
      block.padded_outputs = round_up(block.num_outputs, kLanes);
      const int ld = block.padded_outputs;
      // whole vectors of contiguous outputs are read in place, anything else from a padded copy
      const bool in_place = args.u_col_stride == 1 && block.num_outputs == ld;
      for (int64_t in = task.in_begin; in < task.in_end; in += size.in_block) {
        block.in_begin = in;
        block.num_inputs = static_cast<int>(min64(size.in_block, task.in_end - in));
        if (need_in) pack_weights(layer, block, w);
        if (need_weight)
          std::memset(s, 0, sizeof(T) * int64_t(block.num_inputs) * (num_basis + 1) * ld);
        for (int64_t rb = task.row_begin; rb < task.row_end; rb += size.row_block) {
          const int rows = static_cast<int>(min64(size.row_block, task.row_end - rb));
          gather_inputs(layer.x, layer.x_row_stride, layer.x_col_stride, rb, rows, in,
                        block.num_inputs, size.capacity, x_block);
          if (layer.v != nullptr)
            gather_inputs(layer.v, layer.v_row_stride, layer.v_col_stride, rb, rows, in,
                          block.num_inputs, size.capacity, v_block);
          const T* u = args.u + rb * args.u_row_stride + out * args.u_col_stride;
          int64_t u_stride = args.u_row_stride;
          if (!in_place) {
            for (int r = 0; r < rows; ++r)
              for (int o = 0; o < ld; ++o)
                u_block[r * ld + o] =
                    o < block.num_outputs ? u[r * args.u_row_stride + o * args.u_col_stride] : T(0);
            u = u_block;
            u_stride = ld;
          }
          for (int il = 0; il < block.num_inputs; ++il) {
            stage.num_rows = rows;
            stage_input<T, kWindow>(
                layer, in + il, x_block + int64_t(il) * size.capacity,
                layer.v != nullptr ? v_block + int64_t(il) * size.capacity : nullptr,
                args.derivative_weight, args.derivative_in, scratch, stage);
            const int64_t at = int64_t(il) * (num_basis + 1) * ld;
            if (need_weight) weight_tiles(stage, s + at, ld, num_basis, u, u_stride);
            // a non-finite input has no cell: every coefficient of its edges loses its gradient
            if (need_weight && stage.poisoned)
              for (int64_t n = 0; n < int64_t(num_basis + 1) * ld; ++n) s[at + n] = T(NAN);
            if (!need_in) continue;
            in_all_rows(stage, w + at, ld, num_basis, u, u_stride, z_lanes);
            scatter_sums(z_lanes, stage.permutation, rows, z_block + int64_t(il) * size.capacity);
          }
          if (need_in)
            scatter_inputs(z_block, size.capacity, rows, block.num_inputs, out == 0,
                           args.z + rb * layer.in_features + in, layer.in_features);
        }
        if (!need_weight) continue;
        if (task.partial == nullptr) {
          unfold_gradients(args, block, s, unfold_tile);
          continue;
        }
        T* partial =
            task.partial + (in - task.in_begin) * (num_basis + 1) * layer.out_features + out;
        for (int64_t n = 0; n < int64_t(block.num_inputs) * (num_basis + 1); ++n)
          std::memcpy(partial + n * layer.out_features, s + n * ld, sizeof(T) * block.num_outputs);
      }
    }
    return true;
  }

  static bool unfold(const UnfoldTask<T>& task) {
    const InWeightArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const int num_basis = layer.table.num_basis;
    const int64_t O = layer.out_features;
    // one input at a time over all outputs
    const int chunk = static_cast<int>(min64(O, kMostOutputs));
    char* memory = nullptr;
    T *s = nullptr, *unfold_tile = nullptr;
    for (int pass = 0; pass < 2; ++pass) {
      Bump bump(memory);
      s = bump.template take<T>(int64_t(num_basis + 1) * chunk);
      unfold_tile = bump.template take<T>(int64_t(kPackOutputs) * num_basis);
      if (pass == 0) {
        memory = static_cast<char*>(thread_scratch(bump.used()));
        if (memory == nullptr) return false;
      }
    }
    for (int64_t in = task.in_begin; in < task.in_end; ++in)
      for (int64_t out = 0; out < O; out += chunk) {
        const int width = static_cast<int>(min64(chunk, O - out));
        for (int g = 0; g <= num_basis; ++g) {
          const int64_t at = ((in - task.in_begin) * (num_basis + 1) + g) * O + out;
          for (int o = 0; o < width; ++o) s[int64_t(g) * width + o] = task.partials[0][at + o];
          for (int n = 1; n < task.num_partials; ++n)
            for (int o = 0; o < width; ++o) s[int64_t(g) * width + o] += task.partials[n][at + o];
        }
        unfold_gradients(args, WeightBlock{in, 1, out, width, width}, s, unfold_tile);
      }
    return true;
  }
};

KAN_NAMESPACE_END
