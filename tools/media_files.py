"""Finds video files and frame folders."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from inference.video_inputs import VIDEO_SUFFIXES, skipped_files, walk_visible
from utils.errors import UserError
from utils.progress import progress


def walk(root: Path) -> tqdm:
    """`walk_visible` with progress after some seconds."""
    return progress(walk_visible(root), desc=f"scanning {root}", unit="folder", delay=3)


@dataclass(frozen=True)
class FrameFolders:
    """Frame folders below a root. Frames of `faulty` ones are not numbered first_number, first_number + 1, ..."""

    num_frames: dict[str, int]  # folder, relative -> number of frames
    faulty: dict[str, str]  # folder, relative -> reason
    first_number: int  # data.index_bias


def check_template(template: str, *endings: str) -> None:
    """Raise a UserError unless `--template` is a file name with one number field and one of the endings, if any."""
    if not re.fullmatch(r"[^{}/]*\{:0?\d*d\}[^{}/]*", template) or not template.lower().endswith(endings or ""):
        and_ending = f" and {' or '.join(endings)}" if endings else ""
        raise UserError(
            f"--template {template}: must be a name with one number field{and_ending}, such as img_{{:05d}}.jpg"
        )


def find_videos(root: Path) -> list[str]:
    """Video files below `root`, found by extension: sorted relative paths with "/". Hidden files are left out.

    Prints how many files with other extensions were skipped.
    """
    videos = []
    skipped = Counter()
    for folder, _, files in walk(root):
        relative = Path(folder).relative_to(root)
        for name in files:
            suffix = Path(name).suffix.lower()
            if suffix in VIDEO_SUFFIXES:
                videos.append((relative / name).as_posix())
            else:
                skipped[suffix] += 1
    if skipped:
        print(skipped_files(root, skipped))
    return sorted(videos)


def list_fault(name: str) -> str | None:
    """Why a path cannot be written to an annotation list; None if it can."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename it"
    if name != name.strip():
        return "the name begins or ends with a space, which lists do not preserve; rename it"
    if len(name.splitlines()) > 1 or "\0" in name:
        return "the name contains a line break; rename it"
    return None


def find_frame_folders(root: Path, template: str) -> FrameFolders:
    """Folders below `root` with files named `template` (like data.image_tmpl, "img_{:05d}.jpg")."""
    before, after = re.split(r"\{:0?\d*d\}", template)
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    numbers: dict[str, tuple[int, int, int]] = {}  # folder -> first, last, count
    for folder, _, files in walk(root):
        matches = [int(m[1]) for m in map(pattern.fullmatch, files) if m and template.format(int(m[1])) == m[0]]
        if matches:
            numbers[Path(folder).relative_to(root).as_posix()] = (min(matches), max(matches), len(matches))
    if not numbers:
        return FrameFolders({}, {}, 1)
    first_number = Counter(first for first, _, _ in numbers.values()).most_common(1)[0][0]
    num_frames, faulty = {}, {}
    for folder, (first, last, count) in sorted(numbers.items()):
        if first != first_number:
            faulty[folder] = f"frames start at {first}, but in most folders at {first_number}"
        elif last - first + 1 != count:
            faulty[folder] = f"frames {first} to {last} have gaps: only {count} files"
        else:
            num_frames[folder] = count
    return FrameFolders(num_frames, faulty, first_number)
