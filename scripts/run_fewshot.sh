#!/bin/sh
# Few-shot training with several random selections of the videos; prints the mean and deviation of their scores.
#
#   sh scripts/run_fewshot.sh CONFIG "0 1 2" [key=value ...]
#
# The config (or an override) sets data.shot; each seed is the data.shot_seed of a run in FOLDER/seed<seed>. Unfinished runs
# are resumed, finished ones are skipped.
#
# FOLDER  folder of the runs; default exp_fewshot/<data.dataset>/<network.arch>/f<frames>_shot<data.shot>
# NPROC   processes; default: the visible GPUs, or one on a CPU
# PYTHON  interpreter; default: the active environment's
set -eu
usage='sh scripts/run_fewshot.sh CONFIG "SEED SEED ..." [key=value ...]'
cd "$(dirname "$0")/.."
. scripts/common.sh
forward_options train.py "$@"
config=$(user_path "${1:-}") seeds=${2:-}
need_file "$config" "config file"
case "$seeds" in
    '' | *[!0-9\ ]*) fail "the seeds must be integers in quotes; usage: $usage" ;;
esac
shift 2
for word in "$@"; do
    case "$word" in
        data.shot_seed=* | logging.run_dir=* | resume=*) fail "$word: set automatically for each seed; remove it; usage: $usage" ;;
        --check) fail "--check: checks a single run; use it with run_train.sh" ;;
    esac
done
find_python
shot=$("$PYTHON" -m tools.show_config --key data.shot --config "$config" "$@")
[ "$shot" != 0 ] || fail "data.shot is 0: each seed would train on all videos; set the number of videos per class, such as data.shot=4"
folder=${FOLDER:-$(dirname "$("$PYTHON" -m tools.show_config --key run_dir --config "$config" "$@")")}
for seed in $seeds; do
    sh scripts/run_train.sh "$config" "data.shot_seed=$seed" "logging.run_dir=$folder/seed$seed" resume=auto "$@"
done
set --
for seed in $seeds; do
    set -- "$@" "$folder/seed$seed"
done
exec "$PYTHON" -m tools.summarise_runs "$@"
