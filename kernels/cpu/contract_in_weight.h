// z[r,i]   = sum_o u[r,o] sum_g W[o,i,g] b_g^(d_in)(x[r,i])                   (docs/math.md, eq. 6)
// S[o,i,g] = sum_r u[r,o] v[r,i] b_g^(d_weight)(x[r,i])                       (docs/math.md, eq. 7)
//
// Both from the same loads: inside a bucket the weight rows and the rows of S sit in registers, and
// one load of u feeds order + 2 multiply-adds for S and as many for z. A task owns its inputs, so
// nothing is shared between threads and sums are always taken in the same order.
#pragma once

#include "block.h"

KAN_NAMESPACE_BEGIN

template <class T, int kBytes, int kWindow>
struct ContractInWeight {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  static constexpr int kTile = clamp_int((kRegisters - 3) / (2 * kWindow + 4), 1, 4);

  // One input, kNumVectors vectors of outputs: S += ..., and lane-wise partial sums of z.
  template <int kNumVectors, bool kIn, bool kWeight>
  static void tile(const Stage<T>& stage, const T* w, T* s /* both [num_basis + 1, ld] */, int ld,
                   int num_basis, const T* u, int64_t u_stride, bool first,
                   T* z_lanes /* [capacity, kLanes] */) {
    V base_w[kNumVectors], base_s[kNumVectors];
    for (int n = 0; n < kNumVectors; ++n) {
      base_s[n] = V{};
      base_w[n] = kIn ? X::load(w + num_basis * ld + n * kLanes) : V{};
    }
    const int capacity = stage.capacity;
    for (int b = 0; b < stage.num_buckets; ++b) {
      const Bucket bucket = stage.buckets[b];
      V weight[kWindow][kNumVectors], sum[kWindow][kNumVectors];
      for (int m = 0; m < kWindow; ++m)
        for (int n = 0; n < kNumVectors; ++n) {
          sum[m][n] = V{};
          weight[m][n] = kIn ? X::load(w + (bucket.start + m) * ld + n * kLanes) : V{};
        }
      for (int p = bucket.begin; p < bucket.end; ++p) {
        const T* row = u + stage.permutation[p] * u_stride;
        V g[kNumVectors];
        for (int n = 0; n < kNumVectors; ++n) g[n] = X::load(row + n * kLanes);
        if (kWeight) {
          const T* value = stage.values + stage.place[p];
          for (int m = 0; m < kWindow; ++m)
            for (int n = 0; n < kNumVectors; ++n) sum[m][n] += value[m * capacity] * g[n];
          for (int n = 0; n < kNumVectors; ++n) base_s[n] += value[kWindow * capacity] * g[n];
        }
        if (kIn) {
          const T* value = stage.values_in + stage.place[p];
          V z = V{};
          for (int n = 0; n < kNumVectors; ++n) {
            V slope = value[kWindow * capacity] * base_w[n];
            for (int m = 0; m < kWindow; ++m) slope += value[m * capacity] * weight[m][n];
            z += slope * g[n];
          }
          T* lanes = z_lanes + int64_t(p) * kLanes;
          X::store(lanes, first ? z : X::load(lanes) + z);
        }
      }
      if (kWeight)
        for (int m = 0; m < kWindow; ++m)
          for (int n = 0; n < kNumVectors; ++n) {
            T* at = s + (bucket.start + m) * ld + n * kLanes;
            X::store(at, X::load(at) + sum[m][n]);
          }
    }
    if (kWeight)
      for (int n = 0; n < kNumVectors; ++n) {
        T* at = s + num_basis * ld + n * kLanes;
        X::store(at, X::load(at) + base_s[n]);
      }
  }

  template <bool kIn, bool kWeight>
  static void tiles(const Stage<T>& stage, const T* w, T* s, int ld, int num_basis, const T* u,
                    int64_t u_stride, T* z_lanes) {
    int from = 0;
    for (; from + kTile * kLanes <= ld; from += kTile * kLanes)
      tile<kTile, kIn, kWeight>(stage, w + from, s + from, ld, num_basis, u + from, u_stride,
                                from == 0, z_lanes);
    for (; from < ld; from += kLanes)
      tile<1, kIn, kWeight>(stage, w + from, s + from, ld, num_basis, u + from, u_stride, from == 0,
                            z_lanes);
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
      stage.capacity = size.capacity;
      stage.permutation = bump.template take<int>(size.capacity);
      stage.buckets = bump.template take<Bucket>(layer.table.num_cells + 1);
      T* values = bump.template take<T>(int64_t(kWindow + 1) * size.capacity);
      T* values_in = bump.template take<T>(int64_t(kWindow + 1) * size.capacity);
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
            stage_input<T, kWidest, kWindow>(
                layer, in + il, x_block + int64_t(il) * size.capacity,
                layer.v != nullptr ? v_block + int64_t(il) * size.capacity : nullptr,
                args.derivative_weight, args.derivative_in, scratch, stage);
            const int64_t at = int64_t(il) * (num_basis + 1) * ld;
            if (need_in && need_weight)
              tiles<true, true>(stage, w + at, s + at, ld, num_basis, u, u_stride, z_lanes);
            else if (need_in)
              tiles<true, false>(stage, w + at, s + at, ld, num_basis, u, u_stride, z_lanes);
            else
              tiles<false, true>(stage, w + at, s + at, ld, num_basis, u, u_stride, z_lanes);
            // a non-finite input has no cell: every coefficient of its edges loses its gradient
            if (need_weight && stage.poisoned)
              for (int64_t n = 0; n < int64_t(num_basis + 1) * ld; ++n) s[at + n] = T(NAN);
            if (need_in)
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
