"""Time and memory to read a list of many videos and the index of their tar shards, and to draw the order of an epoch,
as each training process does.

    python benchmarks/list_memory.py [--clips 1000000]

The list and `shards.csv` are generated. "copied" is the private memory of a forked loader process that has looked up a
random tenth of the clips, less that of one that has looked up none. Linux only.
"""

import argparse
import gc
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.timing import memory_bytes, print_header, print_table
from datasets.clip_cache import ClipCache
from datasets.clip_shards import COLUMNS, ClipShards
from datasets.entries import Entries
from datasets.lists import read_list
from datasets.samplers import TrainBatches

NUM_CLASSES, NUM_SHARDS = 400, 20_000
Read = TypeVar("Read")


def write_files(folder: Path, num_clips: int) -> None:
    per_shard = -(-num_clips // NUM_SHARDS)
    with (folder / "train.txt").open("w", encoding="utf-8") as clips, (folder / "shards.csv").open("w") as index:
        index.write(",".join(COLUMNS) + "\n")
        for place, number in enumerate(np.random.default_rng(0).permutation(num_clips)):
            label = number % NUM_CLASSES
            path = f"class{label:03d}/video_{number:09d}.mkv"
            clips.write(f"{path} {label}\n")
            shard, row = divmod(place, per_shard)
            index.write(f"{path},{shard:06d}.tar,{2_000_000 * row + 512},{1_900_000 + number % 9999},300,{label}\n")


def measured(read: Callable[[], Read], num_clips: int) -> tuple[Read, list[str]]:
    """What `read` returns, and the cells of its row."""
    before = memory_bytes("VmRSS", "status")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts from the current memory
    started = time.process_time()
    result = read()
    seconds = time.process_time() - started
    gc.collect()
    kept, most = memory_bytes("VmRSS", "status") - before, memory_bytes("VmHWM", "status") - before
    return result, [f"{seconds:.1f}", f"{kept / 1e6:.0f}", f"{kept / num_clips:.0f}", f"{most / 1e6:.0f}"]


def look_up(entries: Entries, shards: ClipShards, places: np.ndarray, sender: Connection) -> None:
    """In a forked process: send its private memory after looking up some entries, and the CPU seconds."""
    started = time.process_time()
    assert all(entries[place].path in shards for place in places)
    sender.send((memory_bytes("Private_Dirty", "smaps_rollup"), time.process_time() - started))


def in_fork(entries: Entries, shards: ClipShards, places: np.ndarray) -> tuple[int, float]:
    """Private memory in bytes and CPU seconds of a forked process that looks up the clips at `places`."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=look_up, args=(entries, shards, places, sender))
    process.start()
    answer = receiver.recv()
    process.join()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    args = parser.parse_args()
    print_header(f"A list of {args.clips:,} clips and the index of their shards")
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), args.clips)
        entries, of_list = measured(lambda: read_list(f"{folder}/train.txt", NUM_CLASSES, of_frames=False), args.clips)
        shards, of_index = measured(lambda: ClipShards(folder, ClipCache(Path(), 0)), args.clips)
        batches = TrainBatches(args.clips, 128, world_size=64, rank=0, seed=1)
        _, of_order = measured(lambda: next(iter(batches)), args.clips)
    rows = [["list", *of_list], ["shards.csv", *of_index], ["order of an epoch", *of_order]]
    print_table(["", "CPU seconds", "MB", "bytes per clip", "MB while reading"], rows)
    gc.freeze()  # as before the loader processes are started
    places = np.random.default_rng(1).permutation(args.clips)[: args.clips // 10]
    unused, _ = in_fork(entries, shards, places[:0])
    private, seconds = in_fork(entries, shards, places)
    print(f"\ncopied: {(private - unused) / 1e6:.1f} MB; {1e6 * seconds / len(places):.1f} us to look up a clip")


if __name__ == "__main__":
    main()
