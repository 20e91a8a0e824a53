"""Time and memory to read a list of many videos and the index of their tar shards, as in each training process.

    python benchmarks/list_memory.py [--clips 1000000]

The list and `shards.csv` are generated. "copied" is the private memory of a forked loader process after it has looked
up a random tenth of the clips, less that of one which has looked up none. Linux only.
"""

import argparse
import gc
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.timing import print_table
from datasets.clip_cache import ClipCache
from datasets.clip_shards import COLUMNS, ClipShards
from datasets.entries import Entries
from datasets.lists import read_list

CLASSES, SHARDS = 400, 2000


def memory(name: str, path: str) -> int:
    """Bytes of a field of a file of /proc/self, which gives kB."""
    lines = Path("/proc/self", path).read_text(encoding="utf-8").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def write_files(folder: Path, num_clips: int) -> None:
    order = np.random.default_rng(0).permutation(num_clips).tolist()
    with (folder / "train.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"class{i % CLASSES:03d}/video_{i:09d}.mkv {i % CLASSES}\n" for i in order)
    with (folder / "shards.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for place, i in enumerate(order):
            shard, row = divmod(place, -(-num_clips // SHARDS))
            path = f"class{i % CLASSES:03d}/video_{i:09d}.mkv"
            file.write(f"{path},{shard:06d}.tar,{2_000_000 * row + 512},{1_900_000 + i % 9999},300,{i % CLASSES}\n")


def private_memory(entries: Entries, shards: ClipShards, indices: np.ndarray, sender: Connection) -> None:
    """In a forked process: send its private memory after looking up some entries, and their number."""
    found = sum(entries[index].path in shards for index in indices)
    sender.send((memory("Private_Dirty", "smaps_rollup"), found))


def in_fork(entries: Entries, shards: ClipShards, indices: np.ndarray) -> tuple[int, float]:
    """Private memory of a forked process in bytes, and its seconds."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    started = time.perf_counter()
    process = multiprocessing.get_context("fork").Process(
        target=private_memory, args=(entries, shards, indices, sender)
    )
    process.start()
    private, found = receiver.recv()
    seconds = time.perf_counter() - started
    process.join()
    assert found == len(indices)
    return private, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), args.clips)
        results = []
        for what, read in (
            ("list", lambda: read_list(f"{name}/train.txt", CLASSES, of_frames=False)),
            ("shards.csv", lambda: ClipShards(name, ClipCache(Path(), 0))),
        ):
            before, started = memory("VmRSS", "status"), time.perf_counter()
            results.append(read())
            seconds = time.perf_counter() - started
            gc.collect()
            kept = memory("VmRSS", "status") - before
            rows.append([what, f"{seconds:.2f}", f"{kept / 1e6:.0f}", f"{kept / args.clips:.0f}"])
        peak = memory("VmHWM", "status") / 1e6
        entries, shards = results
        gc.freeze()  # as before workers are started
        chosen = np.random.default_rng(1).permutation(args.clips)[: args.clips // 10]
        idle, idle_seconds = in_fork(entries, shards, chosen[:0])
        copied, seconds = in_fork(entries, shards, chosen)
    print(f"{args.clips} clips; most memory at any time {peak:.0f} MB\n")
    print_table(["", "seconds", "MB", "bytes per clip"], rows)
    per_clip = 1e6 * (seconds - idle_seconds) / len(chosen)
    print(f"\ncopied by a worker: {(copied - idle) / 1e6:.1f} MB; {per_clip:.1f} microseconds to look up a clip")


if __name__ == "__main__":
    main()
