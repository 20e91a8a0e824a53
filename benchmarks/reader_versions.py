"""Time of reading in another checkout of this repository and in this one, alternately in two processes: 8 uniform
frames of a video with the default reader, or a training clip of a frame folder, opening it each time.

git worktree add OTHER COMMIT
python benchmarks/reader_versions.py OTHER VIDEOS [--rounds 9]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.timing import in_ms, print_header, print_table
from utils.project_paths import REPOSITORY

ROUND_SECONDS = 0.15
"""CPU time of a round: a short read is repeated, so that the clock's resolution does not matter."""
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**27)}
"""Environment of glibc with the settings of `utils.memory.keep_freed_memory`, which older checkouts lack."""
# Reads "calls path" lines, and writes the CPU seconds of a call; runs in a process for each checkout.
READER = """
import functools, os, sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from datasets.pyav_source import PyAVVideo

def read_video(path, number):
    with PyAVVideo(path) as video:
        video.read(np.linspace(0, video.num_frames - 1, 8).astype(int))

@functools.cache
def num_files(folder):
    return len(os.listdir(folder))

def make_clip(folder, number):
    from datasets.frame_folder import FrameFolder
    from datasets.sampling import train_uniform
    from datasets.transforms import Resize, TrainTransform

    rng = np.random.default_rng(number)
    with FrameFolder(folder, num_files(folder), "img_{:05d}.jpg") as source:
        clip = source.read(train_uniform(source.num_frames, 8, rng), Resize(256))
    TrainTransform(Resize(256), 224)(clip[None], 0, rng)

torch.set_num_threads(1)
for line in sys.stdin:
    calls, path = line.rstrip("\\n").split(" ", 1)
    read = make_clip if os.path.isdir(path) else read_video
    started = time.process_time()
    for number in range(int(calls)):
        read(path, number)
    print((time.process_time() - started) / int(calls), flush=True)
"""


class Checkout:
    """A process that reads videos with the reader of one checkout."""

    def __init__(self, root: Path):
        command = [sys.executable, "-c", READER, str(root)]
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env={**os.environ, **KEEP_FREED_MEMORY},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def seconds(self, path: Path, calls: int) -> float | None:
        """CPU seconds of a call; None if the video cannot be read, which ends the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(calls, path.resolve(), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        return float(answer) if answer else None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def compare(path: Path, other: Path, rounds: int) -> list[str] | None:
    """The row of a video; None if a checkout cannot read it."""
    checkouts = [Checkout(other), Checkout(REPOSITORY)]
    try:
        first = [checkout.seconds(path, 2) for checkout in checkouts]
        if None in first:
            return None
        calls = max(1, int(ROUND_SECONDS / max(filter(None, first))))
        seconds = np.array([[checkout.seconds(path, calls) for checkout in checkouts] for _ in range(rounds)], float).T
    finally:
        for checkout in checkouts:
            checkout.close()
    return [path.name, *map(in_ms, seconds), f"{np.median(seconds[1] / seconds[0]):.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("videos", type=Path, help="folder of videos, or of frame folders of tools.extract_frames")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print_header("Reading in two checkouts")
    rows = [compare(path, args.other, args.rounds) for path in sorted(args.videos.iterdir())]
    print_table(["video or folder", "other checkout, ms", "this one, ms", "ratio"], [row for row in rows if row])


if __name__ == "__main__":
    main()
