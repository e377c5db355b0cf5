// y of docs/math.md, eq. 5, on structured-sparse tensor cores: twice the columns at the rate of
// dense ones, and none of them lost (sparse_columns.h).
#pragma once

#include "mma_tile.h"
#include "sparse_columns.h"

KAN_NAMESPACE_BEGIN

// TF32 in one pass or three, as in mma_out.h. The base function is the first of a pair of its own,
// the last of an input.
//
// Shared memory: phi [kMmaRows, pairs + 4], weight [kMmaOutputs, 2 pairs + 4],
// selector [kMmaRows, pairs], a byte each
template <int kOrder, int kPasses>
struct MmaSparseOut {
  using T = float;
  using Args = OutArgs<T>;
  static constexpr int kThreads = kMmaThreads;
  static constexpr int kBlocks = 2;
  static constexpr int kValues = kOrder + 2;
  struct State : MmaSums {
    uint32_t a[2][kWarpRows][4], b[2][kWarpOutputs][4];  // large and rest
    uint32_t selectors[kWarpRows];
  };

  static KAN_HD int pairs_of_input(const LayerArgs<T>& layer) {
    return sparse_pairs(layer.table.num_basis, kOrder) + 1;
  }
  static KAN_HD int inputs_of(const LayerArgs<T>& layer) {
    const int pairs = pairs_of_input(layer);
    return 2 * pairs > kMmaColumns ? 1 : kMmaColumns / (2 * pairs);
  }
  // of a chunk, to whole products
  static KAN_HD int pairs_of(const LayerArgs<T>& layer) {
    return (inputs_of(layer) * pairs_of_input(layer) + 7) / 8 * 8;
  }
  static int64_t shared_bytes(const LayerArgs<T>& layer) {
    const int64_t pairs = pairs_of(layer);
    return sizeof(T) * (kMmaRows * (pairs + 4) + kMmaOutputs * (2 * pairs + 4)) + kMmaRows * pairs;
  }
  static int64_t blocks(const Args& args, const GatherGeometry&) {
    return mma_blocks(args.layer.rows, args.layer.out_features);
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry&) {
    const LayerArgs<T>& layer = args.layer;
    const MmaPlace place = mma_place(group.block(), layer.out_features);
    const int most = inputs_of(layer), pairs = pairs_of(layer);
    T* const phi = reinterpret_cast<T*>(group.shared());
    T* const weight = phi + kMmaRows * (pairs + 4);
    unsigned char* const selector =
        reinterpret_cast<unsigned char*>(weight + kMmaOutputs * (2 * pairs + 4));
    typename Group::template PerThread<State> states(group);
    for (int64_t in = 0; in < layer.in_features; in += most) {
      const int inputs =
          static_cast<int>(layer.in_features - in < most ? layer.in_features - in : most);
      group.each([&](int thread) {
        stage_functions(layer, args.derivative, place.row, in, inputs, pairs, phi, selector,
                        thread);
        stage_weights(layer, place.out, in, inputs, pairs, weight, thread);
      });
      for (int pair = 0; pair < pairs; pair += 8)
        multiply(group, states, phi, weight, selector, pairs, pair);
      // the barrier keeps the chunk's memory until every warp has read it
      group.each([&](int thread) { states[thread].add_part(); });
    }
    group.each([&](int thread) { store_tile(args, place, thread, states[thread]); });
  }

 private:
  static KAN_HD_INLINE void stage_functions(const LayerArgs<T>& layer, int derivative, int64_t row,
                                            int64_t in, int inputs, int pairs, T* phi,
                                            unsigned char* selector, int thread) {
    const int own = pairs_of_input(layer), half = own - 1;
    for (int n = thread; n < inputs * kMmaRows; n += kThreads) {
      const int r = n % kMmaRows, i = n / kMmaRows;
      T at[kValues] = {};
      int start = 0;
      if (row + r < layer.rows)
        start = functions_at<kOrder>(layer, row + r, in + i, derivative, true, at);
      T* const to = phi + r * (pairs + 4) + i * own;
      unsigned char* const chosen = selector + r * pairs + i * own;
      // no window: what is not finite is so in every function
      const T elsewhere = start == kNoWindow ? at[0] : T(0);
      for (int pair = 0; pair < half; ++pair) {
        to[pair] = elsewhere;
        chosen[pair] = static_cast<unsigned char>(sparse_selector_tf32(0));
      }
      if (start != kNoWindow) {
#pragma unroll
        for (int m = 0; m <= kOrder; ++m) {
          const int member = start + m >= half, pair = start + m - member * half;
          to[pair] = at[m];
          chosen[pair] = static_cast<unsigned char>(sparse_selector_tf32(member));
        }
      }
      to[half] = at[kOrder + 1];
      chosen[half] = static_cast<unsigned char>(sparse_selector_tf32(0));
    }
    const int used = inputs * own, left = pairs - used;
    for (int n = thread; n < kMmaRows * left; n += kThreads) {
      phi[n / left * (pairs + 4) + used + n % left] = T(0);
      selector[n / left * pairs + used + n % left] =
          static_cast<unsigned char>(sparse_selector_tf32(0));
    }
  }

  static KAN_HD_INLINE void stage_weights(const LayerArgs<T>& layer, int64_t out, int64_t in,
                                          int inputs, int pairs, T* weight, int thread) {
    const int own = pairs_of_input(layer), half = own - 1;
    for (int n = thread; n < kMmaOutputs * 2 * pairs; n += kThreads) {
      const int o = n / (2 * pairs), k = n % (2 * pairs), i = k / 2 / own, pair = k / 2 % own;
      int column = sparse_column(pair, k % 2, layer.table.num_basis, half);
      if (pair == half) column = k % 2 == 0 ? layer.table.num_basis : -1;
      weight[o * (2 * pairs + 4) + k] = i < inputs && out + o < layer.out_features && column >= 0
                                            ? weight_at(layer, out + o, in + i, column)
                                            : T(0);
    }
  }

  // Four selectors in a row, a byte each, as 16 bits.
  static KAN_HD_INLINE uint32_t four_selectors(const unsigned char* at) {
    return at[0] | at[1] << 4 | at[2] << 8 | at[3] << 12;
  }

  template <class Group, class States>
  static KAN_HD_INLINE void multiply(Group& group, States& states, const T* phi, const T* weight,
                                     const unsigned char* selector, int pairs, int pair) {
    group.each_alone([&](int thread) {
      State& state = states[thread];
      const int lane = thread % kWarp;
#pragma unroll
      for (int m = 0; m < kWarpRows; ++m) {
        const int row = mma_row(thread, m);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const T at = phi[(row + mma_a_row(lane, n)) * (pairs + 4) + pair + mma_a_column(lane, n)];
          state.a[0][m][n] = to_tf32(at);
          if (kPasses == 3) state.a[1][m][n] = tf32_rest(at, state.a[0][m][n]);
        }
        // of the lanes that the instruction does not ask nobody reads them
        const unsigned char* const of_row =
            selector + (row + lane / 4) * pairs + pair + lane % 2 * 4;
        state.selectors[m] = four_selectors(of_row) | four_selectors(of_row + 8 * pairs) << 16;
      }
#pragma unroll
      for (int m = 0; m < kWarpOutputs; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const T at = weight[(mma_output(thread, m) + mma_b_column(lane)) * (2 * pairs + 4) +
                              2 * pair + mma_b_row(lane, n)];
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
          group.mma_sparse(states, [&](State& s) {
            return MmaSparseOperands{s.a[1][m], s.b[0][n], s.selectors[m], s.part[m][n]};
          });
          group.mma_sparse(states, [&](State& s) {
            return MmaSparseOperands{s.a[0][m], s.b[1][n], s.selectors[m], s.part[m][n]};
          });
        }
        group.mma_sparse(states, [&](State& s) {
          return MmaSparseOperands{s.a[0][m], s.b[0][n], s.selectors[m], s.part[m][n]};
        });
      }
  }
};

KAN_NAMESPACE_END
