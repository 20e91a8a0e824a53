"""Time to make clips from video files, compared with decord and torchcodec: 8 uniform frames per video, opening the
file each time.

python benchmarks/video_to_clips.py VIDEOS [--rounds 9]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.timing import in_ms, interleaved, print_table, ratio, start
from datasets.frame_source import FrameSource
from datasets.readers import open_video
from datasets.sampling import val_uniform
from datasets.video_decoder import VideoDecoder
from utils.errors import UserError

OTHERS = ("decord", "torchcodec")


def read(path: Path, decoder: str) -> torch.Tensor:
    with open_video(path, decoder) as source:
        return source.read(val_uniform(source.num_frames, 8))


def full_decode(path: Path) -> tuple[np.ndarray, str]:
    """All frames decoded in sequence, (N,H,W,3), and the codec."""
    with VideoDecoder(path) as video:
        decoder = video.file.stream.codec_context
        assert decoder is not None
        return np.stack([video.to_rgb(frame) for frame in video.frames()]), decoder.name


def assert_equal(path: Path) -> str:
    """Check that our frames are bit-equal to those of a full decode; returns the codec."""
    frames, codec = full_decode(path)
    ours = read(path, "pyav").permute(0, 2, 3, 1).numpy()
    assert np.array_equal(ours, frames[val_uniform(len(frames), 8)]), path
    return codec


def usable(path: Path, decoder: str, reference: torch.Tensor) -> bool:
    """Whether `decoder` decodes the video to the same frames, up to rounding in the colour conversion."""
    try:
        frames = read(path, decoder)
    except UserError as error:
        print(f"left out: {error}  ")
        return False
    return bool((frames.int() - reference.int()).abs().float().mean() < 4)


def main() -> None:
    args = start(__doc__, 9, "Video files to clips (8 uniform frames, H.264 and others)")
    for decoder in OTHERS:
        FrameSource.named(decoder).check_installed()
    rows, h264 = [], {decoder: [] for decoder in OTHERS}
    for path in sorted(args.videos.iterdir()):
        try:
            ours = read(path, "pyav")
        except UserError as error:
            print(f"left out: {error}  ")
            continue
        codec = assert_equal(path)
        others = [decoder for decoder in OTHERS if usable(path, decoder, ours)]
        functions = {name: lambda _, name=name, path=path: read(path, name) for name in ("pyav", *others)}
        seconds = interleaved(functions, args.rounds)
        row = [path.name, codec, in_ms(seconds["pyav"])]
        for decoder in OTHERS:
            faster = ratio(seconds[decoder], seconds["pyav"]) if decoder in others else None
            row += [in_ms(seconds[decoder]), f"{faster:.2f}"] if faster else ["different frames", ""]
            if faster and codec == "h264":
                h264[decoder].append(faster)
        rows.append(row)
    print()
    columns = ["video", "codec", "ours, ms", "decord, ms", "speed-up", "torchcodec, ms", "speed-up"]
    print_table(columns, rows)
    for decoder, ratios in h264.items():
        mean = np.exp(np.mean(np.log(ratios)))
        print(f"H.264, against {decoder}: {mean:.2f} times faster in the geometric mean, at least {min(ratios):.2f}  ")


if __name__ == "__main__":
    main()
