// y of docs/math.md, eq. 5, on tensor cores: the basis of a tile of rows and a chunk of inputs is
// evaluated into shared memory and goes no further. Weights come packed, in the background.
//
// Structured-sparse where the layout is: twice the columns at the rate of dense ones, and none of
// them lost (sparse_columns.h). The base functions are a dense product of their own.
#pragma once

#include "mma_layout.h"
#include "mma_tile.h"
#include "wgmma_tile.h"

KAN_NAMESPACE_BEGIN

struct MmaOutArgs {
  OutArgs<float> of;
  MmaLayout layout;
  const uint32_t* packed;  // of PackWeights
  // 2: a chunk may be made ready while the one before is multiplied
  int stages;
};

// Tile: TallMmaTile or WgmmaTile
//
// Shared memory, of each stage: functions [kParts, function_words], weights [kParts, weight_words],
// selectors [2 steps, kRows] where sparse
template <int kOrder, Product kProduct, bool kSparse, template <Product> class TileOf>
struct MmaOut {
  using Args = MmaOutArgs;
  using Tile = TileOf<kProduct>;
  using State = typename Tile::State;
  static constexpr int kThreads = Tile::kThreads;
  static constexpr int kBlocks = Tile::kWgmma ? 1 : 2;
  static constexpr bool kWgmma = Tile::kWgmma;
  static constexpr int kParts = Tile::kParts, kRows = Tile::kRows, kOutputs = Tile::kColumns;

  static KAN_HD int stage_words(const MmaLayout& layout) {
    return kParts * (layout.function_words(kRows) + layout.weight_words(kOutputs)) +
           (kSparse ? layout.steps * kRows : 0);
  }
  static KAN_HD int out_tiles(const LayerArgs<float>& layer) {
    return static_cast<int>((layer.out_features + kOutputs - 1) / kOutputs);
  }
  static int64_t blocks(const Args& args, const GatherGeometry&) {
    return (args.of.layer.rows + kRows - 1) / kRows * out_tiles(args.of.layer);
  }

  // a stage's memory
  struct Stage {
    uint32_t *functions, *weights;
    uint16_t* selectors;
  };

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry&) {
    const LayerArgs<float>& layer = args.of.layer;
    const MmaLayout& layout = args.layout;
    const int tile = group.block() % out_tiles(layer);
    const int64_t row = static_cast<int64_t>(group.block() / out_tiles(layer)) * kRows;
    const int weight_words = kParts * layout.weight_words(kOutputs);
    const uint32_t* const packed = args.packed + tile * layout.chunks * weight_words;
    const auto stage_at = [&](int64_t chunk) {
      uint32_t* const functions = reinterpret_cast<uint32_t*>(group.shared()) +
                                  (args.stages == 2 ? chunk % 2 : 0) * stage_words(layout);
      uint32_t* const weights = functions + kParts * layout.function_words(kRows);
      return Stage{functions, weights, reinterpret_cast<uint16_t*>(weights + weight_words)};
    };
    const auto prepare = [&](int64_t chunk) {
      const Stage stage = stage_at(chunk);
      group.each_alone([&](int thread) {
        for (int n = 4 * thread; n < weight_words; n += 4 * kThreads)
          group.copy(stage.weights + n, packed + chunk * weight_words + n);
        stage_functions<kOrder, kProduct, kParts, kRows, kThreads>(
            layer, args.of.derivative, layout, row, chunk * layout.inputs, stage.functions,
            stage.selectors, thread);
      });
    };
    typename Group::template PerThread<State> states(group);
    if constexpr (kWgmma) {
      // `prepare` in three places: the compiler lets products run only where it sees on every path
      // that they are under way
      if (layout.chunks > 0) prepare(0);
      for (int64_t chunk = 0; chunk < layout.chunks; ++chunk) {
        ready(group);
        Tile::start(group);
        multiply(group, states, layout, stage_at(chunk), layer.base_weight != nullptr);
        const bool next = chunk + 1 < layout.chunks;
        // the stage's last reader was the chunk before, which every thread has left
        if (next && args.stages == 2) prepare(chunk + 1);
        Tile::finish(group, states);
        Tile::add_part(group, states);
        if (next && args.stages == 1) {
          group.each([](int) {});
          prepare(chunk + 1);
        }
      }
    } else {
      // weights arrive while functions are evaluated; with two stages the first warps to be done go
      // on to the next chunk, and another block's products run beside all that
      for (int64_t chunk = 0; chunk < layout.chunks; ++chunk) {
        if (args.stages == 1) group.each([](int) {});
        prepare(chunk);
        ready(group);
        multiply(group, states, layout, stage_at(chunk), layer.base_weight != nullptr);
        Tile::add_part(group, states);
      }
    }
    group.each([&](int thread) {
      Tile::each_sum(thread, states[thread], [&](int r, int c, float sum) {
        const int64_t o = static_cast<int64_t>(tile) * kOutputs + c;
        if (row + r < layer.rows && o < layer.out_features)
          args.of.y[(row + r) * layer.out_features + o] = sum;
      });
    });
  }

 private:
  // Until what `prepare` made of a chunk is there for all.
  template <class Group>
  static KAN_HD_INLINE void ready(Group& group) {
    group.wait_copies();
    Tile::publish(group);
    group.each([](int) {});
  }

  template <class Group, class States>
  static KAN_HD_INLINE void multiply(Group& group, States& states, const MmaLayout& layout,
                                     const Stage& stage, bool base) {
    const int a_words = layout.function_words(kRows), b_words = layout.weight_words(kOutputs);
    for (int step = 0; step < layout.steps; ++step)
      Tile::template multiply<kSparse>(group, states, stage.functions, stage.weights, a_words,
                                       b_words, stage.selectors, 2 * step,
                                       (kSparse ? 4 : 2) * step);
    if (!base) return;
    // wgmma in another shape, into the same sums
    if constexpr (kWgmma && kSparse) Tile::start(group);
    Tile::template multiply<false>(group, states, stage.functions, stage.weights, a_words, b_words,
                                   stage.selectors, 2 * layout.steps,
                                   (kSparse ? 4 : 2) * layout.steps);
  }
};

KAN_NAMESPACE_END
