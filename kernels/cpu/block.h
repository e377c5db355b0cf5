// Sizes of the blocks that a task walks, and the scratch memory that they need.
#pragma once

#include <cstring>

#if defined(__unix__)
#include <unistd.h>
#endif

#include "kan_fast/args.h"
#include "pack.h"
#include "stage.h"
#include "tasks.h"

KAN_NAMESPACE_BEGIN

// registers of the vector unit; decides how many vectors of outputs a tile keeps at once
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

constexpr int clamp_int(int x, int low, int high) { return x < low ? low : (x > high ? high : x); }
inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int round_up(int x, int unit) { return (x + unit - 1) / unit * unit; }

// Hands out pieces of one scratch allocation.
class Bump {
 public:
  explicit Bump(char* base) : base_(base) {}
  template <class P>
  P* take(int64_t count) {
    char* at = base_ + used_;
    used_ += (count * int64_t(sizeof(P)) + 63) / 64 * 64;
    return reinterpret_cast<P*>(at);
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

struct BlockSizes {
  int out_chunk;  // outputs at a time, so that packed weights and a row block of u stay in L2
  int padded;     // the same in whole vectors
  int in_block;   // inputs at a time
  int row_block;  // rows staged at a time
  int capacity;   // stage_capacity(row_block)
};

// A core's L2; 512 KiB, that of the smallest current server cores, where the system does not tell.
inline int64_t level2_bytes() {
  constexpr int64_t kSmallest = 512 << 10;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const int64_t told = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return told > kSmallest ? told : kSmallest;
#else
  return kSmallest;
#endif
}

// Packed weights have three eighths of L2: the more inputs at a time, the longer the runs in which
// the parameters are read. The rest is planned with for the smallest L2.
inline int64_t weight_bytes() { return level2_bytes() / 8 * 3; }
constexpr int64_t kRowBytes = 256 << 10;
constexpr int64_t kStagedBytes = 192 << 10;
constexpr int kMostOutputs = 512;

template <class T, int kBytes>
inline BlockSizes block_sizes(const LayerArgs<T>& layer, int64_t rows, int64_t outputs,
                              int64_t inputs, int weight_copies, bool rows_of_outputs) {
  constexpr int kLanes = Vec<T, kBytes>::kLanes;
  const TableView<T>& table = layer.table;
  BlockSizes size;
  size.out_chunk = static_cast<int>(min64(outputs, kMostOutputs));
  size.padded = round_up(size.out_chunk, kLanes);
  const int64_t row_of_weights =
      int64_t(table.num_basis + 1) * size.padded * sizeof(T) * weight_copies;
  size.in_block = static_cast<int>(
      min64(inputs, clamp_int(static_cast<int>(weight_bytes() / row_of_weights), 1, kMostInputs)));
  // a bucket needs some 50 rows to pay for loading its weight rows and leaving its loop
  int rows_wanted = clamp_int(50 * (table.num_cells - 2 * table.order), 256, kMostRows);
  if (rows_of_outputs)
    rows_wanted =
        clamp_int(static_cast<int>(kRowBytes / (size.padded * sizeof(T))), 64, rows_wanted);
  // blocks of equal size: a short last one would cost as much as a whole one
  int64_t blocks = (rows + rows_wanted / 2) / rows_wanted;
  if (blocks * kMostRows < rows) blocks = (rows + kMostRows - 1) / kMostRows;
  size.row_block = static_cast<int>(blocks > 1 ? (rows + blocks - 1) / blocks : rows);
  size.capacity = stage_capacity(size.row_block);
  // staged values of a block wait for the tiles of outputs in L2
  const int64_t staged = int64_t(size.capacity) * (step_of(table.order + 1) + 1) * sizeof(T);
  if (!rows_of_outputs)
    size.in_block = static_cast<int>(
        min64(size.in_block, kStagedBytes / staged > 4 ? kStagedBytes / staged : 4));
  return size;
}

template <class T>
inline StageScratch<T> take_stage_scratch(Bump& bump, const TableView<T>& table, int capacity) {
  return {bump.take<int>(capacity),
          bump.take<int>(capacity),
          bump.take<int>(table.num_cells + 2),
          bump.take<int>(table.num_cells + 1),
          bump.take<T>(capacity),
          bump.take<T>(capacity),
          bump.take<T>(capacity),
          bump.take<T>(capacity)};
}

// dst[il, r] = src[r, in_begin + il], rows beyond num_rows up to capacity set to zero.
template <class T>
inline void gather_inputs(const T* src, int64_t row_stride, int64_t col_stride, int64_t row_begin,
                          int num_rows, int64_t in_begin, int num_inputs, int capacity,
                          T* dst /* [num_inputs, capacity] */) {
  const T* from = src + row_begin * row_stride + in_begin * col_stride;
  const int whole_rows = col_stride == 1 ? num_rows / 4 * 4 : 0;
  const int whole_inputs = num_inputs / 4 * 4;
  for (int r = 0; r < whole_rows; r += 4) {
    // rows are too far apart for the hardware to see the stream in time
    for (int n = 0; n < 4; ++n) __builtin_prefetch(from + (r + n + 32) * row_stride);
    for (int il = 0; il < whole_inputs; il += 4)
      Quad<T>::load(from + r * row_stride + il, row_stride)
          .transposed()
          .store(dst + int64_t(il) * capacity + r, capacity);
  }
  for (int r = 0; r < num_rows; ++r)
    for (int il = r < whole_rows ? whole_inputs : 0; il < num_inputs; ++il)
      dst[int64_t(il) * capacity + r] = from[r * row_stride + il * col_stride];
  for (int il = 0; il < num_inputs; ++il)
    for (int r = num_rows; r < capacity; ++r) dst[int64_t(il) * capacity + r] = T(0);
}

// The way back: dst[r, il] = src[il, r], or += when it is not the first.
template <class T>
inline void scatter_inputs(const T* src /* [num_inputs, capacity] */, int capacity, int num_rows,
                           int num_inputs, bool first, T* dst, int64_t row_stride) {
  if (first) {
    transpose(src, capacity, num_inputs, num_rows, dst, row_stride);
    return;
  }
  for (int r = 0; r < num_rows; ++r)
    for (int il = 0; il < num_inputs; ++il)
      dst[r * row_stride + il] += src[int64_t(il) * capacity + r];
}

KAN_NAMESPACE_END
