#!/bin/sh
# Tests a checkpoint on data sets that it was not trained on.
#
#   sh scripts/run_test_zeroshot.sh CONFIG[,CONFIG ...] WEIGHTS [--lists SPLIT1,SPLIT2,SPLIT3] [options] [key=value ...]
#
# For several configs (the three Kinetics-600 splits), the mean and deviation over them are printed as well.
#
# NPROC   processes; default: the visible GPUs, or one on a CPU
# PYTHON  interpreter; default: the active environment's
usage="sh scripts/run_test_zeroshot.sh CONFIG[,CONFIG ...] WEIGHTS [options] [key=value ...]"
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
forward_options test_zeroshot.py "$@"
configs=${1:-} weights=$(user_path "${2:-}")
[ -n "$configs" ] || fail "no config file given; usage: $usage"
need_weights "$weights" "${3:-}"
shift 2
IFS=,
for config in $configs; do
    config=$(user_path "$config")
    need_file "$config" "config file"
    set -- "$@" --config "$config"
done
unset IFS
launch test_zeroshot.py --weights "$weights" "$@"
