// z and S of docs/math.md, eq. 6 and 7, on tensor cores, from one launch: some blocks have a tile
// of z, the others one of S. Columns are the functions of as many inputs as fit into a tile, input
// by input. No atomics: every sum has one order.
//
// z: of each row, u [rows, outputs] times W [outputs, columns]; what that gives for the functions
// of an input is summed up with their derivatives.
// S: functions [columns, rows] times u [rows, outputs], over a part of the rows.
#pragma once

#include "gather_in_weight.h"
#include "mma_tile.h"

KAN_NAMESPACE_BEGIN

// Shared memory: two operands of a chunk of a sum; then the tile's sums [kRows, kColumns + 1].
template <int kOrder, Product kProduct>
struct MmaInWeight {
  using Args = GatherInWeightArgs<float>;
  using Tile = MmaTile<kProduct>;
  using State = typename Tile::State;
  static constexpr int kThreads = Tile::kThreads;
  static constexpr int kBlocks = 2;
  static constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns;
  static constexpr int kValues = kOrder + 2;
  // of a chunk along the sum
  static constexpr int kChunkCores = 8, kChunk = kChunkCores * core_columns(kProduct);
  static constexpr int kWords = kChunkCores * Tile::kRowCores * kCoreWords;
  static constexpr int kNumbers = numbers_of_word(kProduct);
  static constexpr int kSumStride = kColumns + 1;
  static_assert(Tile::kRowCores == Tile::kColumnCores, "both operands have one shape");

  static int64_t shared_bytes() {
    return sizeof(float) * (2 * kWords > kRows * kSumStride ? 2 * kWords : kRows * kSumStride);
  }
  static KAN_HD int inputs_of(const LayerArgs<float>& layer) {
    return kColumns / (layer.table.num_basis + 1);
  }
  // fewer than 2^31, as blocks are
  static KAN_HD int in_tiles(const LayerArgs<float>& layer) {
    const int inputs = inputs_of(layer);
    return static_cast<int>((layer.in_features + inputs - 1) / inputs);
  }
  static KAN_HD int out_tiles(const LayerArgs<float>& layer) {
    return static_cast<int>((layer.out_features + kColumns - 1) / kColumns);
  }
  static KAN_HD int64_t z_blocks(const InWeightArgs<float>& of) {
    return of.z == nullptr ? 0 : (of.layer.rows + kRows - 1) / kRows * in_tiles(of.layer);
  }
  static int64_t blocks(const Args& args, const GatherGeometry& g) {
    const int64_t s = static_cast<int64_t>(in_tiles(args.of.layer)) * out_tiles(args.of.layer);
    return z_blocks(args.of) + (wants_s(args.of) ? s * g.row_parts : 0);
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    const int first = static_cast<int>(z_blocks(args.of));
    if (group.block() < first)
      z_tile(group, args.of, group.block());
    else
      s_tile(group, args, g, group.block() - first);
  }

 private:
  static KAN_HD_INLINE float u_at(const InWeightArgs<float>& args, int64_t r, int64_t o,
                                  int64_t row_end) {
    return r < row_end && o < args.layer.out_features
               ? args.u[r * args.u_row_stride + o * args.u_col_stride]
               : 0.0f;
  }

  // A tile of an operand whose number of a row and a column along the sum is number(row, column).
  template <class Number>
  static KAN_HD_INLINE void stage(uint32_t* tile, int thread, const Number& number) {
    for (int n = thread; n < kWords; n += kThreads) {
      const int row = row_of_word(Tile::kRowCores, n), word = word_of_row(Tile::kRowCores, n);
      tile[n] = make_word<kProduct>([&](int m) { return number(row, word * kNumbers + m); });
    }
  }

  template <class Group, class States>
  static KAN_HD_INLINE void multiply(Group& group, States& states, const uint32_t* a,
                                     const uint32_t* b) {
    for (int core = 0; core < kChunkCores; core += 2)
      Tile::template multiply<false>(group, states, a, b, 0, 0, nullptr, core, core);
    // the barrier keeps the operands until every warp has read them
    Tile::add_part(group, states);
    group.each([](int) {});
  }

  template <class Group, class States>
  static KAN_HD_INLINE float* sums_in_memory(Group& group, States& states) {
    float* const sums = reinterpret_cast<float*>(group.shared());
    group.each([&](int thread) {
      Tile::each_sum(thread, states[thread],
                     [&](int r, int c, float sum) { sums[r * kSumStride + c] = sum; });
    });
    return sums;
  }

  template <class Group>
  static KAN_HD_INLINE void z_tile(Group& group, const InWeightArgs<float>& args, int block) {
    const LayerArgs<float>& layer = args.layer;
    const int columns = layer.table.num_basis + 1, inputs = inputs_of(layer);
    const int64_t row = static_cast<int64_t>(block / in_tiles(layer)) * kRows;
    const int64_t in = static_cast<int64_t>(block % in_tiles(layer)) * inputs;
    uint32_t* const u = reinterpret_cast<uint32_t*>(group.shared());
    uint32_t* const weight = u + kWords;
    typename Group::template PerThread<State> states(group);
    for (int64_t out = 0; out < layer.out_features; out += kChunk) {
      group.each([&](int thread) {
        stage(u, thread, [&](int r, int o) { return u_at(args, row + r, out + o, layer.rows); });
        stage(weight, thread, [&](int column, int o) {
          const int i = column / columns;
          return i < inputs && in + i < layer.in_features && out + o < layer.out_features
                     ? weight_at(layer, out + o, in + i, column % columns)
                     : 0.0f;
        });
      });
      multiply(group, states, u, weight);
    }
    const float* const sums = sums_in_memory(group, states);
    group.each([&](int thread) {
      for (int n = thread; n < inputs * kRows; n += kThreads) {
        const int64_t r = row + n / inputs, i = in + n % inputs;
        if (r >= layer.rows || i >= layer.in_features) continue;
        float at[kValues];
        int start = functions_at<kOrder>(layer, r, i, args.derivative_in, false, at);
        start = start < 0 ? 0 : start;
        const float* const of_input = sums + n / inputs * kSumStride + n % inputs * columns;
        float z = at[kOrder + 1] * of_input[columns - 1];
#pragma unroll
        for (int m = 0; m <= kOrder; ++m) z += at[m] * of_input[start + m];
        args.z[r * layer.in_features + i] = z;
      }
    });
  }

  template <class Group>
  static KAN_HD_INLINE void s_tile(Group& group, const Args& all, const GatherGeometry& g,
                                   int block) {
    const InWeightArgs<float>& args = all.of;
    const LayerArgs<float>& layer = args.layer;
    const int columns = layer.table.num_basis + 1, inputs = inputs_of(layer);
    const int64_t part = block / (in_tiles(layer) * out_tiles(layer));
    const int64_t in = static_cast<int64_t>(block / out_tiles(layer) % in_tiles(layer)) * inputs;
    const int64_t out = static_cast<int64_t>(block % out_tiles(layer)) * kColumns;
    const int64_t row_end = (part + 1) * g.rows < layer.rows ? (part + 1) * g.rows : layer.rows;
    uint32_t* const functions = reinterpret_cast<uint32_t*>(group.shared());
    uint32_t* const u = functions + kWords;
    typename Group::template PerThread<State> states(group);
    for (int64_t row = part * g.rows; row < row_end; row += kChunk) {
      group.each([&](int thread) {
        for (int n = thread; n < kWords; n += kThreads) functions[n] = 0;
        stage(u, thread, [&](int o, int r) { return u_at(args, row + r, out + o, row_end); });
      });
      group.each([&](int thread) {
        for (int n = thread; n < inputs * kChunk; n += kThreads) {
          const int r = n % kChunk, i = n / kChunk, first = i * columns;
          if (row + r >= row_end || in + i >= layer.in_features) continue;
          float at[kValues];
          const int start =
              functions_at<kOrder>(layer, row + r, in + i, args.derivative_weight, true, at);
          const auto store = [&](int column, float x) {
            store_number<kProduct>(functions, Tile::kRowCores, first + column, r, x);
          };
          if (start == kNoWindow) {
            for (int c = 0; c + 1 < columns; ++c) store(c, at[0]);
          } else {
#pragma unroll
            for (int m = 0; m <= kOrder; ++m) store(start + m, at[m]);
          }
          store(columns - 1, at[kOrder + 1]);
        }
      });
      multiply(group, states, functions, u);
    }
    const float* const sums = sums_in_memory(group, states);
    group.each([&](int thread) {
      for (int n = thread; n < inputs * kColumns; n += kThreads) {
        const int64_t o = out + n % kColumns, i = in + n / kColumns;
        if (o >= layer.out_features || i >= layer.in_features) continue;
        const float* const mine = sums + n / kColumns * columns * kSumStride + n % kColumns;
        store_edge(all, g, part, o, i, [&](int c) { return mine[c * kSumStride]; });
      }
    });
  }
};

KAN_NAMESPACE_END
