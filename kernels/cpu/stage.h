// Staging: the rows of a block sorted by cell, with the values of their active functions.
//
// Inside a bucket all rows share a cell, hence knots, polynomial coefficients and weight rows: the
// basis needs no gather and no division, and the contractions keep weights or gradients in
// registers.
#pragma once

#include "kan_fast/args.h"
#include "simd.h"

KAN_NAMESPACE_BEGIN

struct Bucket {
  int begin, end;  // places in the sorted order
  int start;       // first active function, hence first weight row
};

constexpr int kMostRows = 1024;
// num_rows rounded up, plus one vector: tails may be written whole
inline int stage_capacity(int num_rows) { return (num_rows + 15) / 16 * 16 + 64; }

// Numbers between the values of two rows: those of the window and the base, in whole quads.
constexpr int step_of(int window) { return (window + 4) / 4 * 4; }

// One input of a row block. The values of a row are neighbours, [capacity, step]: the active
// functions, then the base.
template <class T>
struct Stage {
  int window;  // active functions of a row
  int num_rows;
  int num_buckets;
  bool poisoned;     // a row is NaN or infinite
  int* permutation;  // [capacity] row of each place in the sorted order
  Bucket* buckets;   // [num_cells + 1]
  T* values;         // times v
  T* values_in;      // for the contraction over outputs; may be null
};

// Scratch for staging one input at a time.
template <class T>
struct StageScratch {
  int* cell;         // [capacity]
  int* spare;        // [capacity]
  int* offset;       // [num_cells + 2]
  int* bucket_cell;  // [num_cells + 1]
  T* x_sorted;       // [capacity]
  T* v_sorted;       // [capacity]
  T* base;           // [capacity]
  T* base_in;        // [capacity]
};

// Sorts the rows of one input by cell (stable, so results are reproducible) and fills `stage`.
//
// Vectors are the widest there are, whatever the contractions use: rows are many. A unit of its own
// (isa/stage.cpp), which all contractions call.
//
// x and v are [capacity]; what lies beyond num_rows must be readable.
template <class T, int kWindow>
void stage_input(const LayerArgs<T>& layer, int64_t input, const T* x, const T* v, int derivative,
                 int derivative_in, const StageScratch<T>& scratch, Stage<T>& stage);

KAN_NAMESPACE_END
