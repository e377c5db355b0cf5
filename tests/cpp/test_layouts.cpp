// Who holds which number of a product of tensor cores: mma.h, wgmma_tile.h and product.h against
// the layouts by which CUTLASS's CuTe describes the same instructions (include/cute/atom:
// mma_traits_sm80.hpp, mma_traits_sm90_gmma.hpp, mma_traits_sm90_gmma_sparse.hpp). A layout there
// maps the digits of an index, the first the fastest, each to a stride.
#include <cstdio>
#include <vector>

#include "sparse_columns.h"
#include "wgmma_tile.h"

using namespace kan_fast;

namespace {

int failures = 0;

struct Digit {
  int size, stride;
};
using Layout = std::vector<Digit>;

int at(const Layout& layout, int index) {
  int place = 0;
  for (const Digit& digit : layout) {
    place += index % digit.size * digit.stride;
    index /= digit.size;
  }
  return place;
}

void expect(const char* what, int found, int wanted) {
  if (found == wanted) return;
  ++failures;
  std::printf("%s: %d instead of %d\n", what, found, wanted);
}

// Operands and sums of mma.m16n8k16 of half precision, or of m16n8k8 of TF32.
void test_mma(bool half) {
  const int numbers = half ? 2 : 1;
  const Layout a_thread = half ? Layout{{4, 32}, {8, 1}} : Layout{{4, 16}, {8, 1}};
  const Layout a_value = half ? Layout{{2, 16}, {2, 8}, {2, 128}} : Layout{{2, 8}, {2, 64}};
  const Layout b_thread = half ? Layout{{4, 16}, {8, 1}} : Layout{{4, 8}, {8, 1}};
  const Layout b_value = half ? Layout{{2, 8}, {2, 64}} : Layout{{2, 32}};
  const Layout c_thread{{4, 32}, {8, 1}}, c_value{{2, 16}, {2, 8}};
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int v = 0; v < 4 * numbers; ++v) {
      const int n = v / numbers, k = numbers * mma_a_word(lane, n) + v % numbers;
      expect("a of mma", mma_a_row(lane, n) + 16 * k, at(a_thread, lane) + at(a_value, v));
    }
    for (int v = 0; v < 2 * numbers; ++v) {
      const int k = numbers * mma_b_word(lane, v / numbers) + v % numbers;
      expect("b of mma", mma_b_column(lane) + 8 * k, at(b_thread, lane) + at(b_value, v));
    }
    for (int v = 0; v < 4; ++v)
      expect("c of mma", mma_c_row(lane, v) + 16 * mma_c_column(lane, v),
             at(c_thread, lane) + at(c_value, v));
  }
}

// CLayout_64xN
template <Product kProduct>
void test_wgmma_sums() {
  using Tile = WgmmaTile<kProduct>;
  constexpr int kColumns = Tile::kGroupColumns;
  const Layout thread_of{{4, 128}, {8, 1}, {4, 16}}, value{{2, 64}, {2, 8}, {kColumns / 8, 512}};
  const typename Tile::State state{};
  for (int thread = 0; thread < Tile::kThreads; ++thread) {
    int v = 0;
    Tile::each_sum(thread, state, [&](int row, int column, float) {
      const int first = thread / kWarpgroup * kColumns;
      expect("c of wgmma", row + 64 * (column - first),
             at(thread_of, thread % kWarpgroup) + at(value, v++));
    });
    expect("sums of a thread", v, kColumns / 2);
  }
}

// ELayout_64x32 of half precision and ELayout_64x16 of TF32: one bit for each column of a row, or
// two. Sparsity selector 0 takes the first thread of a pair.
void test_selectors(bool half) {
  const int columns = half ? 4 : 2, bits = 4 / columns;  // of a word
  const Layout thread_of{{2, 64 * 4 * columns}, {2, 0}, {8, 1}, {4, 16}};
  const Layout value{{4 * columns, 64}, {2, 8}};
  for (int warp = 0; warp < 4; ++warp)
    for (int row = 0; row < 16; ++row)
      for (int word = 0; word < 8; ++word) {
        const int lane = mma_selector_lane(row, word), shift = mma_selector_shift(row, word);
        expect("a thread that the selector takes", lane % 4 < 2, 1);
        for (int n = 0; n < columns; ++n)
          expect("selectors", 16 * warp + row + 64 * (columns * word + n),
                 at(thread_of, warp * kWarp + lane) + at(value, shift / bits + n));
      }
}

// The canonical layout of an operand that is summed along rows without swizzle, in words:
// ((8, m), (T, 2)) : ((T, SBO), (1, LBO)), T words being 16 bytes.
void test_core_matrices() {
  for (const int row_cores : {8, 16, 32}) {
    const int lbo = row_cores * kCoreWords, sbo = kCoreWords;
    const Layout row_of{{8, 4}, {row_cores, sbo}}, word_of{{4, 1}, {2, lbo}};
    for (int row = 0; row < 8 * row_cores; ++row)
      for (int word = 0; word < 8; ++word)
        expect("core matrices", core_word(row_cores, row, word),
               at(row_of, row) + at(word_of, word));
  }
}

// As tools/util/include/cutlass/util/host_uncompress.h reads the selector of a TF32 pair.
void test_tf32_codes() {
  for (const int member : {0, 1})
    expect("code of TF32", (sparse_selector_tf32(member) & 3) / 2, member);
}

}  // namespace

int main() {
  for (const bool half : {false, true}) {
    test_mma(half);
    test_selectors(half);
  }
  test_wgmma_sums<Product::kTf32x3>();
  test_wgmma_sums<Product::kBf16>();
  test_core_matrices();
  test_tf32_codes();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
