// How a forward on tensor cores cuts its sum into chunks, and where functions and weights of a
// chunk are: first those of splines, input by input in whole units of four, then the base
// functions.
#pragma once

#include "gather.h"
#include "product.h"
#include "sparse_columns.h"

KAN_NAMESPACE_BEGIN

struct MmaLayout {
  int inputs;   // of a chunk
  int columns;  // of an input among functions: of splines, or pairs where sparse
  int pairs;    // 0 where every function has a column of its own
  int steps;    // products of a chunk, before the one of base functions
  // core matrices of a chunk along the sum
  int function_cores, weight_cores;
  int64_t chunks;

  KAN_HD bool sparse() const { return pairs != 0; }
  KAN_HD int spline_columns() const { return inputs * columns; }
  // words of a tile of so many rows, and of so many outputs
  KAN_HD int function_words(int rows) const { return function_cores * (rows / 8) * kCoreWords; }
  KAN_HD int weight_words(int outputs) const { return weight_cores * (outputs / 8) * kCoreWords; }
};

inline MmaLayout mma_layout(const LayerArgs<float>& layer, Product product, bool sparse) {
  MmaLayout layout{};
  const int core = core_columns(product);
  // one product is theirs
  layout.inputs = 2 * core;
  layout.pairs = sparse ? sparse_pairs(layer.table.num_basis, layer.table.order) : 0;
  layout.columns = ((sparse ? layout.pairs : layer.table.num_basis) + 3) / 4 * 4;
  layout.steps = layout.spline_columns() / (2 * core);
  layout.function_cores = 2 * (layout.steps + 1);
  layout.weight_cores = 2 * ((sparse ? 2 : 1) * layout.steps + 1);
  layout.chunks = (layer.in_features + layout.inputs - 1) / layout.inputs;
  return layout;
}

// What a column of the weights of a chunk stands for.
struct WeightColumn {
  int input;     // of the chunk
  int function;  // num_basis for the base function; -1 for padding
};

KAN_HD WeightColumn weight_column(const MmaLayout& layout, int num_basis, int column) {
  const int members = layout.sparse() ? 2 : 1, splines = members * layout.spline_columns();
  if (column >= splines) return {column - splines, num_basis};
  const int at = column / members, input = at / layout.columns, n = at % layout.columns;
  if (!layout.sparse()) return {input, n < num_basis ? n : -1};
  const int found = sparse_column(n, column % members, num_basis, layout.pairs);
  return {input, n < layout.pairs ? found : -1};
}

// Four numbers from a column that is a multiple of four on.
template <Product kProduct>
KAN_HD_INLINE void store_four(uint32_t* tile, int row_cores, int row, int column, float x) {
  struct alignas(8) Two {
    uint32_t word[2];
  };
  const uint32_t word = make_word<kProduct>([&](int) { return x; });
  Two* const to =
      reinterpret_cast<Two*>(tile + core_word(row_cores, row, column / numbers_of_word(kProduct)));
  to[0] = {word, word};
  if (!is_half(kProduct)) to[1] = {word, word};
}

// The selectors (mma.h) of four pairs of an input from `pair` on.
template <int kOrder, Product kProduct>
KAN_HD_INLINE unsigned four_selectors(int pair, int start, int pairs) {
  int member[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    member[n] = start == kNoWindow ? 0 : sparse_choice(pair + n, start, kOrder, pairs).member;
  }
  if (is_half(kProduct))
    return sparse_selector_half(member[0], member[1]) | sparse_selector_half(member[2], member[3])
                                                            << 4;
  unsigned selectors = 0;
#pragma unroll
  for (int n = 0; n < 4; ++n) selectors |= sparse_selector_tf32(member[n]) << 4 * n;
  return selectors;
}

// Functions of a tile of kRows rows and the inputs of a chunk from `in` on.
//
// Args:
//   tile: [kParts, function_words(kRows)]; two parts are TF32 numbers and what is left of each
//   selectors: [steps * 2, kRows], of four words each, where sparse
template <int kOrder, Product kProduct, int kParts, int kRows, int kThreads>
KAN_HD_INLINE void stage_functions(const LayerArgs<float>& layer, int derivative,
                                   const MmaLayout& layout, int64_t row, int64_t in, uint32_t* tile,
                                   uint16_t* selectors, int thread) {
  constexpr int kRowCores = kRows / 8;
  uint32_t* const rest = tile + layout.function_words(kRows);
  const auto store = [&](int r, int column, float x) {
    if constexpr (kParts == 1) {
      store_number<kProduct>(tile, kRowCores, r, column, x);
    } else {
      const uint32_t large = to_tf32(x);
      tile[core_word(kRowCores, r, column)] = large;
      rest[core_word(kRowCores, r, column)] = tf32_rest(x, large);
    }
  };
  for (int n = thread; n < layout.inputs * kRows; n += kThreads) {
    const int r = n % kRows, i = n / kRows, first = i * layout.columns;
    float at[kOrder + 2] = {};
    int start = 0;
    if (row + r < layer.rows && in + i < layer.in_features)
      start = functions_at<kOrder>(layer, row + r, in + i, derivative, true, at);
    // no window: what is not finite is so in every function
    const float elsewhere = start == kNoWindow ? at[0] : 0.0f;
    for (int column = 0; column < layout.columns; column += 4) {
      store_four<kProduct>(tile, kRowCores, r, first + column, elsewhere);
      if constexpr (kParts == 2)
        store_four<kProduct>(rest, kRowCores, r, first + column, elsewhere);
      if (!layout.sparse()) continue;
      const unsigned four = four_selectors<kOrder, kProduct>(column, start, layout.pairs);
      const int unit = (first + column) / 4;
      if (is_half(kProduct))
        reinterpret_cast<unsigned char*>(selectors)[(unit / 2 * kRows + r) * 2 + unit % 2] =
            static_cast<unsigned char>(four);
      else
        selectors[unit * kRows + r] = static_cast<uint16_t>(four);
    }
    if (start != kNoWindow) {
#pragma unroll
      for (int m = 0; m <= kOrder; ++m) {
        const int column = start + m;
        const bool second = layout.sparse() && column >= layout.pairs;
        store(r, first + (second ? column - layout.pairs : column), at[m]);
      }
    }
    store(r, layout.spline_columns() + i, at[kOrder + 1]);
  }
}

KAN_NAMESPACE_END
