"""`python -m tools.extract_features`: embeds videos, several at a time, and writes their arrays."""

import argparse
import itertools
import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.model import VideoModel, load_model
from inference.windows import Window
from utils.config import dump_config
from utils.errors import UserError
from utils.files import atomic_path, write_text_atomic
from utils.hashing import content_hash, file_hash
from utils.progress import progress
from utils.records import Count, Keys, read_json
from utils.terminal import print_error_line

SETTINGS = "settings.json"


class Description(Keys):
    """The key of a video's JSON file that is read here."""

    shape: list[Count]


def extract_all(args: argparse.Namespace, sources: list[str], targets: dict[str, Path]) -> list[dict]:
    """Write the missing arrays of `sources`; yields a row of the report for each source."""
    model = load_model(args.weights, args.config, overrides=args.overrides)
    check_settings(args.out, feature_settings(args, model) | {"format": args.format})
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
        extracted = pool.map(extract, sources)
        rows = list(progress(extracted, total=len(sources), unit="video", plain=args.plain, disable=args.quiet))
    for row in rows:
        if row["status"] == "failed":
            print_error_line(f"error: {row['reason']}")
    return rows


class FeatureWriter:
    """Embeds videos, several in parallel, and writes their arrays. The model processes one batch of windows at a
    time."""

    def __init__(self, model: VideoModel, args: argparse.Namespace):
        self.model, self.args = model, args
        self._turn = threading.Lock()

    def is_done(self, target: Path) -> bool:
        """Whether the features exist; the JSON file is written last."""
        return self._description(target).is_file() and self._array(target).is_file()

    def num_rows(self, target: Path) -> int:
        """Number of rows of an existing array."""
        path = self._description(target)
        return read_json(path, "a description of features", "remove it to extract them again", Description)["shape"][0]

    def extract(self, source: str, target: Path) -> None:
        """Write the array and the JSON file of a video. Raises a UserError if it cannot be read."""
        args = self.args
        window = 0.0 if args.level == "video" else args.window
        windows = self.model.reader.windows(source, window, args.stride if window else None, fps=args.fps)
        features, spans = embed_windows(self.model, windows, args.level, source, self._turn)
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
                import h5py  # optional; the tool has checked that it is installed

                with h5py.File(temporary, "w") as file:
                    file["features"] = features
            else:
                with temporary.open("wb") as file:
                    np.save(file, features)


def embed_windows(
    model: VideoModel, windows: Iterable[Window], level: str, name: str, turn: threading.Lock
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Embeddings (W,...) float32 of a video's windows, a batch at a time, and their (start, end) in seconds.

    Args:
        level: "frame" for (W,T,D), before the temporal head; otherwise (W,D), or (W,R,D) if the scorer needs R rows.
        name: name of the video, for messages.
        turn: lock of the model, which threads that read videos use one at a time.

    Raises:
        UserError: the video cannot be read, has no frames, or has an embedding that is zero or not finite.
    """
    windows = iter(windows)
    rows, spans = [], []
    while batch := list(itertools.islice(windows, model.cfg.data.batch_size)):
        clips = torch.stack([window.clip for window in batch])
        with turn:
            rows.append(model.embed_frames(clips) if level == "frame" else model.embed(clips, name))
        spans += [(window.start, window.end) for window in batch]
    if not rows:
        raise UserError(f"{name}: contains no frames")
    return np.concatenate(rows), spans


def feature_settings(args: argparse.Namespace, model: VideoModel) -> dict[str, Any]:
    """What the embeddings depend on."""
    return {
        "level": args.level,
        "window": args.window,
        "stride": args.stride or args.window,
        "fps": args.fps,
        "weights": file_hash(args.weights) if args.weights else None,
        "config": content_hash(dump_config(model.cfg)),
    }


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings to the folder, or compare them with existing ones, so that their results are not mixed."""
    path = out / SETTINGS
    if path.is_file():
        before = read_json(path, "the settings of an extraction", "give another folder")
        if differing := sorted(key for key in settings if before.get(key) != settings[key]):
            raise UserError(f"{out}: contains results of another {', '.join(differing)}; give another folder")
    else:
        write_text_atomic(path, json.dumps(settings, indent=2) + "\n")
