"""Time to read a clip from a tar shard, compared with a loose packed file and webdataset's own reader.

    python benchmarks/clip_shards.py VIDEOS [--rounds 7]

Decodes 8 random frames of each clip. VIDEOS are packed by tools/pack_videos.py (short side 256), each several times,
into loose files and four tar shards. Our readers read clips in a random order; webdataset (if installed) reads each tar
file from beginning to end. The HTTP server runs in this process, so its time is included. All files are in the
operating system's cache, so only CPU time is measured, not disks and networks.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.packed_clips import h264_videos
from benchmarks.range_server import http_server
from benchmarks.timing import in_ms, interleaved, print_table, ratio, run_tool, start
from datasets.byte_ranges import MemoryRange
from datasets.clip_cache import ClipCache
from datasets.clip_shards import ClipShards
from datasets.frame_source import FrameSource
from datasets.packed_clip import PackedClip
from datasets.sampling import train_uniform

COPIES = 4


def frames_of(source: FrameSource) -> torch.Tensor:
    with source:
        return source.read(train_uniform(source.num_frames, 8, np.random.default_rng(0)))


def webdataset_clips(shards: Path) -> Iterator[bytes]:
    """The packed clips of all tar files in webdataset's order, repeated endlessly."""
    import webdataset  # pyright: ignore[reportMissingImports]

    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    while True:
        for sample in webdataset.WebDataset(urls, shardshuffle=False):
            yield sample["mkv"]


def main() -> None:
    args = start(__doc__, 7, "Tar shards (8 random frames)")
    with tempfile.TemporaryDirectory() as folder:
        videos, loose, shards = (Path(folder) / name for name in ("videos", "loose", "shards"))
        videos.mkdir()
        for path in h264_videos(args.videos):
            if path.name != "corrupted.mp4":
                for number in range(COPIES):
                    (videos / f"{path.stem}_{number}{path.suffix}").symlink_to(path.resolve())
        run_tool("pack_videos", videos, loose, "--short_side", 256, "--workers", 1)
        run_tool("pack_videos", videos, shards, "--short_side", 256, "--workers", 1, "--shards", 4)
        names = [path.name for path in sorted(loose.glob("*.mkv"))]
        order = np.random.default_rng(0).permutation(len(names))
        local = ClipShards(str(shards), ClipCache(Path(), 0))
        with http_server(shards) as server:
            remote = ClipShards(server.url, ClipCache(Path(), 0))
            cached = ClipShards(server.url, ClipCache(Path(folder) / "cache", 10**10))
            functions = {
                "loose packed files": lambda number: frames_of(PackedClip(loose / names[order[number % len(names)]])),
                "tar shards, a folder": lambda number: frames_of(local.open(names[order[number % len(names)]])),
                "tar shards, HTTP, cached": lambda number: frames_of(cached.open(names[order[number % len(names)]])),
                "tar shards, HTTP, not cached": lambda number: frames_of(
                    remote.open(names[order[number % len(names)]])
                ),
            }
            for number in range(len(names)):  # also fills the cache
                frames = {name: function(number) for name, function in functions.items()}
                assert all(torch.equal(f, frames["loose packed files"]) for f in frames.values()), names[number]
            try:
                stream = webdataset_clips(shards)
                next(stream)
                functions["webdataset, tar files in order"] = lambda number: frames_of(
                    PackedClip("clip", data=MemoryRange(next(stream)))
                )
            except ModuleNotFoundError:
                print("webdataset is not installed: left out\n")
            seconds = interleaved(functions, args.rounds, len(names))
    print(f"{len(names)} clips; the frames of all our readers are bit-equal\n")
    rows = [
        [name, in_ms(of), f"{1 / np.median(of):.0f}", f"{ratio(of, seconds['loose packed files']):.2f}"]
        for name, of in seconds.items()
    ]
    print_table(["clips from", "ms per clip", "clips/s", "relative time"], rows)


if __name__ == "__main__":
    main()
