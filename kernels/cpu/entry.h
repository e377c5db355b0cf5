// Entry points of the CPU kernels: choose the instruction set, split the work over threads.
#pragma once

#include "kan_fast/args.h"

namespace kan_fast {

enum class Status : int { kOk = 0, kOutOfMemory = 1 };

// The contractions take a table view that outlives the call, and run in the OpenMP pool of the
// process.
template <class T>
Status contract_out(const OutArgs<T>& args);
template <class T>
Status contract_in_weight(const InWeightArgs<T>& args);

// Instruction set in use: "baseline", "avx2" or "avx512".
const char* active_isa();
// Chooses another one; false when this CPU or build lacks it. The environment variable KAN_FAST_ISA
// does the same at first use.
bool set_isa(const char* name);
// Threads that the next call may use.
int max_threads();
// How many of them work of so many cycles should wake.
int useful_threads(double cost);

}  // namespace kan_fast
