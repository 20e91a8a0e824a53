"""Time of the default video reader in another checkout of this repository and in this one: 8 uniform frames per video,
opening the file each time, alternately in two processes.

git worktree add OTHER COMMIT
python benchmarks/reader_versions.py OTHER VIDEOS [--rounds 9]
"""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.timing import in_ms, print_header, print_table
from utils.project_paths import REPOSITORY

ROUND_SECONDS = 0.15
"""CPU time of a round: a short read is repeated, so that the clock's resolution does not matter."""
# Reads "calls path" lines, and writes the CPU seconds of a call; runs in a process for each checkout.
READER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from datasets.pyav_source import PyAVVideo
torch.set_num_threads(1)
for line in sys.stdin:
    calls, path = line.rstrip("\\n").split(" ", 1)
    started = time.process_time()
    for _ in range(int(calls)):
        with PyAVVideo(path) as video:
            video.read(np.linspace(0, video.num_frames - 1, 8).astype(int))
    print((time.process_time() - started) / int(calls), flush=True)
"""


class Checkout:
    """A process that reads videos with the reader of one checkout."""

    def __init__(self, root: Path):
        command = [sys.executable, "-c", READER, str(root)]
        self._process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
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
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print_header("The video reader in two checkouts")
    rows = [compare(path, args.other, args.rounds) for path in sorted(args.videos.iterdir())]
    print_table(["video", "other checkout, ms", "this one, ms", "ratio"], [row for row in rows if row])


if __name__ == "__main__":
    main()
