// What the host's group of threads must stop: programs that are wrong on a GPU, where they would
// only sometimes be seen to be.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "group.h"

using namespace kan_fast;

namespace {

int failures = 0;

constexpr int kColumns = 128, kCores = 4;

// One group, and products of bfloat16 that all read the same operands.
struct Block {
  struct State {
    float sum[kColumns / 2];
  };
  using Group = HostGroup<kWarpgroup>;

  Group group{0, kCores * kColumns * 16};
  Group::PerThread<State> states{group};
  uint32_t* operands = reinterpret_cast<uint32_t*>(group.shared());

  template <bool kSparse>
  void multiply() {
    group.wgmma<Product::kBf16, kSparse, kColumns>(states, [&](State& state, int) {
      return WgmmaOperands{operands,  operands, kWgmmaRows / 8, kColumns / 8, 0x44444444u,
                           state.sum, 1};
    });
  }
  void finish() {
    group.commit_products();
    group.finish_products(states, [](State& s) -> float (&)[kColumns / 2] { return s.sum; });
  }
};

// What `run` prints before it is stopped; "" where it comes to its end.
template <class Run>
std::string stopped(const Run& run) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    Block block;
    run(block);
    _exit(0);
  }
  close(ends[1]);
  std::string printed;
  char byte;
  while (read(ends[0], &byte, 1) == 1) printed += byte;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
  return printed.empty() ? "no message" : printed;
}

template <class Run>
void expect(const char* name, const char* message, const Run& run) {
  const std::string found = stopped(run);
  if (*message == 0 ? found.empty() : found.find(message) != std::string::npos) return;
  ++failures;
  std::printf("%s: \"%s\" instead of \"%s\"\n", name, found.c_str(), message);
}

}  // namespace

int main() {
  expect("products of one shape", "", [](Block& block) {
    for (int chunk = 0; chunk < 2; ++chunk) {
      block.group.start_products();
      block.multiply<false>();
      block.multiply<false>();
      block.finish();
      block.operands[0] = 1;
    }
  });
  expect("two shapes with a fence", "", [](Block& block) {
    block.group.start_products();
    block.multiply<true>();
    block.group.start_products();
    block.multiply<false>();
    block.finish();
  });
  expect("two shapes", "unfenced", [](Block& block) {
    block.group.start_products();
    block.multiply<true>();
    block.multiply<false>();
  });
  expect("no fence", "unfenced", [](Block& block) { block.multiply<false>(); });
  expect("no fence after threads had the sums", "unfenced", [](Block& block) {
    block.group.start_products();
    block.multiply<false>();
    block.finish();
    block.multiply<false>();
  });
  expect("an operand that changes", "operand changed", [](Block& block) {
    block.group.start_products();
    block.multiply<false>();
    block.operands[0] = 1;
    block.finish();
  });
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
