#!/bin/sh
# Few-shot training with several picks of the videos, and the mean and deviation of their scores.
#
#   sh scripts/run_fewshot.sh CONFIG "0 1 2" [key=value ...]
#
# The config (or an override) sets data.shot; each seed is data.shot_seed of one run, in FOLDER/seed<seed>.
#
# FOLDER  where the runs go; default exp/<config's name>-fewshot
# NPROC   processes; default: the visible GPUs, or one on a CPU
# PYTHON  interpreter; default: the active environment's
set -eu
usage='sh scripts/run_fewshot.sh CONFIG "SEED SEED ..." [key=value ...]'
cd "$(dirname "$0")/.."
. scripts/common.sh
config=${1:-} seeds=${2:-}
need_file "$config" "config file"
case "$seeds" in
    '' | *[!0-9\ ]*) fail "the seeds must be whole numbers in quotes; usage: $usage" ;;
esac
shift 2
folder=${FOLDER:-exp/$(basename "$config" .yaml)-fewshot}
for seed in $seeds; do
    sh scripts/run_train.sh "$config" "data.shot_seed=$seed" "logging.run_dir=$folder/seed$seed" resume=auto "$@"
done
set --
for seed in $seeds; do
    set -- "$@" "$folder/seed$seed"
done
find_python
exec "$PYTHON" scripts/summarise_runs.py "$@"
