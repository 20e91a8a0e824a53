"""Renders the demo's data set of moving shapes: videos, frame folders, annotation lists and class descriptions.

    OUT/videos/<class>/<clip>.mp4                      H.264, 80 x 64, 25 to 60 frames
    OUT/frames/<class>/<clip>/img_00001.jpg ...        the same clips as JPEG files, quality 90
    OUT/lists/{train,val,heldout}_frames.txt           path num_frames label   (paths relative to OUT/frames)
    OUT/lists/{train,val,heldout}_videos.txt           path label              (paths relative to OUT/videos)
    OUT/lists/{seen,heldout}_labels.csv                id,name
    OUT/settings.json                                  what was rendered, written last

Train and val have the seen classes, heldout the classes that never occur in training. Each clip is drawn from its own
random stream, so that a seed gives the same files for any number of workers. A complete data set with the same settings
is kept, an interrupted one is completed, and one with other settings is rendered again.

Examples:
    python -m demo.make_shapes_world exp/demo/world
    python -m demo.make_shapes_world exp/small --train_per_class 2 --val_per_class 1 --workers 4
"""

import argparse
import hashlib
import json
import multiprocessing
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import numpy as np
import torch
from torchvision.io import encode_jpeg

from demo.shapes_world import FRAMES_PER_SECOND, HELD_OUT_CLASSES, SEEN_CLASSES, ClipClass, render_clip
from utils.cli import Parser, check_counts, run_command
from utils.cores import num_cores
from utils.csv_files import write_csv
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.progress import progress

JPEG_QUALITY = 90
# Without mbtree=0, x264 sometimes writes different bytes for the same pictures, even with one thread.
X264_OPTIONS = {"crf": "16", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
SPLITS = ("train", "val", "heldout")
IMAGE_TEMPLATE = "img_{:05d}.jpg"
OWN_FOLDERS = ("videos", "frames", "lists")


class ClipTask(NamedTuple):
    """One clip to render: `index` counts the clips of its class within its split; `label` is the class's number."""

    out: str
    seed: int
    split: str
    label: int
    index: int

    @property
    def clip_class(self) -> ClipClass:
        return (HELD_OUT_CLASSES if self.split == "heldout" else SEEN_CLASSES)[self.label]

    @property
    def path(self) -> str:
        """<class>/<clip>, under OUT/frames; under OUT/videos with .mp4."""
        return f"{self.clip_class.folder}/{self.split}_{self.index:03d}"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to make")
    parser.add_argument("--train_per_class", type=int, default=25, help="training clips per seen class (default 25)")
    parser.add_argument("--val_per_class", type=int, default=8, help="validation clips per seen class (default 8)")
    parser.add_argument("--heldout_per_class", type=int, default=10, help="clips per held-out class (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=num_cores(), help="processes (default: all cores)")
    return parser.parse_args(arguments)


def world_settings(args: argparse.Namespace) -> dict:
    """Everything that determines the files: the options, and a hash of the code that renders them."""
    code = hashlib.sha256()
    for source in (Path(__file__).with_name("shapes_world.py"), Path(__file__)):
        code.update(source.read_bytes())
    names = ("train_per_class", "val_per_class", "heldout_per_class", "seed")
    return {name: getattr(args, name) for name in names} | {"code": code.hexdigest()[:16]}


def read_settings(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.exists() else None


def prepare_folder(out: Path, settings: dict) -> bool:
    """Prepare `out` for rendering; True if it already contains the complete data set. Raises a UserError if it contains
    other files."""
    started, finished = out / "settings.partial.json", out / "settings.json"
    if read_settings(finished) == settings:
        return True
    if out.exists() and any(out.iterdir()) and not started.exists() and not finished.exists():
        raise UserError(f"{out}: the folder is not empty and was not made by this command; choose another folder")
    if read_settings(started) != settings:
        if out.exists() and any((out / name).exists() for name in OWN_FOLDERS):
            print(f"{out} was created with other settings; rendering it again")
        finished.unlink(missing_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        write_text_atomic(started, json.dumps({"replacing": True}))
        for name in OWN_FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
        write_text_atomic(started, json.dumps(settings, indent=1))
    return False


def list_tasks(args: argparse.Namespace) -> list[ClipTask]:
    """All clips of the data set, in the order of the lists."""
    sizes = {
        "train": (len(SEEN_CLASSES), args.train_per_class),
        "val": (len(SEEN_CLASSES), args.val_per_class),
        "heldout": (len(HELD_OUT_CLASSES), args.heldout_per_class),
    }
    return [
        ClipTask(str(args.out), args.seed, split, label, index)
        for split, (num_classes, per_class) in sizes.items()
        for label in range(num_classes)
        for index in range(per_class)
    ]


def write_video(path: Path, frames: np.ndarray) -> None:
    """Encode uint8 frames (T, H, W, 3) as H.264; the file is renamed when it is complete."""
    unfinished = path.with_name(path.name + ".partial")
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=X264_OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    unfinished.replace(path)


def write_frames(folder: Path, frames: np.ndarray) -> None:
    """Write uint8 frames (T, H, W, 3) as JPEG files; the folder is renamed when it is complete."""
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for number, frame in enumerate(torch.from_numpy(frames).permute(0, 3, 1, 2), start=1):
        jpeg = encode_jpeg(frame.contiguous(), quality=JPEG_QUALITY)
        assert isinstance(jpeg, torch.Tensor)  # a list only for a list
        (unfinished / IMAGE_TEMPLATE.format(number)).write_bytes(jpeg.numpy().tobytes())
    unfinished.replace(folder)


def render_task(task: ClipTask) -> int:
    """In a worker: write a clip unless it exists; returns its number of frames."""
    folder = Path(task.out, "frames", task.path)
    video = Path(task.out, "videos", task.path + ".mp4")
    if folder.exists() and video.exists():
        return sum(1 for _ in folder.iterdir())
    rng = np.random.default_rng([task.seed, SPLITS.index(task.split), task.label, task.index])
    frames = render_clip(task.clip_class, rng)
    for parent in (folder.parent, video.parent):
        parent.mkdir(parents=True, exist_ok=True)
    if not video.exists():
        write_video(video, frames)
    if not folder.exists():
        write_frames(folder, frames)
    return len(frames)


def start_worker() -> None:
    """One thread per worker. Interrupts are handled by the parent, which lets workers finish their clips."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


Task = TypeVar("Task")
Made = TypeVar("Made")


def in_processes(function: Callable[[Task], Made], tasks: list[Task], workers: int, unit: str) -> list[Made]:
    """Results of all tasks in order, with a progress bar; with 1 worker they run in this process."""
    bar = partial(progress, total=len(tasks), desc="rendering", unit=unit)
    if workers == 1:
        return list(bar(map(function, tasks)))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)
    try:
        return list(bar(pool.map(function, tasks)))
    finally:
        pool.shutdown(cancel_futures=True)


def write_lists(out: Path, tasks: list[ClipTask], lengths: list[int]) -> None:
    for split in SPLITS:
        clips = [(task, length) for task, length in zip(tasks, lengths) if task.split == split]
        frames = "".join(f"{task.path} {length} {task.label}\n" for task, length in clips)
        videos = "".join(f"{task.path}.mp4 {task.label}\n" for task, _ in clips)
        write_text_atomic(out / "lists" / f"{split}_frames.txt", frames)
        write_text_atomic(out / "lists" / f"{split}_videos.txt", videos)
    for name, classes in (("seen", SEEN_CLASSES), ("heldout", HELD_OUT_CLASSES)):
        names = [clip_class.name for clip_class in classes]
        write_csv(out / "lists" / f"{name}_labels.csv", ("id", "name"), enumerate(names))
    text = "Videos of moving shapes, rendered by demo/make_shapes_world.py, whose docstring lists the files.\n"
    write_text_atomic(out / "README.txt", text)


def main(args: argparse.Namespace) -> None:
    check_counts(args, "train_per_class", "val_per_class", "heldout_per_class", "workers")
    settings = world_settings(args)
    if prepare_folder(args.out, settings):
        print(f"{args.out} is already complete")
        return

    tasks = list_tasks(args)
    lengths = in_processes(render_task, tasks, args.workers, "clip")
    write_lists(args.out, tasks, lengths)
    (args.out / "settings.partial.json").replace(args.out / "settings.json")
    print(f"{args.out}: {len(tasks)} clips, {sum(lengths)} frames")


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
