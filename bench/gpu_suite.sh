#!/usr/bin/env bash
# Everything that only a GPU can settle, without a network: build, tests, sanitizer, benches.
#
#     bench/gpu_suite.sh [--quick] [FOLDER FOR RESULTS]
#
# Under ten minutes, under three with --quick. Prints a short table last; the exit code is the
# number of parts that failed.
set -uo pipefail
cd "$(dirname "$0")/.."

quick=""
if [ "${1:-}" = "--quick" ]; then
  quick="--quick"
  shift
fi
results="${1:-gpu-results}"
mkdir -p "$results"
verdicts=()
failed=0

part() { # part NAME SECONDS COMMAND...
  local name="$1" limit="$2" begin=$SECONDS
  shift 2
  timeout "$limit" "$@" >"$results/$name.log" 2>&1
  local code=$?
  if [ "$code" -eq 0 ]; then
    verdicts+=("PASS  $name  $((SECONDS - begin)) s")
  else
    failed=$((failed + 1))
    verdicts+=("FAIL  $name  $((SECONDS - begin)) s  exit code $code, see $results/$name.log")
    tail -n 15 "$results/$name.log"
  fi
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || {
  echo "bench/gpu_suite.sh: nvidia-smi finds no GPU here"
  exit 1
}

export CMAKE_ARGS="-DKAN_FAST_CUDA=ON" # for every architecture, which a test wants to see
build() {
  python3 -m pip install --quiet --no-deps --no-build-isolation -e . && return
  # a setuptools too old for pyproject.toml: what setup.py would do, by hand
  cmake -G Ninja -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release \
    -DPython_EXECUTABLE="$(command -v python3)" \
    -Dpybind11_DIR="$(python3 -m pybind11 --cmakedir)" \
    -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PWD/kan_fast" $CMAKE_ARGS &&
    cmake --build build/gpu && ln -sfn ../kernels/triton_jit kan_fast/_triton_jit
}
export -f build
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
part build 240 bash -c build

cpp() { # the torch-free kernels by a program of their own
  cmake -G Ninja -S . -B build/gpu-tests -DKAN_FAST_CXX_TESTS=ON -DKAN_FAST_CUDA=ON \
    -DKAN_FAST_CUDA_ARCHITECTURES=native &&
    cmake --build build/gpu-tests --target test_device && build/gpu-tests/test_device
}
export -f cpp
[ -n "$quick" ] || part cpp 200 bash -c cpp

# most of a test is Triton compiling on a core of its own, so the tests are shared out
run_tests() { # run_tests PYTEST ARGUMENTS...
  local shares code=0 pids=() n
  shares=$(( $(nproc) > 2 ? $(nproc) - 2 : 1 ))
  for ((n = 0; n < shares; n++)); do
    python3 -m pytest -q "--shard=$n/$shares" "$@" >"$results/tests.$n.txt" 2>&1 &
    pids+=($!)
  done
  for n in "${pids[@]}"; do
    wait "$n" || { local one=$?; [ "$one" -eq 5 ] || code=1; } # 5: a share without tests
  done
  grep -hE "^(FAILED|ERROR)|passed|failed" "$results"/tests.*.txt
  return "$code"
}
export -f run_tests
export results

if [ -n "$quick" ]; then
  part tests 80 bash -c 'run_tests tests/test_device_kernels.py tests/test_cuda.py tests/test_triton.py tests/test_gpu.py -k "shapes or precision or half or repeats or networks or gpu"'
else
  part tests 280 bash -c 'run_tests tests/test_device_kernels.py tests/test_cuda.py tests/test_triton.py tests/test_triton_backend.py tests/test_gpu.py'
fi

sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)"
if [ -z "$sanitizer" ]; then
  verdicts+=("SKIP  sanitizer  compute-sanitizer is not installed")
else
  for tool in memcheck racecheck; do
    [ -n "$quick" ] && [ "$tool" = racecheck ] && continue
    part "$tool" 100 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" \
      --error-exitcode 9 \
      python3 -m pytest -q -x tests/test_device_kernels.py tests/test_cuda.py \
      -k "7x2x5x5 or 65x17x4x3 or 40x7x16x20 or networks_in_one_launch"
  done
fi

[ -n "$quick" ] || part kernels 150 python3 bench/kernels.py --device cuda --suite gpu-wide \
  --seconds 0.05 --json "$results/gpu_kernels.json"
part bench "$([ -n "$quick" ] && echo 80 || echo 240)" python3 bench/gpu.py $quick --json "$results/gpu.json"

echo
grep -E "^GEMM|over MLP" "$results/bench.log"
echo
cat "$results/tests.log"
printf '%s\n' "${verdicts[@]}"
exit "$failed"
