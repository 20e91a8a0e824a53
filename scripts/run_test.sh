#!/bin/sh
# Tests a checkpoint. Checkpoints of train.py contain their config, so CONFIG, a .yaml file, may be left out.
#
#   sh scripts/run_test.sh [CONFIG] WEIGHTS [--test_crops 3 --test_clips 4 ...] [key=value ...]
#
# NPROC   processes; default: the visible GPUs, or one on a CPU
# PYTHON  interpreter; default: the active environment's
usage="sh scripts/run_test.sh [CONFIG] WEIGHTS [options] [key=value ...]"
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
forward_options test.py "$@"
config=
case ${1:-} in
    *.yaml | *.yml)
        config=$(user_path "$1")
        need_file "$config" "config file"
        shift ;;
esac
weights=$(user_path "${1:-}")
need_weights "$weights" "${2:-}"
shift
launch test.py ${config:+--config "$config"} --weights "$weights" "$@"
