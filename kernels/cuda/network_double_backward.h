// The backward of a small network's backward in one launch (docs/math.md, eq. 16): tangents t are
// carried forwards through the layers, and the cotangents g of tangents and p of inputs back.
#pragma once

#include "network_backward.h"

KAN_NAMESPACE_BEGIN

// Numbers of a row that a layer or its neighbour has at most.
template <class T>
KAN_HD int network_width(const NetworkArgs<T>& args) {
  int width = 0;
  for (int n = 0; n < args.num_layers; ++n) {
    const LayerArgs<T>& layer = args.of[n].layer;
    width = width > layer.in_features ? width : static_cast<int>(layer.in_features);
    width = width > layer.out_features ? width : static_cast<int>(layer.out_features);
  }
  return width;
}

// Shared memory: weight, sum (as weight), tangents [num_layers + 1, width, kRowStride], cotangents
// of tangents and of inputs [2, 2, width, kRowStride], functions of derivative 0 to 2
// [3, kNetworkInputs, order + 2, kNetworkRows], start [kNetworkInputs, kNetworkRows]
template <int kOrder, class T>
struct NetworkDoubleBackward {
  using Args = NetworkArgs<T>;
  static constexpr int kThreads = kNetworkThreads;
  static constexpr int kBlocks = 1;
  static constexpr int kValues = kOrder + 2;
  static constexpr int kFunctions = kNetworkInputs * kValues * kNetworkRows;
  static constexpr int kStep = kThreads / kNetworkRows;
  struct Sums {
    T sum[kNetworkOutputs];
  };

  static int64_t shared_bytes(const Args& args) {
    const int64_t of_rows = int64_t{args.num_layers + 5} * network_width(args) * kRowStride;
    return sizeof(T) * (2 * network_numbers(args) + of_rows + 3 * kFunctions) +
           sizeof(int) * kNetworkInputs * kNetworkRows;
  }
  static int64_t blocks(const Args&, const GatherGeometry& g) { return g.row_parts; }

  // What all sweeps use of shared memory.
  struct Memory {
    T *weight, *sum, *tangent, *of_tangent, *of_input, *functions;
    int* start;
    int plane;  // numbers of a layer's rows

    KAN_HD Memory(const Args& args, unsigned char* shared) {
      const int numbers = network_numbers(args);
      plane = network_width(args) * kRowStride;
      weight = reinterpret_cast<T*>(shared);
      sum = weight + numbers;
      tangent = sum + numbers;
      of_tangent = tangent + (args.num_layers + 1) * plane;
      of_input = of_tangent + 2 * plane;
      functions = of_input + 2 * plane;
      start = reinterpret_cast<int*>(functions + 3 * kFunctions);
    }
    // of input i of a chunk, [kValues] with kNetworkRows between them
    KAN_HD T* function(int derivative, int i, int r) const {
      return functions + derivative * kFunctions + i * kValues * kNetworkRows + r;
    }
  };

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry& g) {
    const Memory memory(args, group.shared());
    const int numbers = network_numbers(args);
    stage_network(group, args, memory.weight);
    group.each([&](int thread) {
      for (int k = thread; k < numbers; k += kThreads) memory.sum[k] = T(0);
    });
    typename Group::template PerThread<Sums> sums(group);
    for (int64_t tile = group.block(); tile < network_tiles(args); tile += g.row_parts) {
      const int64_t row = tile * kNetworkRows;
      begin(group, args, memory, row);
      for (int n = 0; n < args.num_layers; ++n) forwards(group, args, memory, sums, n, row);
      for (int n = args.num_layers - 1; n >= 0; --n) backwards(group, args, memory, n, row);
      end(group, args, memory, row);
    }
    store_network_sums(group, args, memory.sum, g.row_parts);
  }

 private:
  // t of x, and u and zeros as cotangents of the last layer's tangents and outputs.
  template <class Group>
  static KAN_HD_INLINE void begin(Group& group, const Args& args, const Memory& memory,
                                  int64_t row) {
    group.each([&](int thread) {
      const int r = thread % kNetworkRows, last = args.num_layers - 1;
      const InWeightArgs<T>& of = args.of[last];
      const bool inside = row + r < of.layer.rows;
      for (int i = thread / kNetworkRows; i < args.of[0].layer.in_features; i += kStep)
        memory.tangent[i * kRowStride + r] =
            inside ? args.t[(row + r) * args.t_row_stride + i * args.t_col_stride] : T(0);
      for (int o = thread / kNetworkRows; o < of.layer.out_features; o += kStep) {
        const int at = last % 2 * memory.plane + o * kRowStride + r;
        memory.of_tangent[at] =
            inside ? of.u[(row + r) * of.u_row_stride + o * of.u_col_stride] : T(0);
        memory.of_input[at] = T(0);
      }
    });
  }

  // Functions of the inputs of a chunk, of `first` to `last` derivative.
  static KAN_HD_INLINE void stage(const LayerArgs<T>& layer, const Memory& memory, int64_t row,
                                  int in, int inputs, int first, int last, int thread) {
    for (int k = thread; k < inputs * kNetworkRows; k += kThreads) {
      const int r = k % kNetworkRows, i = k / kNetworkRows;
      for (int derivative = first; derivative <= last; ++derivative) {
        T at[kValues] = {};
        int start = 0;
        if (row + r < layer.rows)
          start =
              functions_of<kOrder>(layer, in + i, input_at(layer, row + r, in + i), derivative, at);
        memory.start[k] = start;
        T* const to = memory.function(derivative, i, r);
#pragma unroll
        for (int m = 0; m < kValues; ++m) to[m * kNetworkRows] = at[m];
      }
    }
  }

  // An edge's weights times functions, from the window's and the base's weight on.
  static KAN_HD_INLINE T edge(const T* window, const T* base, int stride, const T (&at)[kValues]) {
    T sum = at[kOrder + 1] * *base;
#pragma unroll
    for (int m = 0; m <= kOrder; ++m) sum += at[m] * window[m * stride];
    return sum;
  }

  template <class Group, class States>
  static KAN_HD_INLINE void forwards(Group& group, const Args& args, const Memory& memory,
                                     States& sums, int n, int64_t row) {
    const LayerArgs<T>& layer = args.of[n].layer;
    const int columns = layer.table.num_basis + 1, stride = network_stride(layer);
    const T* const of_layer = memory.weight + network_offset(args, n);
    const T* const t = memory.tangent + n * memory.plane;
    T* const next = memory.tangent + (n + 1) * memory.plane;
    for (int in = 0; in < layer.in_features; in += kNetworkInputs) {
      const int inputs = network_inputs(layer, in);
      group.each([&](int thread) { stage(layer, memory, row, in, inputs, 1, 1, thread); });
      group.each([&](int thread) {
        const int r = thread % kNetworkRows;
        for (int i = 0; i < inputs; ++i) {
          const int start = memory.start[i * kNetworkRows + r];
          const T* const of_input = of_layer + (in + i) * columns * stride;
          T at[kValues];
#pragma unroll
          for (int m = 0; m < kValues; ++m)
            at[m] = memory.function(1, i, r)[m * kNetworkRows] * t[(in + i) * kRowStride + r];
#pragma unroll
          for (int k = 0; k < kNetworkOutputs; ++k) {
            const int o = thread / kNetworkRows + k * kStep;
            if (o >= layer.out_features) continue;
            sums[thread].sum[k] += edge(of_input + (start < 0 ? 0 : start) * stride + o,
                                        of_input + (columns - 1) * stride + o, stride, at);
          }
        }
      });
    }
    group.each([&](int thread) {
      const int r = thread % kNetworkRows;
#pragma unroll
      for (int k = 0; k < kNetworkOutputs; ++k) {
        const int o = thread / kNetworkRows + k * kStep;
        if (o < layer.out_features) next[o * kRowStride + r] = sums[thread].sum[k];
        sums[thread].sum[k] = T(0);
      }
    });
  }

  template <class Group>
  static KAN_HD_INLINE void backwards(Group& group, const Args& args, const Memory& memory, int n,
                                      int64_t row) {
    const LayerArgs<T>& layer = args.of[n].layer;
    const int columns = layer.table.num_basis + 1, stride = network_stride(layer);
    const int outputs = static_cast<int>(layer.out_features), offset = network_offset(args, n);
    const T* const t = memory.tangent + n * memory.plane;
    const T *const g = memory.of_tangent + n % 2 * memory.plane, *const p = memory.of_input +
                                                                            n % 2 * memory.plane;
    T *const g_below = memory.of_tangent + (n + 1) % 2 * memory.plane, *const p_below =
                                                                           memory.of_input +
                                                                           (n + 1) % 2 *
                                                                               memory.plane;
    for (int in = 0; in < layer.in_features; in += kNetworkInputs) {
      const int inputs = network_inputs(layer, in);
      group.each([&](int thread) { stage(layer, memory, row, in, inputs, 0, 2, thread); });
      group.each([&](int thread) {
        const int r = thread % kNetworkRows;
        for (int i = thread / kNetworkRows; i < inputs; i += kStep) {
          const int start = memory.start[i * kNetworkRows + r];
          const T* const of_input = memory.weight + offset + (in + i) * columns * stride;
          const T* const window = of_input + (start < 0 ? 0 : start) * stride;
          const T* const base = of_input + (columns - 1) * stride;
          T slope[kValues], curve[kValues], of_tangent = 0, of_input_sum = 0;
#pragma unroll
          for (int m = 0; m < kValues; ++m) {
            slope[m] = memory.function(1, i, r)[m * kNetworkRows];
            curve[m] = memory.function(2, i, r)[m * kNetworkRows] * t[(in + i) * kRowStride + r];
          }
          for (int o = 0; o < outputs; ++o) {
            const T rising = edge(window + o, base + o, stride, slope);
            const T bending = edge(window + o, base + o, stride, curve);
            of_tangent += g[o * kRowStride + r] * rising;
            of_input_sum += p[o * kRowStride + r] * rising + g[o * kRowStride + r] * bending;
          }
          g_below[(in + i) * kRowStride + r] = of_tangent;
          p_below[(in + i) * kRowStride + r] = of_input_sum;
        }
        // a thread has an edge of its own: nobody else adds to its sums
        for (int k = thread; k < inputs * outputs; k += kThreads) {
          const int o = k % outputs, i = k / outputs;
          T* const mine = memory.sum + offset + (in + i) * columns * stride + o;
          T base = mine[(columns - 1) * stride];
          for (int at = 0; at < kNetworkRows; ++at) {
            const int start = memory.start[i * kNetworkRows + at];
            add_to_edge<kOrder>(p[o * kRowStride + at], start, memory.function(0, i, at),
                                kNetworkRows, columns, stride, mine, base);
            add_to_edge<kOrder>(g[o * kRowStride + at] * t[(in + i) * kRowStride + at], start,
                                memory.function(1, i, at), kNetworkRows, columns, stride, mine,
                                base);
          }
          mine[(columns - 1) * stride] = base;
        }
      });
    }
  }

  // The gradients of u and of x.
  template <class Group>
  static KAN_HD_INLINE void end(Group& group, const Args& args, const Memory& memory, int64_t row) {
    group.each([&](int thread) {
      const int r = thread % kNetworkRows;
      const LayerArgs<T>&first = args.of[0].layer, &last = args.of[args.num_layers - 1].layer;
      if (row + r >= first.rows) return;
      const T* const t = memory.tangent + args.num_layers * memory.plane;
      const T* const p = memory.of_input + memory.plane;
      if (args.grad_u != nullptr)
        for (int o = thread / kNetworkRows; o < last.out_features; o += kStep)
          args.grad_u[(row + r) * last.out_features + o] = t[o * kRowStride + r];
      if (args.of[0].z != nullptr)
        for (int i = thread / kNetworkRows; i < first.in_features; i += kStep)
          args.of[0].z[(row + r) * first.in_features + i] = p[i * kRowStride + r];
    });
  }
};

KAN_NAMESPACE_END
