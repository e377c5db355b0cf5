// y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i])                        (docs/math.md, eq. 5)
//
// Per block of inputs: pack the weights, stage a block of rows, and for a tile of outputs walk the
// buckets of each input with the order + 2 weight rows of the bucket in registers. The sums of a
// tile live in a contiguous buffer in L1 and reach y once per block of inputs: rows of y are often
// a power of two apart and would evict each other, and adding block sums is more accurate than
// adding inputs.
#pragma once

#include <numeric>

#include "block.h"
#include "cell_basis.h"

KAN_NAMESPACE_BEGIN

template <class T, int kBytes, int kWindow>
struct ContractOut {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  // the weight rows of a bucket are in registers where the compiler knows how many there are
  static constexpr bool kHeld = kWindow != kAnyWindow;
  static constexpr int kTile = kHeld ? clamp_int((kRegisters - 4) / (kWindow + 2), 1, 4) : 4;

  struct Memory {
    T *packed, *x, *v, *sums;
    StageScratch<T> scratch;
    Stage<T>* stages;
  };

  static void stage(const OutTask<T>& task, const WeightBlock& block, const Memory& memory, int il,
                    int num_rows, int capacity, Stage<T>& stage) {
    const LayerArgs<T>& layer = task.args->layer;
    const int64_t at = int64_t(il) * capacity;
    stage.num_rows = num_rows;
    stage_input<T, kWindow>(layer, block.in_begin + il, memory.x + at,
                            layer.v != nullptr ? memory.v + at : nullptr, task.args->derivative, 0,
                            memory.scratch, stage);
  }

  // One input, kNumVectors vectors of outputs; the first input of a block starts the sums.
  template <int kNumVectors, bool kFirst>
  static void tile(const Stage<T>& stage, const T* w /* [num_basis + 1, ld] */, int ld,
                   int num_basis, T* sums /* [rows, kNumVectors * kLanes] */) {
    // of which both the values of a row and its sums are a multiple
    constexpr int kUnit = std::gcd(kHeld ? step_of(kWindow) : 4, kNumVectors * kLanes);
    const int window = window_of<kWindow>(stage.window - 1);
    const int step = step_of(window);
    V base[kNumVectors];
#pragma GCC unroll 9
    for (int n = 0; n < kNumVectors; ++n) base[n] = X::load(w + num_basis * ld + n * kLanes);
    // local copies: stores to `sums` might change the stage, as far as the compiler knows
    const int* permutation = stage.permutation;
    const T* values = stage.values;
    const int num_buckets = stage.num_buckets;
    for (int b = 0; b < num_buckets; ++b) {
      const Bucket bucket = stage.buckets[b];
      const T* of_cell = w + int64_t(bucket.start) * ld;
      V held[kHeld ? kWindow : 1][kNumVectors];
      if constexpr (kHeld)
#pragma GCC unroll 9
        for (int m = 0; m < kWindow; ++m)
#pragma GCC unroll 9
          for (int n = 0; n < kNumVectors; ++n) held[m][n] = X::load(of_cell + m * ld + n * kLanes);
      for (int p = bucket.begin; p < bucket.end; ++p) {
        int64_t at = int64_t(permutation[p]) * kUnit;
        opaque(at);
        T* row = sums + at * (kNumVectors * kLanes / kUnit);
        const T* value = values + at * (step / kUnit);
        V sum[kNumVectors];
#pragma GCC unroll 9
        for (int n = 0; n < kNumVectors; ++n)
          sum[n] = value[window] * base[n] + (kFirst ? V{} : X::load(row + n * kLanes));
        if constexpr (kHeld) {
#pragma GCC unroll 9
          for (int m = 0; m < kWindow; ++m)
#pragma GCC unroll 9
            for (int n = 0; n < kNumVectors; ++n) sum[n] += value[m] * held[m][n];
        } else {
          const T* weight = of_cell;
          for (int m = 0; m < window; ++m, weight += ld)
#pragma GCC unroll 9
            for (int n = 0; n < kNumVectors; ++n) sum[n] += value[m] * X::load(weight + n * kLanes);
        }
#pragma GCC unroll 9
        for (int n = 0; n < kNumVectors; ++n) X::store(row + n * kLanes, sum[n]);
      }
    }
  }

  // Adds a tile of sums to y, or starts y with it.
  template <int kNumVectors>
  static void add_to_rows(const T* sums, int num_rows, int num_outputs, bool first, T* y,
                          int64_t y_stride) {
    constexpr int kWidth = kNumVectors * kLanes;
    for (int r = 0; r < num_rows; ++r) {
      const T* sum = sums + r * kWidth;
      T* row = y + r * y_stride;
      if (num_outputs >= kWidth) {
        for (int n = 0; n < kWidth; n += kLanes) {
          const V s = X::load(sum + n);
          X::store(row + n, first ? s : X::load(row + n) + s);
        }
      } else {
        for (int o = 0; o < num_outputs; ++o) row[o] = first ? sum[o] : row[o] + sum[o];
      }
    }
  }

  // Tiles of kNumVectors from output `from` on, each over all inputs of the block; returns where
  // they end.
  template <int kNumVectors>
  static int tiles(const Stage<T>* stages, const WeightBlock& block, const T* w, int num_basis,
                   T* sums, T* y, int64_t y_stride, int from) {
    const int ld = block.padded_outputs;
    const int64_t next_input = int64_t(num_basis + 1) * ld;
    for (; from + kNumVectors * kLanes <= ld; from += kNumVectors * kLanes) {
      tile<kNumVectors, true>(stages[0], w + from, ld, num_basis, sums);
      for (int il = 1; il < block.num_inputs; ++il)
        tile<kNumVectors, false>(stages[il], w + il * next_input + from, ld, num_basis, sums);
      add_to_rows<kNumVectors>(sums, stages[0].num_rows, block.num_outputs - from,
                               block.in_begin == 0, y + from, y_stride);
    }
    return from;
  }

  // All rows of a block of inputs for outputs that are one tile: each input is staged and used
  // while its values are in L1.
  template <int kNumVectors>
  static void narrow(const OutTask<T>& task, const WeightBlock& block, const Memory& memory,
                     int64_t first_row, int num_rows, int capacity) {
    const LayerArgs<T>& layer = task.args->layer;
    const int num_basis = layer.table.num_basis;
    const int ld = block.padded_outputs;
    for (int il = 0; il < block.num_inputs; ++il) {
      stage(task, block, memory, il, num_rows, capacity, memory.stages[0]);
      const T* w = memory.packed + int64_t(il) * (num_basis + 1) * ld;
      if (il == 0)
        tile<kNumVectors, true>(memory.stages[0], w, ld, num_basis, memory.sums);
      else
        tile<kNumVectors, false>(memory.stages[0], w, ld, num_basis, memory.sums);
    }
    add_to_rows<kNumVectors>(memory.sums, num_rows, block.num_outputs, block.in_begin == 0,
                             task.args->y + first_row * layer.out_features + block.out_begin,
                             layer.out_features);
  }

  static bool allocate(const LayerArgs<T>& layer, const BlockSizes& size, Memory& memory) {
    const int window = layer.table.order + 1;
    char* base = nullptr;
    for (int pass = 0; pass < 2; ++pass) {
      Bump bump(base);
      memory.packed =
          bump.template take<T>(int64_t(size.in_block) * (layer.table.num_basis + 1) * size.padded);
      memory.x = bump.template take<T>(int64_t(size.in_block) * size.capacity);
      memory.v = bump.template take<T>(int64_t(size.in_block) * size.capacity);
      memory.sums = bump.template take<T>(int64_t(size.row_block) * kTile * kLanes);
      memory.scratch = take_stage_scratch(bump, layer.table, size.capacity);
      memory.stages = bump.template take<Stage<T>>(size.in_block);
      for (int il = 0; il < size.in_block; ++il) {
        int* permutation = bump.template take<int>(size.capacity);
        Bucket* buckets = bump.template take<Bucket>(layer.table.num_cells + 1);
        T* values = bump.template take<T>(int64_t(step_of(window)) * size.capacity);
        if (pass == 1)
          memory.stages[il] = Stage<T>{window, 0, 0, false, permutation, buckets, values, nullptr};
      }
      if (pass == 0) {
        base = static_cast<char*>(thread_scratch(bump.used()));
        if (base == nullptr) return false;
      }
    }
    return true;
  }

  // All rows of the task for one block of weights, already packed.
  static void rows(const OutTask<T>& task, const WeightBlock& block, const BlockSizes& size,
                   const Memory& memory) {
    const LayerArgs<T>& layer = task.args->layer;
    const int num_basis = layer.table.num_basis;
    for (int64_t rb = task.row_begin; rb < task.row_end; rb += size.row_block) {
      const int num_rows = static_cast<int>(min64(size.row_block, task.row_end - rb));
      gather_inputs(layer.x, layer.x_row_stride, layer.x_col_stride, rb, num_rows, block.in_begin,
                    block.num_inputs, size.capacity, memory.x);
      if (layer.v != nullptr)
        gather_inputs(layer.v, layer.v_row_stride, layer.v_col_stride, rb, num_rows, block.in_begin,
                      block.num_inputs, size.capacity, memory.v);
      if (block.padded_outputs == kLanes) {
        narrow<1>(task, block, memory, rb, num_rows, size.capacity);
        continue;
      }
      if (kTile >= 2 && block.padded_outputs == 2 * kLanes) {
        narrow<2>(task, block, memory, rb, num_rows, size.capacity);
        continue;
      }
      for (int il = 0; il < block.num_inputs; ++il)
        stage(task, block, memory, il, num_rows, size.capacity, memory.stages[il]);
      T* y = task.args->y + rb * layer.out_features + block.out_begin;
      const int64_t y_stride = layer.out_features;
      int from =
          tiles<kTile>(memory.stages, block, memory.packed, num_basis, memory.sums, y, y_stride, 0);
      if (kTile > 2)
        from = tiles<2>(memory.stages, block, memory.packed, num_basis, memory.sums, y, y_stride,
                        from);
      tiles<1>(memory.stages, block, memory.packed, num_basis, memory.sums, y, y_stride, from);
    }
  }

  static bool run(const OutTask<T>& task) {
    const LayerArgs<T>& layer = task.args->layer;
    const BlockSizes size =
        block_sizes<T, kBytes>(layer, task.row_end - task.row_begin, task.out_end - task.out_begin,
                               layer.in_features, 1, false);
    Memory memory{};
    if (!allocate(layer, size, memory)) return false;
    for (int64_t out = task.out_begin; out < task.out_end; out += size.out_chunk) {
      WeightBlock block{};
      block.out_begin = out;
      block.num_outputs = static_cast<int>(min64(size.out_chunk, task.out_end - out));
      block.padded_outputs = round_up(block.num_outputs, kLanes);
      for (int64_t in = 0; in < layer.in_features; in += size.in_block) {
        block.in_begin = in;
        block.num_inputs = static_cast<int>(min64(size.in_block, layer.in_features - in));
        pack_weights(layer, block, memory.packed);
        rows(task, block, size, memory);
      }
    }
    return true;
  }
};

KAN_NAMESPACE_END
