#!/bin/sh
# Tests a checkpoint.
#
#   sh scripts/run_test.sh CONFIG WEIGHTS [--test_crops 3 --test_clips 4 ...] [key=value ...]
#
# NPROC   processes; default: the visible GPUs, or one on a CPU
# PYTHON  interpreter; default: the active environment's
usage="sh scripts/run_test.sh CONFIG WEIGHTS [options] [key=value ...]"
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
config=${1:-} weights=${2:-}
need_file "$config" "config file"
need_file "$weights" "weights file"
shift 2
launch test.py --config "$config" --weights "$weights" "$@"
