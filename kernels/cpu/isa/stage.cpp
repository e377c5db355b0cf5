// Staging, which the contractions of all layers that are not narrow begin with.
#include "stage_input.h"

KAN_NAMESPACE_BEGIN

#define KAN_STAGE(WINDOW)                                                                    \
  template void stage_input<KAN_SCALAR, WINDOW>(                                             \
      const LayerArgs<KAN_SCALAR>&, int64_t, const KAN_SCALAR*, const KAN_SCALAR*, int, int, \
      const StageScratch<KAN_SCALAR>&, Stage<KAN_SCALAR>&)
KAN_STAGE(2);
KAN_STAGE(3);
KAN_STAGE(4);
KAN_STAGE(kAnyWindow);

KAN_NAMESPACE_END
