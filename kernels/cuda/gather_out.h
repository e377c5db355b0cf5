// y of docs/math.md, eq. 5: a block has a tile of rows and outputs.
#pragma once

#include "gather.h"

KAN_NAMESPACE_BEGIN

// Shared memory, for `inputs` inputs at a time:
//   weight [inputs, num_basis + 1, outputs], value [inputs, order + 2, kTileRows],
//   start [inputs, kTileRows]
template <int kOrder, class T>
struct GatherOut {
  using Args = OutArgs<T>;
  static constexpr int kThreads = kGatherThreads;
  static constexpr int kBlocks = sizeof(T) == 4 ? 2 : 1;
  static constexpr int kValues = kOrder + 2;
  struct Sums {
    T sum[4][4];
  };

  static int64_t shared_bytes(int64_t num_basis, int64_t outputs, int64_t inputs) {
    return inputs * (sizeof(T) * ((num_basis + 1) * outputs + kValues * kTileRows) +
                     sizeof(int) * kTileRows);
  }

  static int64_t blocks(const Args& args, const GatherGeometry& g) {
    return (args.layer.rows + kTileRows - 1) / kTileRows *
           ((args.layer.out_features + g.outputs - 1) / g.outputs);
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    const LayerArgs<T>& layer = args.layer;
    const int columns = layer.table.num_basis + 1, outputs = g.outputs;
    const int out_tiles = static_cast<int>((layer.out_features + outputs - 1) / outputs);
    const int64_t row = static_cast<int64_t>(group.block() / out_tiles) * kTileRows;
    const int64_t out = group.block() % out_tiles * outputs;
    T* const weight = reinterpret_cast<T*>(group.shared());
    T* const value = weight + static_cast<int64_t>(g.inputs) * columns * outputs;
    int* const start = reinterpret_cast<int*>(value + g.inputs * kValues * kTileRows);
    typename Group::template PerThread<Sums> sums(group);
    for (int64_t in = 0; in < layer.in_features; in += g.inputs) {
      const int inputs =
          static_cast<int>(layer.in_features - in < g.inputs ? layer.in_features - in : g.inputs);
      group.each([&](int thread) {
        // functions next to each other in memory are read by threads next to each other
        for (int n = thread; n < inputs * columns * outputs; n += kThreads) {
          const int c = n % columns, i = n / columns % inputs, o = n / columns / inputs;
          weight[(i * columns + c) * outputs + o] =
              out + o < layer.out_features ? weight_at(layer, out + o, in + i, c) : T(0);
        }
        for (int n = thread; n < inputs * kTileRows; n += kThreads) {
          const int r = n % kTileRows, i = n / kTileRows;
          T at[kValues] = {};
          const int first = row + r < layer.rows ? functions_at<kOrder>(layer, row + r, in + i,
                                                                        args.derivative, true, at)
                                                 : 0;
          start[n] = first < 0 ? 0 : first;
#pragma unroll
          for (int m = 0; m < kValues; ++m) value[(i * kValues + m) * kTileRows + r] = at[m];
        }
      });
      group.each([&](int thread) {
        const int o = thread % 16 * 4;
        if (o >= outputs) return;
        // the inputs of a chunk first: rounding errors grow with the number of chunks
        T part[4][4] = {};
        for (int i = 0; i < inputs; ++i)
#pragma unroll
          for (int a = 0; a < 4; ++a) {
            const int r = thread / 16 * 4 + a;
            const T* const values = value + i * kValues * kTileRows + r;
            const T* const window = weight + (i * columns + start[i * kTileRows + r]) * outputs + o;
            const T* const base = weight + (i * columns + columns - 1) * outputs + o;
#pragma unroll
            for (int m = 0; m < kValues; ++m) {
              const T factor = values[m * kTileRows];
              const T* const w = m <= kOrder ? window + m * outputs : base;
#pragma unroll
              for (int b = 0; b < 4; ++b) part[a][b] += factor * w[b];
            }
          }
#pragma unroll
        for (int a = 0; a < 4; ++a)
#pragma unroll
          for (int b = 0; b < 4; ++b) sums[thread].sum[a][b] += part[a][b];
      });
    }
    group.each([&](int thread) {
      const int o = thread % 16 * 4;
#pragma unroll
      for (int a = 0; a < 4; ++a)
#pragma unroll
        for (int b = 0; b < 4; ++b) {
          const int64_t r = row + thread / 16 * 4 + a;
          if (r < layer.rows && o + b < outputs && out + o + b < layer.out_features)
            args.y[r * layer.out_features + out + o + b] = sums[thread].sum[a][b];
        }
    });
  }
};

KAN_NAMESPACE_END
