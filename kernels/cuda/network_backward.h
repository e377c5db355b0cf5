// A whole small network backward in one launch: sums of the gradients of weights stay in shared
// memory, too. The last block adds up those of all, or a second launch where they are many.
#pragma once

#include "network.h"

KAN_NAMESPACE_BEGIN

template <class T>
KAN_HD int64_t network_edges(const LayerArgs<T>& layer) {
  return layer.in_features * layer.out_features;
}
template <class T>
KAN_HD int64_t network_edges(const NetworkArgs<T>& args) {
  int64_t count = 0;
  for (int n = 0; n < args.num_layers; ++n) count += network_edges(args.of[n].layer);
  return count;
}

// Sums of S of an edge of any layer over blocks, in their order, and from there to its gradients.
template <class T>
KAN_HD_INLINE void unfold_network(const NetworkArgs<T>& args, int64_t blocks, int64_t edge) {
  int n = 0;
  for (; n < args.num_layers && edge >= network_edges(args.of[n].layer); ++n)
    edge -= network_edges(args.of[n].layer);
  if (n == args.num_layers) return;
  const LayerArgs<T>& layer = args.of[n].layer;
  const int numbers = network_numbers(args), stride = network_stride(layer);
  const int columns = layer.table.num_basis + 1;
  const int64_t o = edge % layer.out_features, i = edge / layer.out_features;
  const T* const at = args.partial + network_offset(args, n) + i * columns * stride + o;
  unfold_edge(args.of[n], o, i, [&](int c) {
    T sum = 0;
    for (int64_t block = 0; block < blocks; ++block) sum += at[block * numbers + c * stride];
    return sum;
  });
}

// Whether the block that is last adds up the sums of all: more than so many take longer than the
// launch that it saves.
constexpr int64_t kFewSums = 1 << 16;
template <class T>
KAN_HD bool network_sums_itself(const NetworkArgs<T>& args, int64_t blocks) {
  return args.arrived != nullptr && blocks * network_numbers(args) <= kFewSums;
}

// A block's sums to memory, and if it is the last and all are few, from there to the gradients.
template <class Group, class T>
KAN_HD_INLINE void store_network_sums(Group& group, const NetworkArgs<T>& args, const T* sum,
                                      int64_t blocks) {
  const int numbers = network_numbers(args);
  group.each([&](int thread) {
    for (int k = thread; k < numbers; k += kNetworkThreads)
      args.partial[static_cast<int64_t>(group.block()) * numbers + k] = sum[k];
  });
  if (!network_sums_itself(args, blocks)) return;
  if (!group.last_of(static_cast<int>(blocks), args.arrived)) return;
  group.each([&](int thread) {
    for (int64_t edge = thread; edge < network_edges(args); edge += kNetworkThreads)
      unfold_network(args, blocks, edge);
  });
}

// Shared memory: weight, sum (as weight), cotangents [2, kMostWidth, kRowStride], value of
// derivative 0 and 1 [2, kNetworkInputs, order + 2, kNetworkRows], start [kNetworkInputs,
// kNetworkRows]
template <int kOrder, class T>
struct NetworkBackward {
  using Args = NetworkArgs<T>;
  static constexpr int kThreads = kNetworkThreads;
  static constexpr int kBlocks = 1;
  static constexpr int kValues = kOrder + 2;
  static constexpr int kFunctions = kNetworkInputs * kValues * kNetworkRows;

  static int64_t shared_bytes(const Args& args) {
    return sizeof(T) * (2 * network_numbers(args) + 2 * kMostWidth * kRowStride + 2 * kFunctions) +
           sizeof(int) * kNetworkInputs * kNetworkRows;
  }
  static int64_t blocks(const Args&, const GatherGeometry& g) { return g.row_parts; }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    const int numbers = network_numbers(args), last = args.num_layers - 1;
    T* const weight = reinterpret_cast<T*>(group.shared());
    T* const sum = weight + numbers;
    T* const cotangent = sum + numbers;
    T* const value = cotangent + 2 * kMostWidth * kRowStride;
    T* const slope = value + kFunctions;
    int* const start = reinterpret_cast<int*>(slope + kFunctions);
    const int64_t rows = args.of[0].layer.rows;
    stage_network(group, args, weight);
    group.each([&](int thread) {
      for (int k = thread; k < numbers; k += kThreads) sum[k] = T(0);
    });
    for (int64_t tile = group.block(); tile < network_tiles(args); tile += g.row_parts) {
      const int64_t row = tile * kNetworkRows;
      group.each([&](int thread) {
        const InWeightArgs<T>& of = args.of[last];
        const int r = thread % kNetworkRows;
        T* const u = cotangent + last % 2 * kMostWidth * kRowStride;
        for (int o = thread / kNetworkRows; o < of.layer.out_features; o += kThreads / kNetworkRows)
          u[o * kRowStride + r] =
              row + r < rows ? of.u[(row + r) * of.u_row_stride + o * of.u_col_stride] : T(0);
      });
      for (int n = last; n >= 0; --n) {
        const LayerArgs<T>& layer = args.of[n].layer;
        const int columns = layer.table.num_basis + 1, stride = network_stride(layer);
        const int outputs = static_cast<int>(layer.out_features);
        const int offset = network_offset(args, n);
        const T* const u = cotangent + n % 2 * kMostWidth * kRowStride;
        T* const z = cotangent + (n + 1) % 2 * kMostWidth * kRowStride;
        for (int in = 0; in < layer.in_features; in += kNetworkInputs) {
          const int inputs = network_inputs(layer, in);
          group.each([&](int thread) {
            for (int k = thread; k < inputs * kNetworkRows; k += kThreads) {
              const int r = k % kNetworkRows, i = k / kNetworkRows;
              T at[kValues] = {}, rising[kValues] = {};
              int first = 0;
              if (row + r < rows) {
                const T x = input_at(layer, row + r, in + i);
                first = functions_of<kOrder>(layer, in + i, x, 0, at);
                functions_of<kOrder>(layer, in + i, x, 1, rising);
              }
              start[k] = first;
#pragma unroll
              for (int m = 0; m < kValues; ++m) {
                value[(i * kValues + m) * kNetworkRows + r] = at[m];
                slope[(i * kValues + m) * kNetworkRows + r] = rising[m];
              }
            }
          });
          group.each([&](int thread) {
            const int r = thread % kNetworkRows;
            for (int i = thread / kNetworkRows; i < inputs; i += kThreads / kNetworkRows) {
              const int first = start[i * kNetworkRows + r];
              const T* const base = weight + offset + ((in + i) * columns + columns - 1) * stride;
              const T* const window =
                  weight + offset + ((in + i) * columns + (first < 0 ? 0 : first)) * stride;
              T at[kValues], total = 0;
#pragma unroll
              for (int m = 0; m < kValues; ++m) at[m] = slope[(i * kValues + m) * kNetworkRows + r];
              for (int o = 0; o < outputs; ++o) {
                T edge = at[kOrder + 1] * base[o];
#pragma unroll
                for (int m = 0; m <= kOrder; ++m) edge += at[m] * window[m * stride + o];
                total += edge * u[o * kRowStride + r];
              }
              z[(in + i) * kRowStride + r] = total;
            }
            // a thread has an edge of its own: nobody else adds to its sums
            for (int k = thread; k < inputs * outputs; k += kThreads) {
              const int o = k % outputs, i = k / outputs;
              T* const mine = sum + offset + (in + i) * columns * stride + o;
              T base = mine[(columns - 1) * stride];
              for (int at = 0; at < kNetworkRows; ++at)
                add_to_edge<kOrder>(u[o * kRowStride + at], start[i * kNetworkRows + at],
                                    value + i * kValues * kNetworkRows + at, kNetworkRows, columns,
                                    stride, mine, base);
              mine[(columns - 1) * stride] = base;
            }
          });
        }
      }
      group.each([&](int thread) {
        const InWeightArgs<T>& of = args.of[0];
        const int r = thread % kNetworkRows;
        if (of.z == nullptr || row + r >= rows) return;
        const T* const z = cotangent + kMostWidth * kRowStride;
        for (int i = thread / kNetworkRows; i < of.layer.in_features; i += kThreads / kNetworkRows)
          of.z[(row + r) * of.layer.in_features + i] = z[i * kRowStride + r];
      });
    }
    store_network_sums(group, args, sum, g.row_parts);
  }
};

// Sums over blocks by a launch of its own.
template <class T>
struct UnfoldNetwork {
  using Args = NetworkArgs<T>;
  static constexpr int kThreads = kNetworkThreads;
  static constexpr int kBlocks = 1;

  static int64_t blocks(const Args& args, const GatherGeometry&) {
    return (network_edges(args) + kThreads - 1) / kThreads;
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    group.each([&](int thread) {
      unfold_network(args, g.row_parts, static_cast<int64_t>(group.block()) * kThreads + thread);
    });
  }
};

KAN_NAMESPACE_END
