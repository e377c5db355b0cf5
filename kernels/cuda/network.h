// A whole small network forward in one launch: weights and the activations of a tile of rows stay
// in shared memory.
#pragma once

#include "gather_in_weight.h"
#include "network_args.h"

KAN_NAMESPACE_BEGIN

constexpr int kMostWidth = 64;
constexpr int kNetworkThreads = 128;
constexpr int kNetworkRows = 32;
// a number more: threads next to each other read rows in one place and outputs in another
constexpr int kRowStride = kNetworkRows + 1;
// inputs whose functions are kept at a time
constexpr int kNetworkInputs = 8;
// outputs of a thread, which has one row
constexpr int kNetworkOutputs = kNetworkRows * kMostWidth / kNetworkThreads;

template <class T>
KAN_HD int network_stride(const LayerArgs<T>& layer) {
  // odd: windows of different rows are in different banks
  return static_cast<int>(layer.out_features) | 1;
}

// Where the weights of a layer begin among those of all, [in, num_basis + 1, network_stride].
template <class T>
KAN_HD int network_offset(const NetworkArgs<T>& args, int layer) {
  int offset = 0;
  for (int n = 0; n < layer; ++n)
    offset += static_cast<int>(args.of[n].layer.in_features) *
              (args.of[n].layer.table.num_basis + 1) * network_stride(args.of[n].layer);
  return offset;
}

template <class T>
KAN_HD int network_numbers(const NetworkArgs<T>& args) {
  return network_offset(args, args.num_layers);
}

template <class T>
KAN_HD int64_t network_tiles(const NetworkArgs<T>& args) {
  return (args.of[0].layer.rows + kNetworkRows - 1) / kNetworkRows;
}

// Inputs of a chunk that begins at `in`.
template <class T>
KAN_HD int network_inputs(const LayerArgs<T>& layer, int in) {
  const int left = static_cast<int>(layer.in_features) - in;
  return left < kNetworkInputs ? left : kNetworkInputs;
}

template <class Group, class T>
KAN_HD_INLINE void stage_network(Group& group, const NetworkArgs<T>& args, T* weight) {
  group.each([&](int thread) {
    for (int n = 0; n < args.num_layers; ++n) {
      const LayerArgs<T>& layer = args.of[n].layer;
      const int columns = layer.table.num_basis + 1, inputs = static_cast<int>(layer.in_features);
      const int outputs = static_cast<int>(layer.out_features), stride = network_stride(layer);
      T* const to = weight + network_offset(args, n);
      for (int k = thread; k < inputs * columns * outputs; k += kNetworkThreads) {
        const int c = k % columns, i = k / columns % inputs, o = k / columns / inputs;
        to[(i * columns + c) * stride + o] = weight_at(layer, o, i, c);
      }
    }
  });
}

// Shared memory: weight, activations [2, kMostWidth, kRowStride], value [kNetworkInputs,
// order + 2, kNetworkRows], start [kNetworkInputs, kNetworkRows]
template <int kOrder, class T>
struct NetworkForward {
  using Args = NetworkArgs<T>;
  static constexpr int kThreads = kNetworkThreads;
  static constexpr int kBlocks = 1;
  static constexpr int kValues = kOrder + 2;
  struct Sums {
    T sum[kNetworkOutputs];
  };

  static int64_t shared_bytes(const Args& args) {
    return sizeof(T) * (network_numbers(args) + 2 * kMostWidth * kRowStride +
                        kNetworkInputs * kValues * kNetworkRows) +
           sizeof(int) * kNetworkInputs * kNetworkRows;
  }
  static int64_t blocks(const Args&, const GatherGeometry& g) { return g.row_parts; }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    T* const weight = reinterpret_cast<T*>(group.shared());
    T* const activation = weight + network_numbers(args);
    T* const value = activation + 2 * kMostWidth * kRowStride;
    int* const start = reinterpret_cast<int*>(value + kNetworkInputs * kValues * kNetworkRows);
    const int64_t rows = args.of[0].layer.rows;
    group.each_alone([&](int thread) {
      if (group.block() == 0 && thread == 0 && args.arrived != nullptr) *args.arrived = 0;
    });
    stage_network(group, args, weight);
    typename Group::template PerThread<Sums> sums(group);
    for (int64_t tile = group.block(); tile < network_tiles(args); tile += g.row_parts) {
      const int64_t row = tile * kNetworkRows;
      group.each([&](int thread) {
        const LayerArgs<T>& first = args.of[0].layer;
        const int r = thread % kNetworkRows;
        for (int i = thread / kNetworkRows; i < first.in_features; i += kThreads / kNetworkRows)
          activation[i * kRowStride + r] = row + r < rows ? input_at(first, row + r, i) : T(0);
      });
      for (int n = 0; n < args.num_layers; ++n) {
        const LayerArgs<T>& layer = args.of[n].layer;
        const int columns = layer.table.num_basis + 1, stride = network_stride(layer);
        const T* const of_layer = weight + network_offset(args, n);
        const T* const x = activation + n % 2 * kMostWidth * kRowStride;
        T* const y = activation + (n + 1) % 2 * kMostWidth * kRowStride;
        for (int in = 0; in < layer.in_features; in += kNetworkInputs) {
          const int inputs = network_inputs(layer, in);
          group.each([&](int thread) {
            for (int k = thread; k < inputs * kNetworkRows; k += kThreads) {
              const int r = k % kNetworkRows, i = k / kNetworkRows;
              T at[kValues];
              const int first =
                  functions_of<kOrder>(layer, in + i, x[(in + i) * kRowStride + r], 0, at);
              start[k] = first < 0 ? 0 : first;
#pragma unroll
              for (int m = 0; m < kValues; ++m) value[(i * kValues + m) * kNetworkRows + r] = at[m];
            }
          });
          group.each([&](int thread) {
            const int r = thread % kNetworkRows;
            for (int i = 0; i < inputs; ++i) {
              const T* const window =
                  of_layer + ((in + i) * columns + start[i * kNetworkRows + r]) * stride;
              const T* const base = of_layer + ((in + i) * columns + columns - 1) * stride;
              T at[kValues];
#pragma unroll
              for (int m = 0; m < kValues; ++m) at[m] = value[(i * kValues + m) * kNetworkRows + r];
#pragma unroll
              for (int k = 0; k < kNetworkOutputs; ++k) {
                const int o = thread / kNetworkRows + k * (kThreads / kNetworkRows);
                if (o >= layer.out_features) continue;
                T sum = at[kOrder + 1] * base[o];
#pragma unroll
                for (int m = 0; m <= kOrder; ++m) sum += at[m] * window[m * stride + o];
                sums[thread].sum[k] += sum;
              }
            }
          });
        }
        group.each([&](int thread) {
          const int r = thread % kNetworkRows;
#pragma unroll
          for (int k = 0; k < kNetworkOutputs; ++k) {
            const int o = thread / kNetworkRows + k * (kThreads / kNetworkRows);
            if (o < layer.out_features) {
              y[o * kRowStride + r] = sums[thread].sum[k];
              if (row + r < rows)
                args.y[n][(row + r) * layer.out_features + o] = sums[thread].sum[k];
            }
            sums[thread].sum[k] = T(0);
          }
        });
      }
    }
  }
};

KAN_NAMESPACE_END
