// y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i])                        (docs/math.md, eq. 5)
//
// Per block of inputs: pack the weights, stage a block of rows, and for a tile of outputs walk the
// buckets of each input with the order + 2 weight rows of the bucket in registers. A row of the
// tile is loaded and stored once for order + 2 multiply-adds an output.
#pragma once

#include "block.h"

KAN_NAMESPACE_BEGIN

template <class T, int kBytes, int kWindow>
struct ContractOut {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  static constexpr int kTile = clamp_int((kRegisters - 4) / (kWindow + 2), 1, 4);

  // One input, kNumVectors vectors of outputs.
  template <int kNumVectors>
  static void tile(const Stage<T>& stage, const T* w /* [num_basis + 1, ld] */, int ld,
                   int num_basis, T* y, int64_t y_stride) {
    V base[kNumVectors];
    for (int n = 0; n < kNumVectors; ++n) base[n] = X::load(w + num_basis * ld + n * kLanes);
    const int capacity = stage.capacity;
    for (int b = 0; b < stage.num_buckets; ++b) {
      const Bucket bucket = stage.buckets[b];
      V weight[kWindow][kNumVectors];
      for (int m = 0; m < kWindow; ++m)
        for (int n = 0; n < kNumVectors; ++n)
          weight[m][n] = X::load(w + (bucket.start + m) * ld + n * kLanes);
      for (int p = bucket.begin; p < bucket.end; ++p) {
        T* row = y + stage.permutation[p] * y_stride;
        const T* value = stage.values + p;
        V sum[kNumVectors];
        for (int n = 0; n < kNumVectors; ++n)
          sum[n] = X::load(row + n * kLanes) + value[kWindow * capacity] * base[n];
        for (int m = 0; m < kWindow; ++m)
          for (int n = 0; n < kNumVectors; ++n) sum[n] += value[m * capacity] * weight[m][n];
        for (int n = 0; n < kNumVectors; ++n) X::store(row + n * kLanes, sum[n]);
      }
    }
  }

  template <int kNumVectors>
  static int tiles(const Stage<T>* stages, int num_inputs, const T* w, int ld, int num_basis, T* y,
                   int64_t y_stride, int from) {
    for (; from + kNumVectors * kLanes <= ld; from += kNumVectors * kLanes)
      for (int il = 0; il < num_inputs; ++il)
        tile<kNumVectors>(stages[il], w + int64_t(il) * (num_basis + 1) * ld + from, ld, num_basis,
                          y + from, y_stride);
    return from;
  }

  // Rows [row_begin, row_begin + num_rows) of one output chunk into y, which has whole vectors.
  static void chunk(const OutTask<T>& task, const WeightBlock& outputs, const BlockSizes& size,
                    int64_t row_begin, int64_t num_rows, T* y, int64_t y_stride, T* packed,
                    T* x_block, T* v_block, Stage<T>* stages, const StageScratch<T>& scratch) {
    const LayerArgs<T>& layer = task.args->layer;
    const int num_basis = layer.table.num_basis;
    const int ld = outputs.padded_outputs;
    for (int64_t r = 0; r < num_rows; ++r) std::memset(y + r * y_stride, 0, sizeof(T) * ld);
    for (int64_t in = 0; in < layer.in_features; in += size.in_block) {
      WeightBlock block = outputs;
      block.in_begin = in;
      block.num_inputs = static_cast<int>(min64(size.in_block, layer.in_features - in));
      pack_weights(layer, block, packed);
      for (int64_t rb = 0; rb < num_rows; rb += size.row_block) {
        const int rows = static_cast<int>(min64(size.row_block, num_rows - rb));
        gather_inputs(layer.x, layer.x_row_stride, layer.x_col_stride, row_begin + rb, rows, in,
                      block.num_inputs, size.capacity, x_block);
        if (layer.v != nullptr)
          gather_inputs(layer.v, layer.v_row_stride, layer.v_col_stride, row_begin + rb, rows, in,
                        block.num_inputs, size.capacity, v_block);
        for (int il = 0; il < block.num_inputs; ++il) {
          stages[il].num_rows = rows;
          stage_input<T, kBytes, kWindow>(
              layer, in + il, x_block + int64_t(il) * size.capacity,
              layer.v != nullptr ? v_block + int64_t(il) * size.capacity : nullptr,
              task.args->derivative, 0, scratch, stages[il]);
        }
        T* y_block = y + rb * y_stride;
        int from =
            tiles<kTile>(stages, block.num_inputs, packed, ld, num_basis, y_block, y_stride, 0);
        if (kTile > 2)
          from = tiles<2>(stages, block.num_inputs, packed, ld, num_basis, y_block, y_stride, from);
        tiles<1>(stages, block.num_inputs, packed, ld, num_basis, y_block, y_stride, from);
      }
    }
  }

  static bool run(const OutTask<T>& task) {
    const OutArgs<T>& args = *task.args;
    const LayerArgs<T>& layer = args.layer;
    const int64_t num_rows = task.row_end - task.row_begin;
    const int64_t num_outputs = task.out_end - task.out_begin;
    const BlockSizes size =
        block_sizes<T, kBytes>(layer, num_rows, num_outputs, layer.in_features, 1, false);
    // rows of a chunk that is not whole vectors are gathered in a padded copy, a piece at a time
    const int64_t padded_rows = min64(
        num_rows, clamp_int(static_cast<int>((kRowBytes * 2) / (size.padded * int64_t(sizeof(T)))),
                            size.row_block, 8192));

    char* memory = nullptr;
    Stage<T>* stages = nullptr;
    StageScratch<T> scratch{};
    T *packed = nullptr, *x_block = nullptr, *v_block = nullptr, *padded = nullptr;
    for (int pass = 0; pass < 2; ++pass) {
      Bump bump(memory);
      packed =
          bump.template take<T>(int64_t(size.in_block) * (layer.table.num_basis + 1) * size.padded);
      x_block = bump.template take<T>(int64_t(size.in_block) * size.capacity);
      v_block = bump.template take<T>(int64_t(size.in_block) * size.capacity);
      padded = bump.template take<T>(padded_rows * size.padded);
      scratch = take_stage_scratch(bump, layer.table, size.capacity);
      stages = bump.template take<Stage<T>>(size.in_block);
      for (int il = 0; il < size.in_block; ++il) {
        int* permutation = bump.template take<int>(size.capacity);
        Bucket* buckets = bump.template take<Bucket>(layer.table.num_cells + 1);
        T* values = bump.template take<T>(int64_t(kWindow + 1) * size.capacity);
        if (pass == 1)
          stages[il] = Stage<T>{0, size.capacity, 0, false, permutation, buckets, values, nullptr};
      }
      if (pass == 0) {
        memory = static_cast<char*>(thread_scratch(bump.used()));
        if (memory == nullptr) return false;
      }
    }

    for (int64_t out = task.out_begin; out < task.out_end; out += size.out_chunk) {
      WeightBlock outputs{0, 0, out, static_cast<int>(min64(size.out_chunk, task.out_end - out)),
                          0};
      outputs.padded_outputs = round_up(outputs.num_outputs, kLanes);
      if (outputs.num_outputs == outputs.padded_outputs) {
        chunk(task, outputs, size, task.row_begin, num_rows,
              args.y + task.row_begin * layer.out_features + out, layer.out_features, packed,
              x_block, v_block, stages, scratch);
        continue;
      }
      for (int64_t r0 = 0; r0 < num_rows; r0 += padded_rows) {
        const int64_t rows = min64(padded_rows, num_rows - r0);
        chunk(task, outputs, size, task.row_begin + r0, rows, padded, outputs.padded_outputs,
              packed, x_block, v_block, stages, scratch);
        for (int64_t r = 0; r < rows; ++r)
          for (int o = 0; o < outputs.num_outputs; ++o)
            args.y[(task.row_begin + r0 + r) * layer.out_features + out + o] =
                padded[r * outputs.padded_outputs + o];
      }
    }
    return true;
  }
};

KAN_NAMESPACE_END
