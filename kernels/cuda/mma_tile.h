// What forwards on tensor cores share: a block's tile of y, held by four warps of 32 rows and 32
// outputs each.
#pragma once

#include "gather.h"
#include "mma.h"

KAN_NAMESPACE_BEGIN

constexpr int kMmaThreads = 128;
constexpr int kMmaRows = 64, kMmaOutputs = 64;
// columns of a chunk, of as many inputs as they have room for
constexpr int kMmaColumns = 64;
// fragments of a warp
constexpr int kWarpRows = 2, kWarpOutputs = 4;

// A thread's share of the tile, and of what a chunk adds to it: rounding errors grow with the
// number of chunks, not of columns.
struct MmaSums {
  float sum[kWarpRows][kWarpOutputs][4];
  float part[kWarpRows][kWarpOutputs][4];

  KAN_HD_INLINE void add_part() {
#pragma unroll
    for (int m = 0; m < kWarpRows; ++m)
#pragma unroll
      for (int n = 0; n < kWarpOutputs; ++n)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          sum[m][n][c] += part[m][n][c];
          part[m][n][c] = 0;
        }
  }
};

// First row and output of a thread's fragments.
KAN_HD int mma_row(int thread, int m) { return thread / kWarp / 2 * 32 + m * 16; }
KAN_HD int mma_output(int thread, int n) { return thread / kWarp % 2 * 32 + n * 8; }

// Where a block's tile is.
struct MmaPlace {
  int64_t row, out;
};

inline int64_t mma_blocks(int64_t rows, int64_t out_features) {
  return (rows + kMmaRows - 1) / kMmaRows * ((out_features + kMmaOutputs - 1) / kMmaOutputs);
}

KAN_HD MmaPlace mma_place(int block, int64_t out_features) {
  const int tiles = static_cast<int>((out_features + kMmaOutputs - 1) / kMmaOutputs);
  return {static_cast<int64_t>(block / tiles) * kMmaRows,
          static_cast<int64_t>(block % tiles) * kMmaOutputs};
}

KAN_HD_INLINE void store_tile(const OutArgs<float>& args, const MmaPlace& place, int thread,
                              const MmaSums& sums) {
  const LayerArgs<float>& layer = args.layer;
  const int lane = thread % kWarp;
#pragma unroll
  for (int m = 0; m < kWarpRows; ++m)
#pragma unroll
    for (int n = 0; n < kWarpOutputs; ++n)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int64_t r = place.row + mma_row(thread, m) + mma_c_row(lane, c);
        const int64_t o = place.out + mma_output(thread, n) + mma_c_column(lane, c);
        if (r < layer.rows && o < layer.out_features)
          args.y[r * layer.out_features + o] = sums.sum[m][n][c];
      }
}

KAN_NAMESPACE_END
