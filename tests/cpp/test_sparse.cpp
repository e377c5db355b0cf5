// Structured-sparse columns against plain sums, through the selection that mma.sp is documented to
// make (PTX ISA, "Sparse matrix storage"): of a group of four quarters the metadata names two.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "sparse_columns.h"
#include "window.h"

using namespace kan_fast;

namespace {

int failures = 0;

void expect(bool good, const char* what, int order, int num_basis, double x) {
  if (good) return;
  ++failures;
  std::printf("%s: order %d, %d functions, x %g\n", what, order, num_basis, x);
}

// The columns [groups, 4 quarters] that a row of kept quarters [groups, 2] stands for.
std::vector<double> selected(const std::vector<double>& kept,
                             const std::vector<unsigned>& nibbles) {
  std::vector<double> quarters(4 * nibbles.size(), 0.0);
  for (size_t n = 0; n < nibbles.size(); ++n) {
    const unsigned first = nibbles[n] & 3, second = nibbles[n] >> 2 & 3;
    if (first >= second) ++failures;  // indices must increase
    quarters[4 * n + first] = kept[2 * n];
    quarters[4 * n + second] = kept[2 * n + 1];
  }
  return quarters;
}

template <int kOrder>
void compare(int num_basis) {
  const int num_knots = num_basis + kOrder + 1, inputs = 3;
  const int pairs = sparse_pairs(num_basis, kOrder);
  std::mt19937 random(num_basis * 8 + kOrder);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<double> knots(num_knots), weight(inputs * num_basis);
  double at = 0;
  for (double& knot : knots) knot = at += 0.2 + std::abs(uniform(random));
  for (double& w : weight) w = uniform(random);
  // the weights in pairs, as they are packed once
  std::vector<double> paired(2 * pairs * inputs);
  std::vector<int> seen(num_basis);
  for (int i = 0; i < inputs; ++i)
    for (int pair = 0; pair < pairs; ++pair)
      for (int member = 0; member < 2; ++member) {
        const int column = sparse_column(pair, member, num_basis, pairs);
        if (column >= 0 && i == 0) ++seen[column];
        paired[(i * pairs + pair) * 2 + member] = column < 0 ? 0 : weight[i * num_basis + column];
      }
  for (const int count : seen) expect(count == 1, "a column in one pair", kOrder, num_basis, 0);
  // every cell from its left edge on, the outside, and what is not finite
  std::vector<double> inputs_at{knots[0] - 1, knots.back(), knots.back() + 1, INFINITY};
  for (int cell = 0; cell + 1 < num_knots; ++cell)
    for (const double s : {0.0, 0.3, 0.999})
      inputs_at.push_back(knots[cell] + s * (knots[cell + 1] - knots[cell]));
  for (const double x : inputs_at) {
    double wanted = 0;
    std::vector<double> kept, halves;
    std::vector<unsigned> tf32, half;
    std::vector<int> members;
    for (int i = 0; i < inputs; ++i) {
      double value[kOrder + 1];
      int start = basis_window<kOrder>(x, knots.data(), num_knots, 0, value);
      start = start < 0 ? 0 : start;
      int used = 0;
      for (int m = 0; m <= kOrder; ++m) wanted += value[m] * weight[i * num_basis + start + m];
      for (int pair = 0; pair < pairs; ++pair) {
        const SparseChoice choice = sparse_choice(pair, start, kOrder, pairs);
        const double v = choice.value < 0 ? 0 : value[choice.value];
        used += choice.value >= 0;
        members.push_back(choice.member);
        halves.push_back(v);
        // a TF32 number is two quarters
        kept.insert(kept.end(), {v, v});
        tf32.push_back(sparse_selector_tf32(choice.member));
      }
      expect(used == kOrder + 1, "every value of the window kept", kOrder, num_basis, x);
    }
    const std::vector<double> of_tf32 = selected(kept, tf32);
    double found = 0;
    for (size_t n = 0; n < paired.size(); ++n) {
      found += of_tf32[2 * n] * paired[n];
      if (std::isfinite(x) && of_tf32[2 * n] != of_tf32[2 * n + 1]) ++failures;
    }
    const auto same = [&](double y) {
      return std::isfinite(x) ? std::abs(y - wanted) <= 1e-13 : std::isnan(y) && std::isnan(wanted);
    };
    expect(same(found), "1:2 of TF32", kOrder, num_basis, x);
    // an odd pair at the end has one of zeros beside it
    if (members.size() % 2 != 0) members.push_back(0), halves.push_back(0);
    for (size_t n = 0; n < members.size(); n += 2)
      half.push_back(sparse_selector_half(members[n], members[n + 1]));
    const std::vector<double> of_half = selected(halves, half);
    found = 0;
    for (size_t n = 0; n < paired.size(); ++n) found += of_half[n] * paired[n];
    expect(same(found), "2:4 of half precision", kOrder, num_basis, x);
  }
}

}  // namespace

int main() {
  for (int num_basis = 2; num_basis <= 53; ++num_basis) compare<1>(num_basis);
  for (int num_basis = 3; num_basis <= 53; ++num_basis) compare<2>(num_basis);
  for (int num_basis = 4; num_basis <= 53; ++num_basis) compare<3>(num_basis);
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
