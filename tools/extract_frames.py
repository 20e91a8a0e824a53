"""Extracts the frames of a folder of videos: VIDEOS/a/b.mp4 becomes OUT/a/b/img_00001.jpg, img_00002.jpg, ...

A frame folder is renamed when it is complete, so the same command resumes an interrupted run. OUT/report.csv has one
line per video: path, status, num_frames, reason. The exit code is 1 if any video failed or a worker process was killed,
2 for invalid arguments.

Examples:
    python -m tools.extract_frames my_videos my_frames
    python -m tools.extract_frames my_videos my_frames --fps 1 --short_side 256 --workers 8
"""

import argparse
import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from datasets.video_decoder import TimedFrame, VideoDecoder
from engine.work_shards import Shard, chosen_shard
from tools import conversion
from tools.conversion import FILE_ERRORS, Result
from tools.media_files import check_template, find_videos
from utils.cli import Parser, run_command
from utils.errors import UserError
from utils.files import sync_path

SETTINGS_FILE = "extract_frames.json"
PARTIAL_FOLDER = ".partial"
# Matroska rounds timestamps to milliseconds; a frame that starts this late still counts as shown.
TIME_TOLERANCE_S = 1e-3


@dataclass(frozen=True)
class Settings:
    """Settings that affect the extracted frames; those of an output folder must not change."""

    fps: float | None  # None: every frame
    short_side: int | None  # pixels; None: no scaling
    quality: int  # JPEG, 1..95
    template: str  # file name, as data.image_tmpl


def frames_at_rate(timed_frames: Iterator[TimedFrame], fps: float) -> Iterator[av.VideoFrame]:
    """The frames shown at 0, 1/fps, 2/fps, ... seconds."""
    num_out = 0
    for frame in timed_frames:
        while num_out / fps < frame.end - TIME_TOLERANCE_S:
            yield frame.image
            num_out += 1
    if num_out == 0:
        yield frame.image


def scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) with the short side at most `short_side`; smaller images are not enlarged."""
    ratio = 1 if short_side is None else short_side / min(width, height)
    return (width, height) if ratio >= 1 else (round(width * ratio), round(height * ratio))


def extract_video(video: Path, folder: Path, settings: Settings) -> tuple[int, str]:
    """Write the frames of `video` to `folder`; returns their number and a note for the report, if any.

    Raises a UserError if the video cannot be decoded completely.
    """
    folder.mkdir(parents=True)
    num_frames = 0
    with VideoDecoder(video) as decoder:
        frames = decoder.timed_frames()
        if settings.fps is not None:
            images = frames_at_rate(frames, settings.fps)
        else:
            images = (frame.image for frame in frames)
        for image in images:
            num_frames += 1
            pixels = decoder.to_rgb(image, scaled(*decoder.size, settings.short_side))
            save_frame(pixels, folder / settings.template.format(num_frames), settings)
        return num_frames, decoder.notes()


def save_frame(pixels: np.ndarray, path: Path, settings: Settings) -> None:
    """Write (H,W,3) RGB as a JPEG file."""
    # Pillow itself would pass over a short write, as of a disk that fills up, and leave a truncated file.
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=settings.quality)
    with path.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        if hasattr(os, "posix_fadvise"):  # starts to flush, so that `sync_path` waits a tenth of the time
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_job(video_root: Path, video: str, out: Path, partial: Path, settings: Settings) -> Result:
    """Extract one video, in a worker: into the folder `partial`, which is moved to its place in OUT at the end."""
    name = folder_name(video)
    unfinished, final = partial / name, out / name
    try:
        num_frames, note = extract_video(video_root / video, unfinished, settings)
        for path in (*unfinished.iterdir(), unfinished):
            sync_path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(final)
        sync_path(final.parent)
    except FILE_ERRORS as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        return conversion.failed(video, error, video_root / video)
    return Result.made(name, "extracted", num_frames, note)


def folder_name(video: str) -> str:
    """The frame folder of a video: its path without extension."""
    return Path(video).with_suffix("").as_posix()


def already_present(videos: list[str], out: Path) -> dict[str, Result]:
    """video -> result, for videos that are already extracted; a note of an earlier run (short) is kept."""
    present = {}
    notes = conversion.earlier_notes(out)
    for video in videos:
        name = folder_name(video)
        if (out / name).is_dir():
            num_frames = sum(1 for _ in os.scandir(out / name))
            present[video] = Result.made(name, "present", num_frames, notes.get(name, ""))
    return present


def find_targets(video_root: Path) -> dict[str, str]:
    """video -> name of its frame folder, for all videos below `video_root`."""
    targets = {video: folder_name(video) for video in find_videos(video_root)}
    if not targets:
        raise UserError(f"{video_root}: no video file in it or below it")
    conversion.check_names(video_root, targets, "video differs only in its extension")
    return targets


def extract_all(args: argparse.Namespace, videos: list[str], settings: Settings, shard: Shard) -> list[Result]:
    """Extract those of `videos` that are missing, with a progress bar, and write the report."""
    out = args.out
    partial = out / PARTIAL_FOLDER / f"{shard.number}-of-{shard.count}"
    shutil.rmtree(out / PARTIAL_FOLDER if shard.is_all else partial, ignore_errors=True)  # of an interrupted run
    present = already_present(videos, out)
    jobs = [(video, (args.videos, video, out, partial, settings)) for video in videos if video not in present]
    results = conversion.run_all(run_job, jobs, args.workers, out, shard, present.values())
    shutil.rmtree(partial, ignore_errors=True)
    with contextlib.suppress(OSError):  # it has other shards' folders, or none was made
        (out / PARTIAL_FOLDER).rmdir()
    return results


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("videos", type=Path, help="folder of videos, searched recursively")
    parser.add_argument("out", type=Path, help="folder for the frame folders, with the same structure")
    parser.add_argument("--fps", type=float, help="frames per second to keep (default: every frame)")
    parser.add_argument(
        "--template", default="img_{:05d}.jpg", help="file name, numbered from 1 (default: img_{:05d}.jpg)"
    )
    conversion.add_options(parser)
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a UserError for invalid options."""
    if args.fps is not None and not 0 < args.fps <= 1000:
        raise UserError(f"--fps {args.fps:g}: must be above 0 and at most 1000")
    check_template(args.template, ".jpg", ".jpeg")
    conversion.check_options(args, args.videos)


def main(args: argparse.Namespace) -> int:
    check_arguments(args)
    settings = Settings(args.fps, args.short_side, args.quality, args.template)
    shard = chosen_shard(args)
    targets = find_targets(args.videos)
    with conversion.locked_output_folder(args.out, SETTINGS_FILE, asdict(settings), shard):
        if args.merge:
            results = conversion.merge_reports(args.out, targets)
        else:
            results = extract_all(args, shard.of(list(targets)), settings, shard)
    return conversion.summarise(results, "extracted", args.videos, args.out, shard)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
