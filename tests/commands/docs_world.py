"""A folder for the commands of the documentation: the repository's files, and small versions of the files that the demo
or a reader would have created."""

import stat
import sys
from pathlib import Path

import torch
import yaml

from demo.shapes_world import HELD_OUT_CLASSES, SEEN_CLASSES
from modules.build import build_model_and_text
from tests.commands.world import REPO
from tests.datasets.helpers import write_frames, write_video
from utils.checkpoint import save_checkpoint
from utils.config import dump_config, load_config

SIZE = {"height": 64, "width": 80}
OWN_CLASSES = ("riding_a_bike", "cooking")
SPLITS = {"train": (SEEN_CLASSES, 16), "val": (SEEN_CLASSES, 8), "heldout": (HELD_OUT_CLASSES, 8)}

# Replaces `python`: records the arguments, which the test then runs in its own process. Commands whose output is read
# by a launcher are run at once.
NOTE_TAKER = f"""#!/bin/sh
[ "$2" != tools.show_config ] || exec {sys.executable} "$@"
for word in "$@"; do printf '%s\\n' "$word"; done >> "$CALLS"
printf '\\0' >> "$CALLS"
"""


def make_docs_world(root: Path) -> None:
    """Create the folder `root`, which then contains:

    exp/demo/world        frames, videos and lists in the layout of demo/make_shapes_world.py, one clip per class
    exp/demo/transf,none  a checkpoint each, with random weights
    my_videos, long.mp4, my_video.mp4, other.yaml, CONFIG, WEIGHTS
    bin/python            NOTE_TAKER
    """
    for path in REPO.iterdir():
        if not path.name.startswith(".") and path.name not in ("exp", "my_videos", "my.yaml"):
            (root / path.name).symlink_to(path)
    make_python(root / "bin" / "python")
    world = root / "exp" / "demo" / "world"
    (world / "lists").mkdir(parents=True)
    for split, (classes, num_clips) in SPLITS.items():
        paths = [f"{c.folder}/{split}_000" for c in classes[:num_clips]]
        for path in paths:
            write_frames(world / "frames" / path, 9, **SIZE)
            (world / "videos" / path).parent.mkdir(parents=True, exist_ok=True)
            write_video(world / "videos" / f"{path}.mp4", 9, size=tuple(SIZE.values()))
        frames = "".join(f"{path} 9 {label}\n" for label, path in enumerate(paths))
        videos = "".join(f"{path}.mp4 {label}\n" for label, path in enumerate(paths))
        (world / "lists" / f"{split}_frames.txt").write_text(frames)
        (world / "lists" / f"{split}_videos.txt").write_text(videos)
    for name, classes in (("seen", SEEN_CLASSES), ("heldout", HELD_OUT_CLASSES)):
        rows = "".join(f"{label},{c.name}\n" for label, c in enumerate(classes))
        (world / "lists" / f"{name}_labels.csv").write_text("id,name\n" + rows)
    _make_runs(root)
    for class_name in OWN_CLASSES:
        for number in range(5):
            path = root / "my_videos" / class_name / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, 10, size=tuple(SIZE.values()))
    write_video(root / "my_video.mp4", 10, size=tuple(SIZE.values()))
    write_video(root / "long.mp4", 150, size=tuple(SIZE.values()))
    (root / "other.yaml").write_text((REPO / "configs/shapes/zeroshot.yaml").read_text())


def edit_my_config(root: Path) -> None:
    """Replace `my.yaml`, once it exists, by a config with the printed lines of make_lists.py and a small model."""
    if (root / "my.yaml").exists():
        config = {
            "data": {
                "num_segments": 8, "batch_size": 2, "workers": 0, "num_classes": len(OWN_CLASSES), "input_size": 64,
                "train_root": "my_frames", "train_list": "my_lists/train.txt", "val_root": "my_frames",
                "val_list": "my_lists/val.txt", "label_list": "my_lists/labels.csv",
            },
            "network": {"arch": "clip/shapes_clip.pt"},
        }  # fmt: skip
        (root / "my.yaml").write_text(yaml.safe_dump(config))


def make_python(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(NOTE_TAKER)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _make_runs(root: Path) -> None:
    names = [c.name for c in SEEN_CLASSES]
    for run in ("transf", "none"):
        overrides = [f"network.arch={REPO / 'clip/shapes_clip.pt'}", f"logging.cache_dir={root / 'exp/cache'}"]
        cfg = load_config(REPO / "configs/shapes" / f"{run}.yaml", overrides, "predict").config
        torch.manual_seed(0)
        model, _ = build_model_and_text(cfg, names, torch.device("cpu"))
        state = {"model_state_dict": model.state_dict(), "class_names": names, "config": dump_config(cfg)}
        save_checkpoint(root / "exp/demo" / run / "last_model.pt", state)
    (root / "WEIGHTS").symlink_to("exp/demo/transf/last_model.pt")
    (root / "CONFIG").symlink_to(REPO / "configs/shapes/transf.yaml")
