// What an instruction-set build offers to the entry points: tasks that one thread runs to the end.
#pragma once

#include <cstddef>

#include "full.h"
#include "gram.h"
#include "kan_fast/args.h"

namespace kan_fast {

// One thread's share of `out`: a rectangle of rows and outputs.
template <class T>
struct OutTask {
  const OutArgs<T>* args;
  int64_t row_begin, row_end;
  int64_t out_begin, out_end;
};

// One thread's share of `in` + `weight`: a rectangle of rows and inputs.
template <class T>
struct InWeightTask {
  const InWeightArgs<T>* args;
  int64_t row_begin, row_end;
  int64_t in_begin, in_end;
  // where the rows are split over tasks, the packed S of this share [inputs, num_basis + 1, out],
  // to be added up in order by `unfold`; null when this task sees all rows
  T* partial;
};

// Adds up the partial S of `num_partials` row shares in order and unfolds it to the parameters.
template <class T>
struct UnfoldTask {
  const InWeightArgs<T>* args;
  int64_t in_begin, in_end;
  const T* const* partials;
  int num_partials;
};

// Grow-only memory of the calling thread, aligned to 64 bytes; null when the system has none left.
// Tasks take the first; what the threads of a call share is in the second of the one that calls.
void* thread_scratch(size_t bytes, int which = 0);

// Rows and inputs of a task of a full basis.
struct FullShare {
  int64_t row_begin, row_end, in_begin, in_end;
};

// Where a task's sums go; null where not wanted.
template <class T>
struct FullSums {
  T* weight;  // S, as the weights
  T* norm;    // as FullGradients::grad_norm
  T* rows;    // [2, stride], sums over the share's inputs that the gradient of x needs
  int64_t stride;
};

// The kernels of one instruction set.
template <class T>
struct KernelSet {
  int vector_bytes;
  bool (*out)(const OutTask<T>&);
  bool (*in_weight)(const InWeightTask<T>&);
  bool (*unfold)(const UnfoldTask<T>&);
  bool (*few_rows)(const OutTask<T>&);
  // `offset` has room for the knots of both grids and 3 more
  void (*gram)(const GramArgs<T>&, int64_t input, int* offset);
  // rows of a tile of the full bases
  int full_rows;
  // [count, inputs] as [inputs, to_stride], with zeros up to the next whole tile
  void (*full_columns)(const T* from, int64_t row_stride, int64_t col_stride, int64_t count,
                       int64_t inputs, T* to, int64_t to_stride);
  bool (*full_out)(const FullOutArgs<T>&, int64_t row_begin, int64_t row_end);
  // `u` is [out_features, u_stride], made by full_columns
  bool (*full_in_weight)(const FullGradients<T>&, const T* u, int64_t u_stride, const FullShare&,
                         const FullSums<T>&);
  // completes z of normalised inputs; `rows` are the sums of as many parts of the inputs
  void (*full_norm_input)(const FullGradients<T>&, const FullShare&, const T* rows, int64_t parts,
                          int64_t stride);
};

// Those of the instruction set in use.
template <class T>
const KernelSet<T>& current_kernels();

template <class T>
const KernelSet<T>& baseline_kernels();
template <class T>
const KernelSet<T>& avx2_kernels();
template <class T>
const KernelSet<T>& avx512_kernels();

}  // namespace kan_fast
