"""`pack_videos.py --shards N`: packed clips in N tar files in WebDataset format, and the index `shards.csv`.

Tar file K has every N-th clip starting with K, so that classes with sorted names are spread over all files. It is
renamed when it is complete. Its rows for the index and the report are in `.tars/K.csv`, which is used to resume an
interrupted run and to merge those of several machines.
"""

import contextlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets.clip_shards import COLUMNS
from datasets.entries import NO_CLASS, Label
from engine.work_shards import FOLDER, REPORT, Shard, check_complete
from tools.conversion import Result, write_report
from tools.workers import run_jobs
from utils.csv_files import read_csv, write_csv
from utils.errors import UserError
from utils.progress import progress
from utils.project_paths import SHARD_INDEX

TARS_FOLDER = ".tars"
ROW = (*Result._fields, "offset", "size", "label")


class Clip(NamedTuple):
    """A clip to be packed."""

    target: str  # path in the index, a/b.mkv
    arguments: tuple  # of the function that packs it, without folder and settings
    label: Label | None  # None: the clip is in no list


class Packing(NamedTuple):
    """How clips are packed: `function(*arguments, folder, settings)` writes one and returns its `Result`."""

    function: Callable[..., Result]
    settings: Any
    out: Path


def pack_tars(packing: Packing, clips: Sequence[Clip], num_tars: int, shard: Shard, num_workers: int) -> None:
    """Pack the missing tar files of a shard."""
    keys = {}
    for clip in clips:
        if (first := keys.setdefault(_key(clip.target), clip.target)) != clip.target:
            raise UserError(f"{clip.target}: would have the same key as {first} in a tar file; rename one")
    numbers = [number for number in shard.of(range(num_tars)) if not _is_done(packing.out, number)]
    jobs = [(tar_name(number), (packing, number, clips[number::num_tars])) for number in numbers]
    with progress(total=len(jobs), unit="tar file") as bar:

        def done(_: None) -> None:
            bar.update()

        run_jobs(pack_tar, jobs, num_workers, done)


def pack_tar(packing: Packing, number: int, clips: Sequence[Clip]) -> None:
    """Pack one tar file, in a worker."""
    out, scratch = packing.out, packing.out / TARS_FOLDER / f"{number:06d}"
    _rows_file(out, number).unlink(missing_ok=True)  # of a tar file that was deleted
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    scratch.mkdir(parents=True)
    results = []
    try:
        with tarfile.open(scratch / "tar", "w") as tar:
            for clip in clips:
                results.append(packing.function(*clip.arguments, scratch, packing.settings))
                if results[-1].status != "failed":
                    _add(tar, clip, results[-1], scratch / clip.target)
        places = _places(scratch / "tar")
        rows = [
            (*result, *places.get(f"{_key(result.path)}.mkv", ("", "")), _label_text(clip.label))
            for result, clip in zip(results, clips)
        ]
        with (scratch / "tar").open("rb+") as file:
            os.fsync(file.fileno())
        (scratch / "tar").replace(out / tar_name(number))
        write_csv(_rows_file(out, number), ROW, rows)
    finally:
        shutil.rmtree(scratch)


def finish(out: Path, num_tars: int, num_shards: int, faults: Sequence[Result]) -> list[Result]:
    """Write the index, and the report from the results of all tar files and `faults`. Raises a UserError if a tar file
    is missing."""
    check_complete([tar_name(k) for k in range(num_tars)], lambda number: _is_done(out, number), num_shards)
    rows = [row | {"shard": tar_name(k)} for k in range(num_tars) for row in _read_rows(out, k)]
    write_csv(out / SHARD_INDEX, COLUMNS, sorted([row[name] for name in COLUMNS] for row in rows if row["size"]))
    results = sorted([*faults, *map(Result.read, rows)], key=lambda result: result.path)
    write_report(out / REPORT, results)
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    return results


def results_of(out: Path, numbers: Sequence[int]) -> list[Result]:
    """The results of these tar files."""
    return [Result.read(row) for number in numbers for row in _read_rows(out, number)]


def tar_name(number: int) -> str:
    """The file name of a tar file."""
    return f"{number:06d}.tar"


def _label_text(label: Label | None) -> str:
    """A label as in an annotation list; empty if the clip is in no list."""
    if label is None:
        return ""
    return str(label) if isinstance(label, int) else ",".join(map(str, label)) or NO_CLASS


def _key(path: str) -> str:
    """The WebDataset key of a clip: its path without extension, and without dots, which would start the extension."""
    folder, slash, name = path.removesuffix(".mkv").rpartition("/")
    return folder + slash + name.replace(".", "_")


def _add(tar: tarfile.TarFile, clip: Clip, result: Result, path: Path) -> None:
    """Move a clip into the tar file, followed by its description. Headers do not depend on the machine."""
    facts = {"path": clip.target, "num_frames": result.num_frames, "label": clip.label}
    data = json.dumps(facts).encode()
    video = tarfile.TarInfo(f"{_key(clip.target)}.mkv")
    video.size = path.stat().st_size
    with path.open("rb") as file:
        tar.addfile(video, file)
    path.unlink()
    description = tarfile.TarInfo(f"{_key(clip.target)}.json")
    description.size = len(data)
    tar.addfile(description, io.BytesIO(data))


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of the data of each member."""
    with tarfile.open(path) as tar:
        return {member.name: (member.offset_data, member.size) for member in tar}


def _rows_file(out: Path, number: int) -> Path:
    return out / TARS_FOLDER / f"{number:06d}.csv"


def _read_rows(out: Path, number: int) -> list[dict[str, str]]:
    path = _rows_file(out, number)
    return read_csv(path, ROW, "remove it to pack its tar file again", numbers=("num_frames", "offset", "size"))


def _is_done(out: Path, number: int) -> bool:
    """Whether a tar file is complete; its rows are written last. Truncated or deleted files are packed again."""
    with contextlib.suppress(FileNotFoundError):
        ends = [int(row["offset"]) + int(row["size"]) for row in _read_rows(out, number) if row["size"]]
        return (out / tar_name(number)).stat().st_size >= max(ends, default=0)
    return False
