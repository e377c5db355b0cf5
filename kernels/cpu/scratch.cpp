// Memory of tasks.
#include <cstdlib>

#include "tasks.h"

namespace kan_fast {
namespace {

struct Scratch {
  char* memory = nullptr;
  size_t size = 0;
  ~Scratch() { std::free(memory); }
};

}  // namespace

void* thread_scratch(size_t bytes, int which) {
  thread_local Scratch both[2];
  Scratch& scratch = both[which];
  if (scratch.size < bytes) {
    std::free(scratch.memory);
    scratch.size = (bytes + 4095) / 4096 * 4096;
    scratch.memory = static_cast<char*>(std::aligned_alloc(64, scratch.size));
    if (scratch.memory == nullptr) scratch.size = 0;
  }
  return scratch.memory;
}

}  // namespace kan_fast
