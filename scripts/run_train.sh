#!/bin/sh
# Trains a model on this machine.
#
#   sh scripts/run_train.sh CONFIG [key=value ...] [--check]
#
# NPROC   processes; default: the visible GPUs, or one on a CPU
# PYTHON  interpreter; default: the active environment's
usage="sh scripts/run_train.sh CONFIG [key=value ...] [--check]"
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
config=${1:-}
need_file "$config" "config file"
shift
launch train.py --config "$config" "$@"
