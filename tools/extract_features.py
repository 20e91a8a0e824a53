"""Write embeddings of videos as arrays, for temporal detectors, retrieval or probes.

A video becomes OUT/NAME.npy (or NAME.h5 with `features`), float32:

    --level window   (W, D): one row for each window, `--window` seconds long and `--stride` seconds apart (default)
    --level frame    (W, T, D): the frames of each window, before the temporal head
    --level video    (1, D): one clip over the whole video

Beside it NAME.json holds start and end of each window in seconds, the stride, and the windows per second, as `fps`.
Rows are the embeddings behind predict.py's probabilities. OUT/report.csv has a line a video: path, status (written,
present, failed), num_rows, reason. Interrupted, the same command continues. Several machines share OUT by --shard; then
--merge writes the report.

Examples:
  python -m tools.extract_features my_videos features --weights WEIGHTS
  python -m tools.extract_features my_videos features --config CONFIG --window 1 --stride 0.5 --workers 4
"""

import argparse
import csv
import itertools
import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from inference.model import VideoModel, load_model
from inference.video_inputs import expand_inputs, is_live
from utils.cli import EXIT_USER_ERROR, config_parser, hides_bars, run_command
from utils.config import dump_config
from utils.errors import UserError
from utils.files import atomic_path, check_writable, write_text_atomic
from utils.hashing import content_hash, file_hash
from utils.terminal import print_error_line
from utils.work_shards import (
    ALL,
    FOLDER,
    Shard,
    add_shard_options,
    check_complete,
    chosen_shard,
    print_next_step,
    shard_files,
)

LEVELS = ("window", "frame", "video")
SETTINGS = "settings.json"
REPORT = "report.csv"
COLUMNS = ("path", "status", "num_rows", "reason")
ODD_NAMES = "surrogateescape"  # file names need not be UTF-8


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    operands = (
        ("videos", "a folder of videos or of folders of frames, or one video"),
        ("out", "the folder of the arrays"),
    )
    parser = config_parser(__doc__, required=False, operands=operands)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint (default: plain CLIP of the config)")
    parser.add_argument("--format", choices=("npy", "h5"), default="npy", help="default npy; h5 needs h5py")
    parser.add_argument("--level", choices=LEVELS, default="window", help="what a row is (default window)")
    parser.add_argument("--window", type=float, default=1.0, metavar="S", help="seconds of a window (default 1)")
    parser.add_argument("--stride", type=float, metavar="S", help="seconds between windows (default: the window)")
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second of folders of frames (default 25)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="videos read at a time (default 2)")
    add_shard_options(parser)
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> int:
    args.out = Path(args.out)
    check_arguments(args)
    targets = name_targets(args.videos, args.out)
    shard = ALL if args.merge else chosen_shard(args)
    rows = merge_rows(list(targets), args.out) if args.merge else extract_all(args, shard.of(list(targets)), targets)
    write_rows(report_file(args.out, shard), rows)
    if shard.is_all:
        shutil.rmtree(args.out / FOLDER, ignore_errors=True)
    counts = Counter(row["status"] for row in rows)
    done = len(rows) - counts["failed"]
    print(f"{args.out}: {done} of {len(rows)} videos, {counts['present']} of them from an earlier run")
    print_next_step(shard)
    return EXIT_USER_ERROR if counts["failed"] else 0


def extract_all(args: argparse.Namespace, sources: list[str], targets: dict[str, Path]) -> list[dict]:
    """Writes the arrays of `sources` that are not there yet; a row of the report for each source."""
    model = load_model(args.weights, args.config, overrides=args.overrides)
    check_settings(args, model)
    writer = FeatureWriter(model, args)

    def extract(source: str) -> dict:
        row = {"path": source, "status": "present", "num_rows": 0, "reason": ""}
        try:
            if not writer.is_done(targets[source]):
                writer.extract(source, targets[source])
                row["status"] = "written"
            row["num_rows"] = writer.num_rows(targets[source])
        except UserError as error:
            row |= {"status": "failed", "reason": " ".join(str(error).split())}
        return row

    with ThreadPoolExecutor(args.workers) as pool:
        rows = list(tqdm(pool.map(extract, sources), total=len(sources), unit="video", disable=hides_bars(args)))
    for row in rows:
        if row["status"] == "failed":
            print_error_line(f"error: {row['reason']}")
    return rows


def report_file(out: Path, shard: Shard) -> Path:
    return out / REPORT if shard.is_all else shard.file(out / FOLDER, ".csv")


def write_rows(path: Path, rows: Sequence[dict]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors=ODD_NAMES) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def merge_rows(sources: list[str], out: Path) -> list[dict]:
    """The rows of all shards, in the order of `sources`. Raises UserError where one lacks."""
    paths = shard_files(out / FOLDER, ".csv")
    rows = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8", errors=ODD_NAMES) as file:
            rows |= {row["path"]: row for row in csv.DictReader(file)}
    check_complete(sources, lambda i: sources[i] in rows, len(paths))
    return [rows[source] for source in sources]


class FeatureWriter:
    """Embeds videos, several at a time, and writes their arrays. The model takes one batch of windows at a time."""

    def __init__(self, model: VideoModel, args: argparse.Namespace):
        self.model, self.args = model, args
        self._turn = threading.Lock()

    def is_done(self, target: Path) -> bool:
        """The JSON is written last."""
        return self._description(target).is_file() and self._array(target).is_file()

    def num_rows(self, target: Path) -> int:
        """Rows of an array that is there."""
        return json.loads(self._description(target).read_text(encoding="utf-8"))["shape"][0]

    def extract(self, source: str, target: Path) -> None:
        """Write the array and the description of a video. Raises UserError where it cannot be read."""
        args, model = self.args, self.model
        window = 0.0 if args.level == "video" else args.window
        windows = iter(model.windows(source, window, args.stride if window else None, fps=args.fps))
        rows, spans = [], []
        while batch := list(itertools.islice(windows, model.cfg.data.batch_size)):
            clips = torch.stack([one.clip for one in batch])
            with self._turn:
                rows.append(model.embed_frames(clips) if args.level == "frame" else model.embed(clips, source))
            spans += [(one.start, one.end) for one in batch]
        if not rows:
            raise UserError(f"{source}: has no frames")
        features = np.concatenate(rows)
        stride = (args.stride or args.window) if window else None
        description = {
            "video": source,
            "level": args.level,
            "shape": list(features.shape),
            "window": window or None,
            "stride": stride,
            "fps": 1 / stride if stride else None,
            "start": [round(start, 6) for start, _ in spans],
            "end": [round(end, 6) for _, end in spans],
        }
        self._write(self._array(target), features)
        write_text_atomic(self._description(target), json.dumps(description) + "\n")

    def _array(self, target: Path) -> Path:
        return target.with_name(f"{target.name}.{self.args.format}")

    def _description(self, target: Path) -> Path:
        return target.with_name(f"{target.name}.json")

    def _write(self, path: Path, features: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            if self.args.format == "h5":
                with import_h5py().File(temporary, "w") as file:
                    file["features"] = features
            else:
                with temporary.open("wb") as file:
                    np.save(file, features)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a UserError for what cannot be; before the model is loaded."""
    if is_live(args.videos):
        raise UserError(f"{args.videos}: give a file or a folder; cameras and URLs have no end")
    for option in ("window", "stride", "fps"):
        value = getattr(args, option)
        if value is not None and not 0 < value <= 86400:
            raise UserError(f"--{option} {value:g}: must be above 0")
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be at least 1")
    if not args.weights and not args.config:
        raise UserError("give --weights, or --config for plain CLIP")
    if args.format == "h5":
        import_h5py()
    check_writable(args.out, "OUT", is_folder=True)


def check_settings(args: argparse.Namespace, model: VideoModel) -> None:
    """Rows of different settings must not mix in a folder: write the settings, or compare them with those there."""
    settings = {
        "level": args.level,
        "window": args.window,
        "stride": args.stride or args.window,
        "format": args.format,
        "fps": args.fps,
        "weights": file_hash(args.weights) if args.weights else None,
        "config": content_hash(dump_config(model.cfg)),
    }
    path = args.out / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if differing := sorted(key for key in settings if before.get(key) != settings[key]):
            raise UserError(f"{args.out}: holds features of another {', '.join(differing)}; give another folder")
    else:
        write_text_atomic(path, json.dumps(settings, indent=2) + "\n")


def name_targets(videos: str, out: Path) -> dict[str, Path]:
    """The path, without suffix, that each video's array gets: its place below VIDEOS."""
    root = Path(videos) if Path(videos).is_dir() else Path(videos).parent
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for source in expand_inputs([videos]):
        relative = Path(source).relative_to(root)
        name = relative.name if Path(source).is_dir() else relative.stem
        target = out / relative.parent / (name or root.name)
        if target in owners:
            raise UserError(f"{source}: its array would have the name of that of {owners[target]}; rename one")
        owners[target] = source
        targets[source] = target
    return targets


def import_h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError:
        raise UserError("--format h5: h5py is not installed; run 'pip install h5py'") from None
    return h5py


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
