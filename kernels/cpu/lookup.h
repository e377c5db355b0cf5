// Tables of a few numbers looked up by a whole vector of indices, inside registers.
#pragma once

#include "simd.h"

KAN_NAMESPACE_BEGIN

// Numbers that one permute instruction can look up; 0 where there is none for this type and vector.
// clang has no shuffle by a variable: built with it, layers take the kernels that sort.
template <class T, int kBytes>
constexpr int lookup_lanes() {
#if defined(__AVX512F__) && !defined(__clang__)
  if (kBytes == 64) return kBytes / sizeof(T);
#elif defined(__AVX2__) && !defined(__clang__)
  if (kBytes == 32 && sizeof(T) == 4) return kBytes / sizeof(T);
#endif
  return 0;
}

// A table of kTables vectors (1 or 2) held in registers. Indices below kTables * lanes.
template <class T, int kBytes, int kTables>
struct Lookup {
  using X = Vec<T, kBytes>;
  typename X::V part[kTables];

  explicit KAN_INLINE Lookup(const T* table) {
    for (int n = 0; n < kTables; ++n) part[n] = X::load(table + n * X::kLanes);
  }

  KAN_INLINE typename X::V operator[](typename X::I index) const {
#if defined(__clang__)
    return index == 0 ? part[0] : part[kTables - 1];  // never called, see lookup_lanes
#else
    if constexpr (kTables == 1)
      return __builtin_shuffle(part[0], index);
    else
      return __builtin_shuffle(part[0], part[1], index);
#endif
  }
};

KAN_NAMESPACE_END
