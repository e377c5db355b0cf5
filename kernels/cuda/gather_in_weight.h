// z and S of docs/math.md, eq. 6 and 7, from one launch: some blocks have a tile of z, the others
// one of S. No atomics: every sum has one order.
#pragma once

#include "gather.h"

KAN_NAMESPACE_BEGIN

// S, where not all rows are in one part, as [row_parts, in_features, num_basis + 1, out_features].
template <class T>
struct GatherInWeightArgs {
  InWeightArgs<T> of;
  T* partial;
};

// S of an edge to the gradients of its parameters; `sum(g)` is S of function g.
template <class T, class Sum>
KAN_HD_INLINE void unfold_edge(const InWeightArgs<T>& args, int64_t o, int64_t i, const Sum& sum) {
  const LayerArgs<T>& layer = args.layer;
  const int num_basis = layer.table.num_basis;
  const int64_t edge = o * layer.in_features + i;
  const T scale = layer.spline_scaler == nullptr ? T(1) : layer.spline_scaler[edge];
  T of_scaler = 0;
  for (int g = 0; g < num_basis; ++g) {
    const T at = sum(g);
    if (args.grad_spline_scaler != nullptr)
      of_scaler += at * layer.spline_weight[edge * num_basis + g];
    if (args.grad_spline_weight != nullptr)
      args.grad_spline_weight[edge * num_basis + g] = scale * at;
  }
  if (args.grad_spline_scaler != nullptr) args.grad_spline_scaler[edge] = of_scaler;
  if (args.grad_base_weight != nullptr) args.grad_base_weight[edge] = sum(num_basis);
}

template <class T>
bool wants_s(const InWeightArgs<T>& of) {
  return of.grad_spline_weight != nullptr || of.grad_spline_scaler != nullptr ||
         of.grad_base_weight != nullptr;
}

// S of an edge over a part of the rows, to where it goes.
template <class T, class Sum>
KAN_HD_INLINE void store_edge(const GatherInWeightArgs<T>& args, const GatherGeometry& g,
                              int64_t part, int64_t o, int64_t i, const Sum& sum) {
  const LayerArgs<T>& layer = args.of.layer;
  const int columns = layer.table.num_basis + 1;
  if (g.row_parts == 1) {
    unfold_edge(args.of, o, i, sum);
  } else {
    T* const to = args.partial + (part * layer.in_features + i) * columns * layer.out_features + o;
    for (int c = 0; c < columns; ++c) to[c * layer.out_features] = sum(c);
  }
}

template <int kOrder, class T>
struct GatherInWeight {
  using Args = GatherInWeightArgs<T>;
  static constexpr int kThreads = kGatherThreads;
  static constexpr int kBlocks = sizeof(T) == 4 ? 2 : 1;
  static constexpr int kValues = kOrder + 2;

  // of a tile of z: weight [kTileInputs, outputs, num_basis + 1], u [outputs, kTileRows];
  // of a tile of S: sum [kTileInputs, num_basis + 1, outputs], u [kStagedRows, outputs],
  // value [kTileInputs, kStagedRows, order + 2], start [kTileInputs, kStagedRows]
  static int64_t shared_bytes(int64_t num_basis, int64_t outputs) {
    const int64_t weights = kTileInputs * (num_basis + 1) * outputs;
    const int64_t z = weights + outputs * kTileRows;
    const int64_t s = weights + kStagedRows * (outputs + kTileInputs * kValues);
    return sizeof(T) * (z > s ? z : s) + sizeof(int) * kTileInputs * kStagedRows;
  }

  // fewer than 2^31, as blocks are
  static KAN_HD int in_tiles(const LayerArgs<T>& layer) {
    return static_cast<int>((layer.in_features + kTileInputs - 1) / kTileInputs);
  }
  static KAN_HD int64_t z_blocks(const InWeightArgs<T>& of) {
    return of.z == nullptr ? 0 : (of.layer.rows + kTileRows - 1) / kTileRows * in_tiles(of.layer);
  }
  static int64_t blocks(const Args& args, const GatherGeometry& g) {
    const LayerArgs<T>& layer = args.of.layer;
    const int64_t s = in_tiles(layer) * ((layer.out_features + g.outputs - 1) / g.outputs);
    return z_blocks(args.of) + (wants_s(args.of) ? s * g.row_parts : 0);
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    const int first = static_cast<int>(z_blocks(args.of));
    if (group.block() < first)
      z_tile(group, args.of, g, group.block());
    else
      s_tile(group, args, g, group.block() - first);
  }

 private:
  template <class Group>
  static KAN_HD_INLINE void z_tile(Group& group, const InWeightArgs<T>& args,
                                   const GatherGeometry& g, int block) {
    const LayerArgs<T>& layer = args.layer;
    const int columns = layer.table.num_basis + 1, outputs = g.outputs;
    const int64_t row = static_cast<int64_t>(block / in_tiles(layer)) * kTileRows;
    const int64_t in = block % in_tiles(layer) * kTileInputs;
    T* const weight = reinterpret_cast<T*>(group.shared());
    T* const u = weight + static_cast<int64_t>(kTileInputs) * columns * outputs;
    struct Pair {
      T value[kValues];
      T sum;
      int start;
    };
    typename Group::template PerThread<Pair> pairs(group);
    group.each([&](int thread) {
      const int64_t r = row + thread % kTileRows, i = in + thread / kTileRows;
      Pair& pair = pairs[thread];
      if (r < layer.rows && i < layer.in_features)
        pair.start = functions_at<kOrder>(layer, r, i, args.derivative_in, false, pair.value);
      if (pair.start < 0) pair.start = 0;
    });
    for (int64_t out = 0; out < layer.out_features; out += outputs) {
      group.each([&](int thread) {
        for (int n = thread; n < kTileInputs * columns * outputs; n += kThreads) {
          const int c = n % columns, i = n / columns % kTileInputs;
          const int o = n / columns / kTileInputs;
          weight[(i * outputs + o) * columns + c] =
              out + o < layer.out_features && in + i < layer.in_features
                  ? weight_at(layer, out + o, in + i, c)
                  : T(0);
        }
        for (int n = thread; n < outputs * kTileRows; n += kThreads) {
          const int64_t o = out + n % outputs, r = row + n / outputs;
          u[n % outputs * kTileRows + n / outputs] =
              o < layer.out_features && r < layer.rows
                  ? args.u[r * args.u_row_stride + o * args.u_col_stride]
                  : T(0);
        }
      });
      group.each([&](int thread) {
        Pair& pair = pairs[thread];
        const T* const of_input = weight + thread / kTileRows * outputs * columns;
        T part = 0;
        for (int o = 0; o < outputs; ++o) {
          const T* const w = of_input + o * columns;
          T at = pair.value[kOrder + 1] * w[columns - 1];
#pragma unroll
          for (int m = 0; m <= kOrder; ++m) at += pair.value[m] * w[pair.start + m];
          part += at * u[o * kTileRows + thread % kTileRows];
        }
        pair.sum += part;
      });
    }
    group.each([&](int thread) {
      const int64_t r = row + thread % kTileRows, i = in + thread / kTileRows;
      if (r < layer.rows && i < layer.in_features)
        args.z[r * layer.in_features + i] = pairs[thread].sum;
    });
  }

  template <class Group>
  static KAN_HD_INLINE void s_tile(Group& group, const Args& all, const GatherGeometry& g,
                                   int block) {
    const InWeightArgs<T>& args = all.of;
    const LayerArgs<T>& layer = args.layer;
    const int columns = layer.table.num_basis + 1, outputs = g.outputs;
    const int out_tiles = static_cast<int>((layer.out_features + outputs - 1) / outputs);
    const int64_t part = block / (in_tiles(layer) * out_tiles);
    const int64_t in = block / out_tiles % in_tiles(layer) * kTileInputs;
    const int64_t out = block % out_tiles * outputs;
    const int64_t row_begin = part * g.rows;
    const int64_t row_end = row_begin + g.rows < layer.rows ? row_begin + g.rows : layer.rows;
    T* const sum = reinterpret_cast<T*>(group.shared());
    T* const u = sum + static_cast<int64_t>(kTileInputs) * columns * outputs;
    T* const value = u + kStagedRows * outputs;
    int* const start = reinterpret_cast<int*>(value + kTileInputs * kStagedRows * kValues);
    group.each([&](int thread) {
      for (int n = thread; n < kTileInputs * columns * outputs; n += kThreads) sum[n] = T(0);
    });
    for (int64_t row = row_begin; row < row_end; row += kStagedRows) {
      group.each([&](int thread) {
        for (int n = thread; n < kStagedRows * outputs; n += kThreads) {
          const int64_t r = row + n / outputs, o = out + n % outputs;
          u[n] = r < row_end && o < layer.out_features
                     ? args.u[r * args.u_row_stride + o * args.u_col_stride]
                     : T(0);
        }
        for (int n = thread; n < kTileInputs * kStagedRows; n += kThreads) {
          const int64_t r = row + n % kStagedRows, i = in + n / kStagedRows;
          T at[kValues] = {};
          start[n] = r < row_end && i < layer.in_features
                         ? functions_at<kOrder>(layer, r, i, args.derivative_weight, true, at)
                         : 0;
#pragma unroll
          for (int m = 0; m < kValues; ++m) value[n * kValues + m] = at[m];
        }
      });
      group.each([&](int thread) {
        // a thread has an edge of its own: nobody else adds to its sums
        for (int n = thread; n < kTileInputs * outputs; n += kThreads) {
          const int o = n % outputs, i = n / outputs;
          T* const mine = sum + i * columns * outputs + o;
          T base = mine[(columns - 1) * outputs];
          for (int r = 0; r < kStagedRows; ++r) {
            const int pair = i * kStagedRows + r;
            add_to_edge<kOrder>(u[r * outputs + o], start[pair], value + pair * kValues, 1, columns,
                                outputs, mine, base);
          }
          mine[(columns - 1) * outputs] = base;
        }
      });
    }
    group.each([&](int thread) {
      for (int n = thread; n < kTileInputs * outputs; n += kThreads) {
        const int o = n % outputs, i = n / outputs;
        if (out + o >= layer.out_features || in + i >= layer.in_features) continue;
        const T* const mine = sum + i * columns * outputs + o;
        store_edge(all, g, part, out + o, in + i, [&](int c) { return mine[c * outputs]; });
      }
    });
  }
};

// Sums of S over parts of the rows, in their order, and from there to the gradients.
template <class T>
struct UnfoldParts {
  using Args = GatherInWeightArgs<T>;
  static constexpr int kThreads = kGatherThreads;
  static constexpr int kBlocks = sizeof(T) == 4 ? 2 : 1;

  static int64_t blocks(const Args& args, const GatherGeometry&) {
    return (args.of.layer.out_features * args.of.layer.in_features + kThreads - 1) / kThreads;
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    const LayerArgs<T>& layer = args.of.layer;
    const int64_t columns = layer.table.num_basis + 1, outputs = layer.out_features;
    group.each([&](int thread) {
      const int64_t n = group.block() * kThreads + thread;
      if (n >= outputs * layer.in_features) return;
      const int64_t o = n % outputs, i = n / outputs;
      unfold_edge(args.of, o, i, [&](int c) {
        const T* const at = args.partial + (i * columns + c) * outputs + o;
        T sum = at[0];
        for (int64_t part = 1; part < g.row_parts; ++part)
          sum += at[part * layer.in_features * columns * outputs];
        return sum;
      });
    });
  }
};

KAN_NAMESPACE_END
