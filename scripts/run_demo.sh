#!/bin/sh
# Installs the requirements and runs the whole pipeline on a small rendered data set: training, tests, report, plots.
#
#   sh scripts/run_demo.sh
#
# The results are in exp/demo. Running it again resumes an interrupted run; remove the folder to start again.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
show_help scripts/run_demo.sh "$@"
[ $# -eq 0 ] || fail "$1: this script takes no arguments; usage: sh scripts/run_demo.sh"
outer_environment=${VIRTUAL_ENV:-}${CONDA_PREFIX:-}
set_up_environment requirements.txt
demo=exp/demo

train() { # train NAME: configs/shapes/NAME.yaml into exp/demo/NAME
    sh scripts/run_train.sh "configs/shapes/$1.yaml" resume=auto
}

test_run() { # test_run NAME CLIPSxCROPS OPTIONS...
    name=$1 views=$2
    shift 2
    sh scripts/run_test.sh "configs/shapes/$name.yaml" "$demo/$name/last_model.pt" --out "$demo/$name/test_$views" "$@"
}

echo "== 1/7 rendering the clips"
python -m demo.make_shapes_world "$demo/world"
echo "== 2/7 training with the temporal head"
train transf
echo "== 3/7 the same without it"
train none
echo "== 4/7 from the video files, briefly"
train video
echo "== 5/7 testing"
test_run transf 1x1
test_run transf 4x3 --test_crops 3 --test_clips 4
test_run none 1x1
test_run video 1x1
echo "== 6/7 zero-shot on held-out combinations"
sh scripts/run_test_zeroshot.sh configs/shapes/zeroshot.yaml "$demo/transf/last_model.pt" --out "$demo/transf/zeroshot"
echo "== 7/7 the report"
python report.py "$demo/transf"
python -m demo.summary "$demo"
echo "report:  $demo/transf/report.html (open it in a browser)"
echo "try it:  python app.py serves a web page to try it (first: pip install -r requirements-app.txt)"
[ -n "${outer_environment:-}" ] || echo "         first activate the environment: . .venv/bin/activate"
