#!/usr/bin/env bash
# Everything that only a GPU can settle, without a network and without .git, in one command:
#
#     bench/gpu_suite.sh [--quick] [--rehearse] [--commit HASH] [FOLDER FOR RESULTS]
#
# Limits that add up to less than ten minutes, with --quick to less than three; most valuable
# first. bench/gpu_suite/ is the program; docs/gpu-validation.md says what it leaves behind.
here="$(cd "$(dirname "$0")" && pwd)"
PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec python3 -m gpu_suite "$@"
