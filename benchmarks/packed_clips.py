"""Time to sample packed clips, compared with video files and loose JPEG frames.

    python benchmarks/packed_clips.py VIDEOS [--rounds 9]

Reads 8 random frames, one from each of 8 segments, as in training; files are opened each time. tools/pack_videos.py and
tools/extract_frames.py prepare VIDEOS, both with a short side of 256 and quality 90.
"""

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np
import torch

from benchmarks.timing import in_ms, interleaved, print_table, ratio, run_tool, start
from datasets.entries import ListEntry
from datasets.readers import open_source
from datasets.sampling import train_uniform
from utils.schema import DataConfig


def h264_videos(folder: Path) -> list[Path]:
    """The H.264 files of a folder."""
    videos = []
    for path in sorted(folder.iterdir()):
        try:
            with av.open(str(path)) as container:
                if container.streams.best("video").codec_context.name == "h264":
                    videos.append(path)
        except (av.FFmpegError, AttributeError):
            continue
    return videos


def read(root: Path, name: str, num_frames: int, reader: str, number: int) -> torch.Tensor:
    """Eight training frames; `reader` is "RGB" for loose frames, otherwise the decoder."""
    data = DataConfig() if reader == "RGB" else DataConfig(modality="video", decoder=reader)
    with open_source(data, root, ListEntry(name, num_frames, 0, 1)) as source:
        return source.read(train_uniform(source.num_frames, 8, np.random.default_rng(number)))


def main() -> None:
    args = start(__doc__, 9, "Packed clips (8 random frames)")
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        videos, frames, packed = (Path(folder) / name for name in ("videos", "frames", "packed"))
        videos.mkdir()
        for path in h264_videos(args.videos):
            if path.name != "corrupted.mp4":
                shutil.copy(path, videos / path.name)
        run_tool("extract_frames", videos, frames, "--short_side", 256, "--workers", 1)
        run_tool("pack_videos", videos, packed, "--short_side", 256, "--workers", 1)
        for path in sorted(videos.iterdir()):
            num_frames = len(list((frames / path.stem).iterdir()))
            places: dict[str, tuple[Path, str, int, str]] = {
                "ours": (videos, path.name, num_frames, "pyav"),
                "decord": (videos, path.name, num_frames, "decord"),
                "packed": (packed, f"{path.stem}.mkv", num_frames, "pyav"),
                "loose": (frames, path.stem, num_frames, "RGB"),
            }
            functions = {name: partial(read, *place) for name, place in places.items()}
            for number in range(5):
                assert torch.equal(functions["packed"](number), functions["loose"](number)), path
            seconds = interleaved(functions, args.rounds, 2)
            ratios.append([ratio(seconds[name], seconds["packed"]) for name in ("ours", "decord")])
            ratios[-1].append(ratio(seconds["packed"], seconds["loose"]))
            megabytes = [file.stat().st_size / 1e6 for file in (path, packed / f"{path.stem}.mkv")]
            times = [in_ms(seconds[name]) for name in functions]
            rows.append([path.name, num_frames, *times, *(f"{value:.2f}" for value in [*ratios[-1], *megabytes])])
    print("frames of packed clips and of loose files: bit-equal\n")
    columns = ["video", "frames", "video by our reader, ms", "by decord, ms", "packed, ms", "loose, ms"]
    print_table([*columns, "ours / packed", "decord / packed", "packed / loose", "MB, video", "MB, packed"], rows)
    for what, chosen in (("all", ratios), ("10 s and longer", [r for r, row in zip(ratios, rows) if row[1] >= 280])):
        ours, decord, loose = np.exp(np.mean(np.log(chosen), axis=0))
        print(
            f"geometric means, {what}: {ours:.1f} times faster than the video by our reader, {decord:.1f} by decord; "
            f"{loose:.2f} of the time of loose frames  "
        )


if __name__ == "__main__":
    main()
