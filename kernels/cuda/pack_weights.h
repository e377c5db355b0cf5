// The weights of a layer once as tensor cores want them: scaled, permuted, rounded, in the order in
// which tiles are copied to shared memory.
#pragma once

#include "mma_layout.h"

KAN_NAMESPACE_BEGIN

struct PackWeightsArgs {
  LayerArgs<float> layer;
  MmaLayout layout;
  Product product;
  int parts;         // 2: TF32 numbers and what is left of each
  int outputs;       // of a tile
  uint32_t* packed;  // [tiles, chunks, parts, weight_words(outputs)]
};

struct PackWeights {
  using Args = PackWeightsArgs;
  static constexpr int kThreads = 256;
  static constexpr int kBlocks = 2;

  // of one part of all tiles
  static KAN_HD int64_t words(const Args& args) {
    return (args.layer.out_features + args.outputs - 1) / args.outputs * args.layout.chunks *
           args.layout.weight_words(args.outputs);
  }
  static int64_t blocks(const Args& args, const GatherGeometry&) {
    return (words(args) + kThreads - 1) / kThreads;
  }

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry&) {
    group.each([&](int thread) {
      const int64_t n = static_cast<int64_t>(group.block()) * kThreads + thread;
      if (n >= words(args)) return;
      const int size = args.layout.weight_words(args.outputs), at = static_cast<int>(n % size);
      const int64_t chunk = n / size % args.layout.chunks, tile = n / size / args.layout.chunks;
      const int word = word_of_row(args.outputs / 8, at);
      const int64_t o = tile * args.outputs + row_of_word(args.outputs / 8, at);
      uint32_t* const to = args.packed + n / size * args.parts * size + at;
      const auto number = [&](int column) {
        const WeightColumn of = weight_column(args.layout, args.layer.table.num_basis, column);
        const int64_t i = chunk * args.layout.inputs + of.input;
        return of.function >= 0 && o < args.layer.out_features && i < args.layer.in_features
                   ? weight_at(args.layer, o, i, of.function)
                   : 0.0f;
      };
      if (args.product == Product::kBf16) {
        *to = make_word<Product::kBf16>([&](int m) { return number(2 * word + m); });
      } else if (args.product == Product::kF16) {
        *to = make_word<Product::kF16>([&](int m) { return number(2 * word + m); });
      } else {
        const float w = number(word);
        const uint32_t large = to_tf32(w);
        *to = args.product == Product::kTf32x3 && args.parts == 1 ? bits_of(w) : large;
        if (args.parts == 2) to[size] = tf32_rest(w, large);
      }
    });
  }
};

KAN_NAMESPACE_END
