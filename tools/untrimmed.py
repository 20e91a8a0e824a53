"""ActivityNet and HACS: annotated segments of long videos, as folders of links to extracted frames or as times."""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.entries import ListEntry
from tools.list_sources import Sample, read_columns, read_json
from tools.list_writing import Disk, Labels, Missing, new_entry
from utils.errors import UserError
from utils.progress import progress

SUBSETS = ("training", "validation")  # the test subset has no annotations
HACS_COLUMNS = ("classname", "youtube_id", "subset", "start", "end", "label")


@dataclass(frozen=True)
class Segment:
    """A segment of an untrimmed video, in seconds."""

    start_s: float
    end_s: float
    class_name: str


def segment_of(start: str | float, end: str | float, class_name: str) -> Segment:
    """A segment from its annotation; a start before that of the video is 0. Raises a ValueError if a time is not a
    finite number."""
    start_s, end_s = float(start), float(end)
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        raise ValueError(f"{start} to {end} s")
    return Segment(max(0.0, start_s), end_s, class_name)


@dataclass(frozen=True)
class UntrimmedVideo:
    """A video with its annotated segments."""

    id: str
    segments: tuple[Segment, ...]
    duration_s: float = math.inf

    @property
    def candidates(self) -> tuple[str, ...]:
        return (f"v_{self.id}", self.id)


Untrimmed = Mapping[str, list[UntrimmedVideo]]  # by SUBSETS


def read_activitynet(path: Path) -> Untrimmed:
    """ActivityNet 1.3, HACS Segments: {"database": {id: {"subset", "duration", "annotations": [...]}}},
    an annotation as {"segment": [start, end], "label"}."""
    database = read_json(path, dict).get("database")
    if not isinstance(database, dict):
        raise UserError(f'{path}: contains no "database"; expected a file such as activity_net.v1-3.min.json')
    videos: dict[str, list[UntrimmedVideo]] = {subset: [] for subset in SUBSETS}
    for id, entry in database.items():
        try:
            if entry["subset"] not in videos:
                continue
            parts = [(part, part["segment"]) for part in entry["annotations"]]
            segments = tuple(segment_of(start, end, part["label"]) for part, (start, end) in parts)
            if not all(isinstance(segment.class_name, str) for segment in segments):
                raise TypeError(segments)
            duration = float(entry["duration"])
            if not 0 <= duration < math.inf:
                raise ValueError(duration)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: video {id} has no subset or duration, or an annotation without label or segment, two finite "
                "numbers; download it again"
            ) from error
        if not segments:
            raise UserError(f"{path}: video {id} of {entry['subset']} has no annotation")
        videos[entry["subset"]].append(UntrimmedVideo(id, segments, duration))
    return videos


def read_hacs_clips(path: Path) -> Untrimmed:
    """HACS Clips: a CSV with HACS_COLUMNS; rows with label 1 are clips of the class, those with -1 are negatives.

    Documented in the README.md of github.com/hangzhaomit/HACS-dataset.
    """
    segments: dict[str, dict[str, list[Segment]]] = {subset: {} for subset in SUBSETS}
    for where, row in read_columns(path, HACS_COLUMNS):
        if row["label"] not in ("1", "-1"):
            raise UserError(f"{where}: label is {row['label']!r}; expected 1 or -1")
        if row["subset"] not in segments or row["label"] == "-1":
            continue
        try:
            segment = segment_of(row["start"], row["end"], row["classname"])
        except ValueError as error:
            raise UserError(f"{where}: start or end is not a number") from error
        segments[row["subset"]].setdefault(row["youtube_id"], []).append(segment)
    return {
        subset: [UntrimmedVideo(id, tuple(of_video)) for id, of_video in by_id.items()]
        for subset, by_id in segments.items()
    }


def class_names(videos: Untrimmed) -> list[str]:
    """The names of all classes, sorted."""
    return sorted({segment.class_name for subset in videos.values() for video in subset for segment in video.segments})


def whole(videos: Sequence[UntrimmedVideo]) -> list[Sample]:
    """Each video as one clip of its main class."""
    return [Sample(video.candidates, (main_class(video),)) for video in videos]


def main_class(video: UntrimmedVideo) -> str:
    """The class with the longest total annotation; if equal, the first."""
    seconds: dict[str, float] = {}
    for segment in video.segments:
        seconds[segment.class_name] = seconds.get(segment.class_name, 0.0) + segment.end_s - segment.start_s
    return max(seconds, key=seconds.__getitem__)


def segment_frames(segment: Segment, fps: float, num_frames: int) -> range:
    """0-based frames of a segment, where frame i is at i / fps seconds. Empty if the segment is after the end, or ends
    before it starts."""
    if segment.start_s >= segment.end_s:
        return range(0)
    first = math.floor(segment.start_s * fps)
    stop = min(math.ceil(segment.end_s * fps), num_frames)
    return range(first, stop)


Listed = tuple[list[ListEntry], Missing]


def cut_instances(videos: Sequence[UntrimmedVideo], disk: Disk, labels: Labels, instances: Path, fps: float) -> Listed:
    """A folder of links for each segment, as the line of a list can name only a whole folder."""
    entries, missing = [], []
    for video in progress(videos, unit="video", desc="cutting"):
        for number, segment in enumerate(video.segments):
            clip, reason = disk.find(Sample(video.candidates, (segment.class_name,)))
            name = f"{video.id}_{number:02d}"
            if clip is None:
                missing.append((name, reason))
                continue
            assert clip.num_frames is not None  # a frame folder
            frames = segment_frames(segment, fps, clip.num_frames)
            if not frames:
                reason = f"segment {segment.start_s}-{segment.end_s} s has none of {clip.num_frames} frames"
                missing.append((name, reason))
                continue
            _link_frames(disk.root / clip.path, frames, instances / name, disk.template, disk.first_number)
            entries.append(new_entry(name, len(frames), labels.id(segment.class_name)))
    return entries, missing


def timed(videos: Sequence[UntrimmedVideo], disk: Disk, labels: Labels, by_segment: bool) -> Listed:
    """Lines with the seconds of each segment, or of whole videos, whose class is `main_class`."""
    entries, missing = [], []
    for video in videos:
        whole_video = Segment(0, video.duration_s, main_class(video))
        for number, segment in enumerate(video.segments if by_segment else (whole_video,)):
            clip, reason = disk.find(Sample(video.candidates, (segment.class_name,)))
            times = (segment.start_s, min(segment.end_s, video.duration_s))
            if clip is not None and times[0] >= times[1]:
                clip = None
                reason = f"segment {segment.start_s}-{segment.end_s} s of {video.duration_s} s is empty"
            if clip is None:
                missing.append((f"{video.id}_{number:02d}" if by_segment else video.id, reason))
            else:
                entries.append(new_entry(clip.path, clip.num_frames, labels.id(segment.class_name), times))
    return entries, missing


def _link_frames(source: Path, frames: range, folder: Path, template: str, first_number: int) -> None:
    """Create `folder` with relative links to `frames` (0-based) of the frame folder `source`, renumbered."""
    partial = folder.with_name(f".{folder.name}")  # hidden from searches for frame folders until it is complete
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    up = os.path.relpath(source.resolve(), folder.resolve())
    for position, frame in enumerate(frames):
        link = partial / template.format(first_number + position)
        link.symlink_to(f"{up}/{template.format(first_number + frame)}")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
