"""`python -m tools.ray_predict`: Ray Data distributes batches of videos to actors, which each load the model.

The results of a batch are written atomically to one file: if a batch runs twice after the loss of a machine, its file
is replaced by an identical one.
"""

import argparse
import csv
import functools
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pd
import pyarrow.parquet as pq
import ray
import ray.data

from datasets.clip_cache import ClipCache
from datasets.clip_shards import ClipShards
from engine.extract_features import check_settings, embed_windows, feature_settings
from engine.predict import open_windows
from inference.model import VideoModel, load_model
from inference.timeline import VideoPrediction, csv_header, csv_row
from utils.cli import EXIT_USER_ERROR
from utils.errors import UserError
from utils.files import atomic_path
from utils.hashing import content_hash
from utils.odd_names import printable
from utils.progress import progress
from utils.terminal import print_error_line

MAX_BLOCKS = 4096
"""Maximum number of blocks in Ray Data: enough to keep all actors busy; more would slow down its scheduler."""
MAX_TRIES = 3
"""Maximum attempts per batch, because Ray restarts actors without limit, even if a video crashes them."""

Batch = tuple[int, list[str]]
"""Number and videos."""


def predict_all(args: argparse.Namespace, sources: list[str] | None) -> int:
    """Write the missing parts, then the CSV; returns the exit code.

    Args:
        sources: paths of the videos; None: `args.videos` is a folder or URL of tar shards.
    """
    logging.basicConfig(level=logging.WARNING if args.quiet else logging.INFO, format="%(message)s", stream=sys.stderr)

    # ---- load the model here once, so that user mistakes are reported before the cluster starts
    model = load_model(args.weights, args.config, args.classes, args.overrides, device="cpu")
    args.is_sharded = sources is None
    sources = sources or list(ClipShards(args.videos, ClipCache(Path(), 0)))
    check_settings(args.out, settings_of(args, model, sources))
    schema = schema_of(args, len(model.class_names))
    logging.info("%s", model.description)
    del model

    # ---- batches without a part
    begins = range(0, len(sources), args.batch)
    parts = [part_path(args.out, number) for number in range(len(begins))]
    if args.retry:
        for part in parts:
            if part.is_file() and count_errors([part]):
                part.unlink()
    batches = [(i, sources[begin : begin + args.batch]) for i, begin in enumerate(begins) if not parts[i].is_file()]
    num_videos = sum(len(videos) for _, videos in batches)
    if num_videos < len(sources):
        logging.info("%d of %d videos are from an earlier run", len(sources) - num_videos, len(sources))
    if batches:
        parts[0].parent.mkdir(exist_ok=True)
        for number, _ in batches:
            tries_path(parts[number]).unlink(missing_ok=True)
        with progress(total=num_videos, unit="video", plain=args.plain, disable=args.quiet) as bar:
            for done in run_on_cluster(args, batches, schema):
                bar.update(done["num_videos"])
                for error in filter(None, done["errors"].split("\n")):
                    print_error_line(f"error: {error}")

    # ---- results
    if args.csv:
        write_csv(Path(args.csv), parts, schema)
    num_failed = count_errors(parts)
    print(f"{args.out}: {len(sources) - num_failed} of {len(sources)} videos")
    print(f'next: pandas.read_parquet("{parts[0].parent}")')
    return EXIT_USER_ERROR if num_failed else 0


def run_on_cluster(args: argparse.Namespace, batches: list[Batch], schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """Yield the output of `Predictor` for each batch, in any order.

    Raises:
        UserError: the cluster cannot be reached or has too few resources for an actor, or raised by an actor.
    """
    try:
        ray.init(args.address, ignore_reinit_error=True, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise UserError(f"--address {args.address}: no Ray cluster can be reached there; see 'ray status'") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the caller has one that counts videos
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Arrow strings must be UTF-8, but file names need not be.
    rows = [{"number": number, "videos": [os.fsencode(video) for video in videos]} for number, videos in batches]
    actor: Any = Predictor  # `map` is only annotated for functions
    done = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS)).map(
        actor,
        fn_constructor_args=(args, str(Path.cwd()), schema),
        compute=ray.data.ActorPoolStrategy(size=min(count_actors(args), len(rows))),
        num_cpus=args.workers,
        num_gpus=args.gpus,
    )
    for row in done.iter_rows():
        if row["mistake"]:
            raise UserError(row["mistake"])
        yield row


def count_actors(args: argparse.Namespace) -> int:
    """Number of actors: `args.actors`, or as many as the CPUs and GPUs of the cluster allow."""
    resources = ray.cluster_resources()
    needs = {"CPU": args.workers, "GPU": args.gpus}
    for name, need in needs.items():
        if resources.get(name, 0) < need * (args.actors or 1):
            raise UserError(
                f"the cluster has {resources.get(name, 0):g} {name}s, but {args.actors or 1} actors need "
                f"{need * (args.actors or 1):g}; lower --actors, --workers or --gpus"
            )
    return args.actors or int(min(resources[name] // need for name, need in needs.items() if need))


class Predictor:
    """An actor that loads the model and writes the parts of batches.

    Args:
        folder: working folder of the command, for relative paths.
        schema: schema of a part.
    """

    def __init__(self, args: argparse.Namespace, folder: str, schema: pa.Schema):
        os.chdir(folder)
        self.args, self.schema = args, schema
        self._turn = threading.Lock()

    @functools.cached_property
    def model(self) -> VideoModel:
        args = self.args
        return load_model(args.weights, args.config, args.classes, args.overrides, "cuda" if args.gpus else "cpu")

    @functools.cached_property
    def shards(self) -> ClipShards | None:
        return ClipShards(self.args.videos, ClipCache(Path(), 0)) if self.args.is_sharded else None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Row of `run_on_cluster` -> number of its videos, and their errors, one per line.

        A UserError that does not concern a single video is returned as `mistake`, because Ray would show tracebacks.
        """
        try:
            return {**self._write(batch), "mistake": ""}
        except UserError as error:
            return {"num_videos": 0, "errors": "", "mistake": str(error)}

    def _write(self, batch: dict[str, Any]) -> dict[str, Any]:
        _ = self.model, self.shards  # loaded before the threads begin
        videos = [os.fsdecode(video) for video in batch["videos"]]
        part = part_path(self.args.out, batch["number"])
        tries = tries_path(part)
        with tries.open("ab") as file:  # one byte per attempt, which survives a crash of this process
            file.write(b".")
            num_tries = file.tell()
        if num_tries > MAX_TRIES:
            raise UserError(
                f"{MAX_TRIES} actors exited without an error in the batch of {printable(videos[0])}: memory ran out, "
                "or a video crashes the decoder; run again with --isolate 60, fewer --workers or a smaller --batch"
            )
        with ThreadPoolExecutor(self.args.workers) as pool:
            rows = [row for rows in pool.map(self.rows, videos) for row in rows]
        with atomic_path(part) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, self.schema), temporary)
        tries.unlink(missing_ok=True)  # may be missing if a batch runs twice
        return {"num_videos": len(videos), "errors": "\n".join(row["error"] for row in rows if "error" in row)}

    def rows(self, video: str) -> list[dict[str, Any]]:
        """One row per window of a video, or one with its error."""
        name = f"{self.args.videos.rstrip('/')}/{video}" if self.shards else video
        try:
            with self._file(video) as path:
                try:
                    with open_windows(path, self.model, self.args) as (windows, _):
                        level = self.args.level or "window"
                        features, spans = embed_windows(self.model, windows, level, path, self._turn)
                except UserError as error:
                    raise UserError(str(error).replace(path, name)) from error
        except UserError as error:
            return [{"video": printable(name), "error": printable(" ".join(str(error).split()))}]
        make_rows = self._embedding_rows if self.args.level else self._class_rows
        return make_rows(name, features, spans)

    @contextmanager
    def _file(self, video: str) -> Iterator[str]:
        """The path of a video; a clip of tar shards is a temporary file."""
        if self.shards is None:
            yield video
            return
        with tempfile.NamedTemporaryFile(suffix=Path(video).suffix) as file:
            file.write(self.shards.read(video))
            file.flush()
            yield file.name

    def _embedding_rows(self, name: str, features: np.ndarray, spans: list) -> list[dict[str, Any]]:
        return [
            {"video": printable(name), "start": start, "end": end, "shape": row.shape, "embedding": row.ravel()}
            for (start, end), row in zip(spans, features)
        ]

    def _class_rows(self, name: str, features: np.ndarray, spans: list) -> list[dict[str, Any]]:
        model, args = self.model, self.args
        probabilities = model.classify(features)
        prediction = VideoPrediction(printable(name), np.array(spans), probabilities, model.class_names, args.threshold)
        return [dict(zip(self.schema.names, values)) for values in prediction.values(args.top)]


def part_path(out: Path, number: int) -> Path:
    """The file of a part's results."""
    return out / "parts" / f"{number:07d}.parquet"


def tries_path(part: Path) -> Path:
    """The file that counts how often a part was tried."""
    return part.with_suffix(".tries")


def schema_of(args: argparse.Namespace, num_classes: int) -> pa.Schema:
    """Columns of a part."""
    if args.level:
        names = ["video", "start", "end", "shape", "embedding", "error"]
        types = {"shape": pa.list_(pa.int32()), "embedding": pa.list_(pa.float32())}
    else:
        names = [*csv_header(num_classes, args.top), "error"]
        types = {name: pa.float64() for name in names if name.startswith("prob")}
    types |= {"start": pa.float64(), "end": pa.float64()}
    return pa.schema([(name, types.get(name, pa.string())) for name in names])


def settings_of(args: argparse.Namespace, model: VideoModel, sources: list[str]) -> dict[str, Any]:
    """Settings that the parts depend on."""
    settings = feature_settings(args, model) | {"stride": args.stride, "batch": args.batch}
    if not args.level:
        settings |= {"top": args.top, "threshold": args.threshold, "classes": content_hash(model.class_names)}
    return settings | {"list of videos": content_hash(sources)}


def count_errors(parts: list[Path]) -> int:
    """Number of unreadable videos in the parts."""
    return pd.dataset([str(part) for part in parts]).count_rows(filter=pc.field("error").is_valid())


def write_csv(path: Path, parts: list[Path], schema: pa.Schema) -> None:
    """The CSV of `predict.py --csv`, part by part."""
    names = [name for name in schema.names if name != "error"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for part in parts:
            rows = pq.read_table(part, columns=names, filters=pc.field("error").is_null())
            writer.writerows(csv_row(row.values()) for row in rows.to_pylist())
