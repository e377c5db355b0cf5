// y of docs/math.md, eq. 5, on tensor cores: the basis of a tile of rows and inputs is evaluated
// into shared memory, column by column what a dense product wants, and never further.
#pragma once

#include "mma_tile.h"

KAN_NAMESPACE_BEGIN

// TF32 in one pass, or in three whose sum has float's precision: of a b with a = A + a', b = B + b'
// only a' b' is left out, which is 2^-22 of it.
//
// Shared memory: phi [kMmaRows, stride], weight [kMmaOutputs, stride]
template <int kOrder, int kPasses>
struct MmaOut {
  using T = float;
  using Args = OutArgs<T>;
  static constexpr int kThreads = kMmaThreads;
  static constexpr int kBlocks = 2;
  static constexpr int kValues = kOrder + 2;
  struct State : MmaSums {
    uint32_t a[2][kWarpRows][4], b[2][kWarpOutputs][2];  // large and rest
  };

  // inputs of a chunk
  static KAN_HD int inputs_of(const LayerArgs<T>& layer) {
    const int columns = layer.table.num_basis + 1;
    return columns > kMmaColumns ? 1 : kMmaColumns / columns;
  }
  // whole products, and four more: rows of a fragment are in different banks
  static KAN_HD int stride_of(const LayerArgs<T>& layer) {
    return (inputs_of(layer) * (layer.table.num_basis + 1) + 7) / 8 * 8 + 4;
  }
  static int64_t shared_bytes(const LayerArgs<T>& layer) {
    return sizeof(T) * (kMmaRows + kMmaOutputs) * stride_of(layer);
  }
  static int64_t blocks(const Args& args, const GatherGeometry&) {
    return mma_blocks(args.layer.rows, args.layer.out_features);
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry&) {
    const LayerArgs<T>& layer = args.layer;
    const int columns = layer.table.num_basis + 1;
    const int most = inputs_of(layer), stride = stride_of(layer), depth = stride - 4;
    const MmaPlace place = mma_place(group.block(), layer.out_features);
    T* const phi = reinterpret_cast<T*>(group.shared());
    T* const weight = phi + kMmaRows * stride;
    typename Group::template PerThread<State> states(group);
    for (int64_t in = 0; in < layer.in_features; in += most) {
      const int inputs =
          static_cast<int>(layer.in_features - in < most ? layer.in_features - in : most);
      group.each([&](int thread) {
        stage_functions(layer, args.derivative, place.row, in, inputs, stride, phi, thread);
        for (int n = thread; n < kMmaOutputs * depth; n += kThreads) {
          const int o = n / depth, k = n % depth, i = k / columns;
          weight[o * stride + k] = i < inputs && place.out + o < layer.out_features
                                       ? weight_at(layer, place.out + o, in + i, k % columns)
                                       : T(0);
        }
      });
      for (int k = 0; k < depth; k += 8) multiply(group, states, phi, weight, stride, k);
      // the barrier keeps the chunk's memory until every warp has read it
      group.each([&](int thread) { states[thread].add_part(); });
    }
    group.each([&](int thread) { store_tile(args, place, thread, states[thread]); });
  }

 private:
  // phi [kMmaRows, stride]: a thread writes all columns of its pairs of a row and an input.
  static KAN_HD_INLINE void stage_functions(const LayerArgs<T>& layer, int derivative, int64_t row,
                                            int64_t in, int inputs, int stride, T* phi,
                                            int thread) {
    const int columns = layer.table.num_basis + 1;
    for (int n = thread; n < inputs * kMmaRows; n += kThreads) {
      const int r = n % kMmaRows, i = n / kMmaRows;
      T at[kValues] = {};
      int start = 0;
      if (row + r < layer.rows)
        start = functions_at<kOrder>(layer, row + r, in + i, derivative, true, at);
      T* const to = phi + r * stride + i * columns;
      // no window: what is not finite is so in every function
      const T elsewhere = start == kNoWindow ? at[0] : T(0);
      for (int c = 0; c + 1 < columns; ++c) to[c] = elsewhere;
      if (start != kNoWindow) {
#pragma unroll
        for (int m = 0; m <= kOrder; ++m) to[start + m] = at[m];
      }
      to[columns - 1] = at[kOrder + 1];
    }
    // what is left of the chunk, to whole products
    const int used = inputs * columns, depth = stride - 4;
    for (int n = thread; n < kMmaRows * (depth - used); n += kThreads)
      phi[n / (depth - used) * stride + used + n % (depth - used)] = T(0);
  }

  template <class Group, class States>
  static KAN_HD_INLINE void multiply(Group& group, States& states, const T* phi, const T* weight,
                                     int stride, int k) {
    group.each_alone([&](int thread) {
      State& state = states[thread];
      const int lane = thread % kWarp;
#pragma unroll
      for (int m = 0; m < kWarpRows; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const T at =
              phi[(mma_row(thread, m) + mma_a_row(lane, n)) * stride + k + mma_a_column(lane, n)];
          state.a[0][m][n] = to_tf32(at);
          if (kPasses == 3) state.a[1][m][n] = tf32_rest(at, state.a[0][m][n]);
        }
#pragma unroll
      for (int m = 0; m < kWarpOutputs; ++m)
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const T at = weight[(mma_output(thread, m) + mma_b_column(lane)) * stride + k +
                              mma_b_row(lane, n)];
          state.b[0][m][n] = to_tf32(at);
          if (kPasses == 3) state.b[1][m][n] = tf32_rest(at, state.b[0][m][n]);
        }
    });
#pragma unroll
    for (int m = 0; m < kWarpRows; ++m)
#pragma unroll
      for (int n = 0; n < kWarpOutputs; ++n) {
        // the small ones first
        if (kPasses == 3) {
          group.mma(states,
                    [&](State& s) { return MmaOperands{s.a[1][m], s.b[0][n], s.part[m][n]}; });
          group.mma(states,
                    [&](State& s) { return MmaOperands{s.a[0][m], s.b[1][n], s.part[m][n]}; });
        }
        group.mma(states,
                  [&](State& s) { return MmaOperands{s.a[0][m], s.b[0][n], s.part[m][n]}; });
      }
  }
};

KAN_NAMESPACE_END
