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
forward_options test.py "$@"
config=$(user_path "${1:-}") weights=$(user_path "${2:-}")
need_file "$config" "config file"
need_weights "$weights" "${3:-}"
shift 2
launch test.py --config "$config" --weights "$weights" "$@"
