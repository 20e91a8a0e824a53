"""`predict.py`: results as JSON and CSV, of one run or of several shards."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from engine.work_shards import ALL, Shard, check_complete, shard_files
from inference.timeline import VideoPrediction, csv_header
from utils.csv_files import csv_text
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.odd_names import printable
from utils.records import Keys, read_json


@dataclass
class Results:
    """Contents of the files. `videos`, `rows` and `errors` are indexed by the position of a video in the inputs."""

    heading: dict  # the model's description, the classes, the threshold
    top: int  # number of classes per video
    videos: dict[int, dict] = field(default_factory=dict)  # `VideoPrediction.to_dict` of the videos that were read
    rows: dict[int, list[list[str]]] = field(default_factory=dict)  # `VideoPrediction.rows`, likewise
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)  # (video, error message)

    def add(self, position: int, prediction: VideoPrediction) -> None:
        self.videos[position] = prediction.to_dict(self.top)
        self.rows[position] = prediction.rows(self.top)

    def json(self) -> str:
        videos = [self.videos[position] for position in sorted(self.videos)]
        errors = [dict(zip(("video", "error"), self.errors[position])) for position in sorted(self.errors)]
        return json.dumps({**self.heading, "videos": videos, "errors": errors}, indent=2, ensure_ascii=False) + "\n"

    def csv(self) -> str:
        rows = (row for position in sorted(self.rows) for row in self.rows[position])
        return csv_text(csv_header(len(self.heading["classes"]), self.top), rows)


def write_results(args: argparse.Namespace, results: Results, shard: Shard = ALL) -> None:
    """Write JSON and CSV to files or stdout; a shard writes its part of the files. Raises a UserError if a file could
    not be written; the other one was written."""
    targets = [(target, text) for target, text in ((args.json, results.json), (args.csv, results.csv)) if target]
    failed: dict[str, OSError] = {}
    if not shard.is_all and (folder := parts_folder(args)):
        targets = [(target, text) for target, text in targets if target == "-"]
        targets.append((str(shard.file(folder, ".json")), lambda: json.dumps(asdict(results))))
    for target, text in sorted(targets, key=lambda each: each[0] == "-"):  # stdout last, since it may be closed
        try:
            if target == "-":
                print(text(), end="", flush=True)
            else:
                write_text_atomic(target, text())
        except OSError as error:
            if target == "-" and isinstance(error, BrokenPipeError) and not failed:
                raise  # its reader has closed it (`| head`)
            failed[f"{target}: cannot be written ({error.strerror})"] = error
    if failed:
        cause = list(failed.values())[-1]
        raise UserError(f"{'; '.join(failed)}; choose another file or free disk space") from cause


Position = Annotated[str, Field(pattern=r"^[0-9]+$")]  # of a video in the inputs


class VideoKeys(Keys):
    video: str


class Part(Keys):
    """The file of a shard: its `Results`."""

    heading: dict[str, Any]
    top: int
    videos: dict[Position, VideoKeys]
    rows: dict[Position, list[list[str]]]
    errors: dict[Position, Annotated[list[str], Field(min_length=2, max_length=2)]]


def merge_results(args: argparse.Namespace, sources: Sequence[str]) -> Results:
    """The results of all shards. Raises a UserError if a shard is missing or incomplete, or the shards had different
    options or videos."""
    folder = parts_folder(args)
    if folder is None:
        raise UserError("--merge: give the same --json or --csv files as for the shards")
    paths = shard_files(folder, ".json")
    saved = [read_json(path, "the part of a shard", "run this shard again", Part) for path in paths]
    found = Results(saved[0]["heading"], saved[0]["top"])
    for path, part in zip(paths, saved):
        if (part["heading"], part["top"]) != (found.heading, found.top):
            raise UserError(f"{path}: the shard had different options than {paths[0]}; run one of them again")
        for name in ("videos", "rows", "errors"):
            getattr(found, name).update({int(position): value for position, value in part[name].items()})
    names = {position: video["video"] for position, video in found.videos.items()}
    names |= {position: video for position, (video, _) in found.errors.items()}
    for position, name in names.items():
        if position >= len(sources) or name not in (sources[position], printable(sources[position])):
            raise UserError(f"--merge: the shards had different videos, such as {name}; run them again")
    check_complete(sources, lambda position: position in found.videos or position in found.errors, len(paths))
    return found


def parts_folder(args: argparse.Namespace) -> Path | None:
    """The folder in which shards write their parts, beside the first file; None without files."""
    files = [Path(target) for target in (args.json, args.csv) if target and target != "-"]
    return files[0].with_name(f".{files[0].name}.shards") if files else None
