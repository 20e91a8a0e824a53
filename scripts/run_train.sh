#!/bin/sh
# Trains a model on this machine.
#
#   sh scripts/run_train.sh CONFIG [key=value ...] [--check]
#
# NPROC         processes; default: the visible GPUs, or one on a CPU
# MAX_RESTARTS  maximum number of restarts after a failure, from the last checkpoint; default 0
# PYTHON        interpreter; default: the active environment's
#
# On SIGTERM, SIGINT, SIGUSR1, SIGHUP or SIGXCPU, training finishes the step, saves a checkpoint and exits with code 75:
# run the same command again with resume=auto (docs/troubleshooting.md).
usage="sh scripts/run_train.sh CONFIG [key=value ...] [--check]"
cd "$(dirname "$0")/.." || exit 1
. scripts/common.sh
forward_options train.py "$@"
config=$(user_path "${1:-}")
need_file "$config" "config file"
shift
launch train.py --config "$config" "$@"
