"""Cut a folder of videos into folders of JPEG frames: VIDEOS/a/b.mp4 becomes OUT/a/b/img_00001.jpg, img_00002.jpg, ...

    python -m tools.extract_frames VIDEOS OUT [--fps 1] [--short-side 256] [--workers 8]

A frame folder gets its name only when it is whole, so that an interrupted run goes on where it stopped when the same
command is given again. OUT/report.csv has one line a video: path, status, num_frames, reason. The exit status is 1 if
any video failed or a worker process was killed, 2 for a mistake in the command.
"""

import argparse
import math
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from tools.conversion import (
    FILE_ERRORS,
    DamagedVideoError,
    Result,
    failed,
    only_run_in,
    read_report,
    run_all,
    summarise,
)
from tools.media_files import find_videos
from utils.cli import run_command
from utils.errors import UserError
from utils.files import check_writable
from utils.local_video import open_local

SETTINGS_FILE = "extract_frames.json"
PARTIAL_FOLDER = ".partial"
# Share of the promised frames (or seconds) that may be lost at the cut ends of a intact file, such as leading pictures
# without their key frame. More than that missing means a damaged or truncated file.
MAX_SHARE_LOST = 0.02
# Matroska rounds time stamps to a millisecond; a frame that begins this late still counts as on show.
TIME_TOLERANCE_S = 1e-3


@dataclass(frozen=True)
class Settings:
    """What decides the pixels and the number of the frames; one output folder has one of these."""

    fps: float | None  # None: every frame
    short_side: int | None  # pixels; None: as it is
    quality: int  # JPEG, 1..95
    template: str  # file name, as data.image_tmpl


class Decoder:
    """Every frame of the best video stream in order of showing, and the proof that the file was whole."""

    def __init__(self, container: InputContainer):
        self.container = container
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            raise DamagedVideoError("the file has no video stream")
        self.stream = stream
        self.num_frames = 0
        self.data_end_s = 0.0

    def frames(self) -> Iterator[av.VideoFrame]:
        # Packets of all streams are walked, as sound may outlast the picture: the data end where the last of them does.
        for packet in self.container.demux():
            if packet.pts is not None and packet.time_base is not None:
                self.data_end_s = max(self.data_end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != self.stream.index:
                continue
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame)
                if frame.is_corrupt:
                    raise DamagedVideoError(f"frame {self.num_frames + 1} is damaged")
                self.num_frames += 1
                yield frame

    def timed_frames(self) -> Iterator[tuple[av.VideoFrame, float]]:
        """(frame, seconds since the first one). A frame without a time stamp follows the last at the mean rate."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        first_s, last_s = None, 0.0
        for frame in self.frames():
            if first_s is None:
                first_s = frame.time or 0.0
                time_s = 0.0
            elif frame.time is not None:
                time_s = max(frame.time - first_s, last_s)
            elif rate:
                time_s = last_s + float(1 / rate)
            else:
                raise DamagedVideoError("frames have no time stamps and the file names no rate: leave --fps out")
            yield frame, time_s
            last_s = time_s

    def shortfall(self) -> str:
        """After the last frame: "" if all that the header promises came, else how much less it was.

        Raises DamagedVideoError if nothing came, or more than MAX_SHARE_LOST is missing.
        """
        if self.num_frames == 0:
            raise DamagedVideoError("no frame could be decoded")
        promised_frames = self.stream.frames
        promised_s = (self.container.duration or 0) / av.time_base
        end_s = self.data_end_s - (self.container.start_time or 0) / av.time_base
        if promised_frames:
            lost = promised_frames - self.num_frames
            reason = f"the header promises {promised_frames} frames, {self.num_frames} could be decoded"
            too_much = lost > max(1, MAX_SHARE_LOST * promised_frames)
        else:  # Matroska and its kin state no number of frames, but a duration
            lost = promised_s - end_s
            reason = f"the header promises {promised_s:.2f} s, the data end at {end_s:.2f} s"
            too_much = lost > max(0.5, MAX_SHARE_LOST * promised_s)
            lost = lost if too_much else 0
        if too_much:
            raise DamagedVideoError(reason)
        return reason if lost > 0 else ""


def frames_at_rate(timed_frames: Iterator[tuple[av.VideoFrame, float]], fps: float) -> Iterator[av.VideoFrame]:
    """The frame on show at 0, 1/fps, 2/fps, ... seconds. The last one is taken to last as long as the one before it."""
    num_out = 0
    current, current_s, gap_s = None, 0.0, 0.0
    for frame, time_s in timed_frames:
        while current is not None and num_out / fps < time_s - TIME_TOLERANCE_S:
            yield current
            num_out += 1
        gap_s = time_s - current_s
        current, current_s = frame, time_s
    while current is not None and (num_out == 0 or num_out / fps < current_s + gap_s - TIME_TOLERANCE_S):
        yield current
        num_out += 1


def save_frame(frame: av.VideoFrame, path: Path, settings: Settings) -> None:
    """Writes RGB JPEG, upright, its short side at most `short_side` (a smaller frame is not enlarged)."""
    width, height = frame.width, frame.height
    short_side = min(width, height)
    if settings.short_side is not None and short_side > settings.short_side:
        width = round(width * settings.short_side / short_side)
        height = round(height * settings.short_side / short_side)
    image = frame.to_image(width=width, height=height, interpolation="BICUBIC")
    if frame.rotation:  # phones store sideways and say by how much to turn, counter-clockwise
        image = image.rotate(frame.rotation, expand=True)
    image.save(path, quality=settings.quality)


def extract_video(video: Path, folder: Path, settings: Settings) -> tuple[int, str]:
    """Writes the frames of `video` into `folder`; returns their number and what the report should note, if anything.

    Raises DamagedVideoError or av.FFmpegError for a video that does not decode whole.
    """
    folder.mkdir(parents=True)
    num_frames = 0
    with open_local(video) as container:
        decoder = Decoder(container)
        if settings.fps is None:
            frames = decoder.frames()
        else:
            frames = frames_at_rate(decoder.timed_frames(), settings.fps)
        for frame in frames:
            num_frames += 1
            save_frame(frame, folder / settings.template.format(num_frames), settings)
        return num_frames, decoder.shortfall()


def run_job(video_root: Path, video: str, out: Path, settings: Settings) -> Result:
    """One video, in a worker: extracts into OUT/.partial and moves the whole folder to its place at the end."""
    name = str(Path(video).with_suffix("").as_posix())
    partial, final = out / PARTIAL_FOLDER / name, out / name
    try:
        num_frames, note = extract_video(video_root / video, partial, settings)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(final)
    except FILE_ERRORS as error:
        shutil.rmtree(partial, ignore_errors=True)
        return failed(video, error)
    return Result(name, "short" if note else "extracted", num_frames, note)


def already_present(videos: list[str], out: Path) -> dict[str, Result]:
    """video -> result, for those whose frame folder is in place; a note of an earlier run (short) is kept."""
    earlier = read_report(out)
    present = {}
    for video in videos:
        name = str(Path(video).with_suffix("").as_posix())
        if (out / name).is_dir():
            note = earlier[name].reason if name in earlier else ""
            num_frames = sum(1 for _ in os.scandir(out / name))
            present[video] = Result(name, "short" if note else "present", num_frames, note)
    return present


def extract_all(video_root: Path, out: Path, settings: Settings, num_workers: int) -> list[Result]:
    """Extracts what is not there yet, shows progress, and writes the report."""
    videos = find_videos(video_root)
    if not videos:
        raise UserError(f"{video_root}: no video file in it or below it")
    names = Counter(str(Path(video).with_suffix("")) for video in videos)
    for video in videos:
        if names[str(Path(video).with_suffix(""))] > 1:
            raise UserError(f"{video_root / video}: another video differs only in its suffix; rename one")
    with only_run_in(out, SETTINGS_FILE, asdict(settings)):
        shutil.rmtree(out / PARTIAL_FOLDER, ignore_errors=True)  # what an interrupted run left
        present = already_present(videos, out)
        jobs = [(video, (video_root, video, out, settings)) for video in videos if video not in present]
        results = run_all(run_job, jobs, num_workers, out, present.values())
        shutil.rmtree(out / PARTIAL_FOLDER, ignore_errors=True)
    return results


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of videos; searched to any depth")
    parser.add_argument("out", type=Path, help="folder for the frame folders, in the same structure")
    parser.add_argument("--fps", type=float, help="frames a second to keep (default: every frame)")
    parser.add_argument(
        "--short-side", type=int, help="scale the short side down to this many pixels (default: as it is)"
    )
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1 to 95 (default: 90)")
    parser.add_argument(
        "--template", default="img_{:05d}.jpg", help="file name, numbered from 1 (default: img_{:05d}.jpg)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one for each CPU)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def check_arguments(args: argparse.Namespace) -> None:
    if not args.videos.is_dir():
        raise UserError(f"{args.videos}: no such folder")
    if args.fps is not None and not 0 < args.fps < math.inf:
        raise UserError(f"--fps {args.fps:g}: must be above 0, and finite")
    if args.short_side is not None and args.short_side < 1:
        raise UserError(f"--short-side {args.short_side}: must be at least 1")
    if not 1 <= args.quality <= 95:
        raise UserError(f"--quality {args.quality}: must be in 1..95")
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be at least 1")
    if not re.fullmatch(r"[^{}/]*\{:0?\d*d\}[^{}/]*\.jpe?g", args.template):
        raise UserError(f"--template {args.template}: must be a .jpg name with one number in it, as img_{{:05d}}.jpg")
    if args.out.resolve().is_relative_to(args.videos.resolve()):
        raise UserError(f"{args.out}: lies inside the folder of videos; give one outside it")
    check_writable(args.out, "OUT", is_folder=True)


def extract(args: argparse.Namespace) -> int:
    check_arguments(args)
    settings = Settings(args.fps, args.short_side, args.quality, args.template)
    results = extract_all(args.videos, args.out, settings, args.workers)
    return summarise(results, "extracted", args.videos, args.out)


def main(argv: list[str] | None = None) -> int:
    return run_command(extract, parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
