"""Packs each video into one file with fast access to every frame: VIDEOS/a/b.mp4 becomes OUT/a/b.mkv.

A packed clip is motion JPEG in Matroska, which any player supports; training and testing read it like a video
(data.modality: video). With --frames, each frame folder becomes one file, and JPEG frames that need no scaling are
copied unchanged.

With --shards N, the clips are written to N tar files in WebDataset format (KEY.mkv, KEY.json), with an index in
OUT/shards.csv: set data.train_root to OUT, or to its URL in an object store. --labels adds labels to KEY.json and
shards.csv for other programs; here they come from lists. To retry failed videos, delete their tar file.

A file is renamed when it is complete, so the same command resumes an interrupted run. OUT/report.csv has one line per
video: path, status, num_frames, reason. The exit code is 1 if any failed or a worker process was killed, 2 for
invalid arguments.

Examples:
    python -m tools.pack_videos my_videos my_packed --short_side 256 --workers 8
    python -m tools.pack_videos my_frames my_packed --frames --fps 25
    python -m tools.pack_videos my_videos my_shards --shards 64 --labels lists/train.txt lists/val.txt
"""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from datasets.entries import Label
from datasets.image_decoding import decode_image, is_upright
from datasets.lists import read_list, unreadable
from datasets.packed_clip import PackedClip, write_packed_clip
from datasets.video_decoder import VideoDecoder
from engine.work_shards import FOLDER, Shard, chosen_shard, report_file, shard_files
from tools import conversion, tar_shards
from tools.conversion import FILE_ERRORS, Result
from tools.extract_frames import scaled
from tools.media_files import check_template, find_frame_folders, find_videos
from utils.cli import Parser, run_command
from utils.errors import UserError
from utils.files import atomic_path
from utils.hashing import content_hash, file_hash
from utils.terminal import print_error_line

SETTINGS_FILE = "pack_videos.json"


class Job(NamedTuple):
    """Relative paths of a video or frame folder and of its packed clip, and the frames of a folder."""

    source: str
    target: str
    first_number: int = 0
    num_frames: int = 0


@dataclass(frozen=True)
class Settings:
    """Settings that affect the packed clips; those of an output folder must not change."""

    frames: bool  # pack frame folders instead of videos
    short_side: int | None  # pixels; None: no scaling
    quality: int  # JPEG, 1..95
    template: str | None  # file name of a frame, as data.image_tmpl; None: videos
    fps: float | None  # playback frame rate; None: that of the video
    shards: int | None = None  # number of tar files; None: one file per clip
    labels: list[str] | None = None  # hashes of the lists

    def saved(self) -> dict:
        left_out = () if self.frames else ("template", "fps")
        return {key: value for key, value in asdict(self).items() if key not in left_out}


class Encoder:
    """Encodes images as JPEG; all must have the size of the first."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.size: tuple[int, int] | None = None  # (width, height)

    def check(self, size: tuple[int, int], which: str) -> None:
        self.size = self.size or size
        if size != self.size:
            raise UserError(f"{which} is {size[0]}x{size[1]}, but earlier frames are {self.size[0]}x{self.size[1]}")

    def jpeg(self, image: Image.Image, which: str) -> bytes:
        self.check(image.size, which)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=self.settings.quality)
        return buffer.getvalue()


def video_frames(decoder: VideoDecoder, encoder: Encoder) -> Iterator[tuple[bytes, int]]:
    """(JPEG, time in ms) of each frame, upright; identical to the files of `extract_frames.py`."""
    for number, frame in enumerate(decoder.timed_frames()):
        pixels = decoder.to_rgb(frame.image, scaled(*decoder.size, encoder.settings.short_side))
        yield encoder.jpeg(Image.fromarray(pixels), f"frame {number}"), round(frame.begin * 1000)


def folder_frames(paths: list[Path], encoder: Encoder) -> Iterator[tuple[bytes, int]]:
    """(JPEG, time in ms) of each frame file. JPEGs that need no scaling are checked and copied unchanged."""
    fps = encoder.settings.fps
    assert fps is not None  # always set for frame folders
    for number, path in enumerate(paths):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from error
        pixels = decode_image(data, str(path))
        height, width, _ = pixels.shape
        size = scaled(width, height, encoder.settings.short_side)
        is_jpeg = data[:2] == b"\xff\xd8"
        if is_jpeg and is_upright(data) and size == (width, height):
            encoder.check(size, path.name)
        else:
            image = Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.BICUBIC)
            data = encoder.jpeg(image, path.name)
        yield data, round(number * 1000 / fps)


def pack(root: Path, job: Job, out: Path, settings: Settings) -> tuple[int, str]:
    """Write the packed clip; returns its number of frames and a note for the report, if any."""
    encoder = Encoder(settings)
    with atomic_path(out / job.target) as temporary:
        if settings.frames:
            assert settings.template is not None
            names = [settings.template.format(job.first_number + i) for i in range(job.num_frames)]
            paths = [root / job.source / name for name in names]
            return write_stream(temporary, folder_frames(paths, encoder), encoder), ""
        with VideoDecoder(root / job.source) as decoder:
            return write_stream(temporary, video_frames(decoder, encoder), encoder), decoder.notes()


def write_stream(path: Path, frames: Iterator[tuple[bytes, int]], encoder: Encoder) -> int:
    """Write the frames; the first is encoded before the file is opened, since it determines the size."""
    first = next(frames, None)
    if first is None:
        raise UserError("no frame could be decoded")
    assert encoder.size is not None  # the first frame set it
    return write_packed_clip(path, chain([first], frames), *encoder.size)


def run_job(root: Path, job: Job, out: Path, settings: Settings) -> Result:
    """Pack one video or frame folder, in a worker. The status is packed, short (packed, but see the reason) or
    failed."""
    try:
        num_frames, note = pack(root, job, out, settings)
    except FILE_ERRORS as error:
        return conversion.failed(job.source, error, root / job.source)
    return Result.made(job.target, "packed", num_frames, note)


def find_jobs(root: Path, settings: Settings) -> tuple[list[Job], list[Result]]:
    """The videos or frame folders to pack, and those that are invalid."""
    faults = []
    if settings.frames:
        assert settings.template is not None
        folders = find_frame_folders(root, settings.template)
        faults = [Result(name, "failed", 0, reason) for name, reason in folders.faulty.items()]
        # The source folder may be a frame folder itself.
        targets = {name: f"{root.resolve().name if name == '.' else name}.mkv" for name in folders.num_frames}
        jobs = [Job(name, targets[name], folders.first_number, count) for name, count in folders.num_frames.items()]
    else:
        jobs = [Job(name, Path(name).with_suffix(".mkv").as_posix()) for name in find_videos(root)]
    if not jobs and not faults:
        raise UserError(f"{root}: no {'frame folder' if settings.frames else 'video file'} in it or below it")
    other = "frame folder has the same name" if settings.frames else "video differs only in its extension"
    conversion.check_names(root, {job.source: job.target for job in jobs}, other)
    return jobs, faults


def already_packed(names: Iterable[str], out: Path) -> dict[str, Result]:
    """name -> result of intact clips from an earlier run, with its notes."""
    present = {}
    notes = conversion.earlier_notes(out)
    for name in names:
        if not (out / name).is_file():
            continue
        try:
            with PackedClip(out / name) as clip:
                present[name] = Result.made(name, "present", clip.num_frames, notes.get(name, ""))
        except UserError:  # corrupted: pack it again
            (out / name).unlink()
    return present


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("source", type=Path, help="folder of videos or of frame folders, searched recursively")
    parser.add_argument("out", type=Path, help="folder for the packed clips, with the same structure")
    parser.add_argument("--frames", action="store_true", help="pack frame folders instead of videos")
    parser.add_argument("--template", help="with --frames: file name of a frame (default: img_{:05d}.jpg)")
    parser.add_argument("--fps", type=float, help="with --frames: playback frame rate (default: 25)")
    parser.add_argument("--shards", type=int, metavar="N", help="pack into N tar files with an index")
    parser.add_argument("--labels", nargs="+", default=[], metavar="LIST", help="with --shards: lists with labels")
    conversion.add_options(parser)
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a UserError for invalid options."""
    for option, value in (("--template", args.template), ("--fps", args.fps)):
        if value is not None and not args.frames:
            raise UserError(f"{option} {value}: needs --frames; add --frames or remove it")
    if args.fps is not None and not 0 < args.fps <= 1000:
        raise UserError(f"--fps {args.fps:g}: must be above 0 and at most 1000")
    if args.template is not None:
        check_template(args.template)
    if args.shards is not None and args.shards < 1:
        raise UserError(
            f"--shards {args.shards}: must be at least 1 (to run part I on one of N machines, use --shard I/N)"
        )
    if args.labels and not args.shards:
        raise UserError("--labels: needs --shards; add --shards or remove it")
    conversion.check_options(args, args.source)


def read_label_lists(paths: list[str], of_frames: bool) -> dict[str, Label]:
    """Path without extension -> label, for all entries of the lists: a class id, or tuples of them if any line has
    several or none. Raises a UserError if a list is invalid, or a clip has different labels."""
    classes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        for entry in read_list(path, sys.maxsize, of_frames=of_frames, allow_outside_root=True, multi_label=True):
            name = entry.path if of_frames else Path(entry.path).with_suffix("").as_posix()
            first = classes.setdefault(name, entry.classes)
            if first != entry.classes:
                raise UserError(
                    f"{path}:{entry.line}: {entry.path} has label {list(entry.classes)}, but {list(first)} in another "
                    "line; correct one of them"
                )
    if any(len(ids) != 1 for ids in classes.values()):
        return dict(classes)
    return {name: ids[0] for name, ids in classes.items()}


def check_labels(labels: Mapping[str, Label], lists: list[str], jobs: list[Job]) -> None:
    """Raise a UserError if no clip has a label; warn of clips without one."""
    num_labelled = sum(name_of(job) in labels for job in jobs)
    if jobs and num_labelled == 0:
        raise UserError(
            f"--labels {' '.join(lists)}: lists none of the {len(jobs)} clips, such as {name_of(jobs[0])}; its paths "
            "must start from the folder of the videos"
        )
    if num_labelled < len(jobs):
        print_error_line(f"warning: {len(jobs) - num_labelled} of {len(jobs)} clips are in no list of --labels")


def name_of(job: Job) -> str:
    """The path of a clip without extension."""
    return job.target.removesuffix(".mkv")


def main(args: argparse.Namespace) -> int:
    check_arguments(args)
    labels = read_label_lists(args.labels, args.frames)
    settings = Settings(
        frames=args.frames,
        short_side=args.short_side,
        quality=args.quality,
        template=(args.template or "img_{:05d}.jpg") if args.frames else None,
        fps=(args.fps or 25.0) if args.frames else None,
        shards=args.shards,
        labels=[file_hash(path) for path in args.labels] or None,
    )
    shard = chosen_shard(args)
    jobs, faults = find_jobs(args.source, settings)
    if labels:
        check_labels(labels, args.labels, jobs)
    saved = settings.saved()
    if args.shards:  # which clips are in a tar file depends on all of them
        saved["videos"] = f"{len(jobs)}, {content_hash([ascii(job.target) for job in jobs])[:8]}"
    with conversion.locked_output_folder(args.out, SETTINGS_FILE, saved, shard):
        if args.shards:
            clips = [tar_shards.Clip(job.target, (args.source, job), labels.get(name_of(job))) for job in jobs]
            results = pack_into_tars(args, settings, shard, clips, faults)
        elif args.merge:
            results = conversion.merge_reports(args.out, {job.source: job.target for job in jobs})
        else:
            results = pack_missing(args, settings, shard, shard.of(jobs), faults if shard.number == 1 else [])
    return conversion.summarise(results, "packed", args.source, args.out, shard)


def pack_into_tars(
    args: argparse.Namespace, settings: Settings, shard: Shard, clips: list[tar_shards.Clip], faults: list[Result]
) -> list[Result]:
    """Pack the missing tar files of the shard, or merge the results of all shards; write the report."""
    if args.merge:
        return tar_shards.finish(args.out, args.shards, len(shard_files(args.out / FOLDER, ".lock")), faults)
    packing = tar_shards.Packing(run_job, settings, args.out)
    tar_shards.pack_tars(packing, clips, args.shards, shard, args.workers)
    if shard.is_all:
        return tar_shards.finish(args.out, args.shards, 1, faults)
    results = tar_shards.results_of(args.out, shard.of(range(args.shards)))
    conversion.write_report(report_file(args.out, shard), results)
    return results


def pack_missing(
    args: argparse.Namespace, settings: Settings, shard: Shard, jobs: list[Job], known: list[Result]
) -> list[Result]:
    """Pack those of `jobs` whose clips are missing; the report also has the lines `known`."""
    names = {job.target for job in jobs}
    for partial in args.out.rglob(".*.tmp"):  # left by a killed run
        if partial.with_name(partial.name[1:].rsplit(".", 2)[0]).relative_to(args.out).as_posix() in names:
            partial.unlink()
    present = already_packed(names, args.out)
    left = [(job.source, (args.source, job, args.out, settings)) for job in jobs if job.target not in present]
    return conversion.run_all(run_job, left, args.workers, args.out, shard, [*known, *present.values()])


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
