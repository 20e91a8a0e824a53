#!/bin/sh
# Sets itself up, then shows the main job on a small world of its own: renders clips, trains, tests, draws.
#
#   sh scripts/run_demo.sh [FOLDER]
#
# Everything lands in FOLDER (default exp/demo). A second call goes on where the first stopped; remove the folder to start anew.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
demo=${1:-exp/demo}
set_up_environment requirements.txt
world=$demo/world
roots="data.train_root=$world/frames data.val_root=$world/frames"
lists="data.train_list=$world/lists/train_frames.txt data.val_list=$world/lists/val_frames.txt data.label_list=$world/lists/seen_labels.csv"
videos="data.train_root=$world/videos data.val_root=$world/videos data.train_list=$world/lists/train_videos.txt data.val_list=$world/lists/val_videos.txt data.label_list=$world/lists/seen_labels.csv"

train() { # train CONFIG RUN OVERRIDES...
    config=$1 run=$2
    shift 2
    sh scripts/run_train.sh "$config" "logging.run_dir=$demo/$run" resume=auto "$@"
}

test_run() { # test_run CONFIG RUN VIEWS OPTIONS...
    config=$1 run=$2 views=$3
    shift 3
    sh scripts/run_test.sh "$config" "$demo/$run/last_model.pt" --out "$demo/$run/test_$views" "$@"
}

echo "== 1/5 rendering the clips"
python scripts/make_shapes_world.py "$world"
echo "== 2/5 training with the temporal head"
train configs/shapes/transf.yaml transf $roots $lists
echo "== 3/5 the same without it"
train configs/shapes/none.yaml none $roots $lists
echo "== 4/5 from the video files, briefly"
train configs/shapes/video.yaml video $videos
echo "== 5/5 testing"
test_run configs/shapes/transf.yaml transf 1x1 $roots $lists
test_run configs/shapes/transf.yaml transf 3x4 --test_crops 3 --test_clips 4 $roots $lists
test_run configs/shapes/none.yaml none 1x1 $roots $lists
test_run configs/shapes/video.yaml video 1x1 $videos
python scripts/demo_summary.py "$demo"
