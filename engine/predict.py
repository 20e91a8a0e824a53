"""`predict.py`: classifies videos, folders, cameras and streams."""

import argparse
import itertools
import logging
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine.predict_results import Results, merge_results, parts_folder, write_results
from engine.work_shards import chosen_shard, print_next_step
from inference.isolation import DecodingJob, IsolatedVideo
from inference.model import VideoModel, load_model
from inference.pictures import draw_strips, draw_timeline
from inference.timeline import UNKNOWN, VideoPrediction, clock, collect
from inference.video_inputs import is_live
from inference.windows import Window
from utils.cli import EXIT_INTERRUPTED, EXIT_USER_ERROR
from utils.errors import UserError
from utils.odd_names import printable
from utils.progress import progress
from utils.terminal import print_error_line


def predict(args: argparse.Namespace, sources: list[str], overrides: list[str]) -> int:
    """Classify the videos `sources`; returns the exit code."""

    # ---- inputs and model; log messages go to stderr, results to stdout
    level = logging.WARNING if args.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    log = logging.getLogger()
    if args.merge:
        return merge(args, sources)
    shard = chosen_shard(args)
    inputs = shard.of(list(zip(range(len(sources)), sources, picture_names(sources))))
    model = load_model(args.weights, args.config, args.classes, overrides)
    if len(model.class_names) == 1:
        log.warning("warning: a single class always has probability 1; give alternatives")
    log.info("%s; %d classes, %s", model.description, len(model.class_names), model.precision)
    if not shard.is_all and (folder := parts_folder(args)):
        shard.file(folder, ".json")  # checks the number of shards before the work

    # ---- each source: windows, their probabilities, the result; Ctrl-C keeps the results so far
    heading = {"model": model.description, "classes": model.class_names, "threshold": args.threshold}
    results = Results(heading, args.top)
    is_interrupted = False
    try:
        for position, source, name in inputs:
            errors: dict[str, str] = {}
            prediction = predict_source(source, model, args, errors)
            if errors:
                results.errors[position] = (printable(source), errors[source])
            if prediction is None:
                continue
            results.add(position, prediction)
            if is_tabular(args):
                print(prediction.describe(args.top), end="\n\n", flush=True)
            if args.pictures:
                for path in draw_pictures(Path(args.pictures, name), model.explained(prediction), args.top):
                    log.info("picture: %s", path)
    except KeyboardInterrupt:
        is_interrupted = True
        print(f"interrupted: {len(results.videos)} of {len(inputs)} videos were processed", file=sys.stderr, flush=True)
    except Exception:
        try:
            write_results(args, results, shard)  # of the videos so far; the disk of the pictures may be full
        except UserError as error:
            print_error_line(f"error: {error}")
        raise

    write_results(args, results, shard)
    if is_interrupted:
        print_faulty(results, len(inputs))
        return EXIT_INTERRUPTED
    print_next_step(shard)
    if results.videos and not (args.pictures or args.json or args.csv):
        log.info("next: add --pictures FOLDER to see what the model looked at, --json FILE to save the probabilities")
    return print_faulty(results, len(inputs))


def merge(args: argparse.Namespace, sources: list[str]) -> int:
    """Write the files of all shards; returns the exit code."""
    results = merge_results(args, sources)
    write_results(args, results)
    folder = parts_folder(args)
    assert folder is not None  # --merge needs it
    shutil.rmtree(folder)
    logging.getLogger().info("merged: %s", ", ".join(target for target in (args.json, args.csv) if target))
    return print_faulty(results, len(sources))


def print_faulty(results: Results, num_inputs: int) -> int:
    """Print how many of several inputs could not be read; returns the exit code."""
    if results.errors and num_inputs > 1:
        print(f"{len(results.errors)} of {num_inputs} could not be read", file=sys.stderr)
    return EXIT_USER_ERROR if results.errors else 0


Scored = tuple[Window, np.ndarray]
"""A window and its classes' probabilities (K,)."""


Errors = dict[str, str]
"""Source -> what is wrong with it."""


def predict_source(source: str, model: VideoModel, args: argparse.Namespace, errors: Errors) -> VideoPrediction | None:
    """The `VideoPrediction` of a source; None if it cannot be read, which is printed and added to `errors`."""
    try:
        if is_live(source):
            windows = model.reader.windows(source, args.window, args.stride, max_seconds=args.seconds)
            stream = follow(model.stream(windows, source), source, model.class_names, args, errors)
            return collect(stream, source, model.class_names, args.threshold)
        name = printable(source)
        shown = {"desc": Path(name).name, "leave": False, "plain": args.plain, "disable": args.quiet}
        with (
            open_windows(source, model, args) as (windows, total),
            progress(windows, total=total, unit="window", **shown) as bar,
        ):
            return model.predict_windows(bar, name, args.threshold)
    except UserError as error:
        if args.debug:
            raise
        report_error(error, source, errors)


@contextmanager
def open_windows(
    source: str, model: VideoModel, args: argparse.Namespace
) -> Iterator[tuple[Iterator[Window], int | None]]:
    """The windows of a file or folder and their number; decoded in a child process with --isolate."""
    if args.isolate:
        job = DecodingJob(model.reader, source, args.window, args.stride, args.fps)
        with IsolatedVideo(job, args.isolate) as video:
            yield video.windows(), video.num_windows
        return
    total = model.reader.num_windows(source, args.window, args.stride, fps=args.fps)
    yield model.reader.windows(source, args.window, args.stride, fps=args.fps), total


def report_error(error: UserError, source: str, errors: dict[str, str]) -> None:
    """Print and record the first error of each source."""
    if source not in errors:
        errors[source] = printable(str(error))
        print_error_line(f"error: {errors[source]}")


def is_tabular(args: argparse.Namespace) -> bool:
    """Whether stdout is for human-readable output, and not for JSON or CSV."""
    return "-" not in (args.json, args.csv)


def follow(
    stream: Iterable[Scored], source: str, names: list[str], args: argparse.Namespace, errors: Errors
) -> Iterator[Scored]:
    """Yield the windows of a camera or URL and print a line for each, until it ends or fails, or Ctrl-C."""
    try:
        for window, probabilities in stream:
            yield window, probabilities  # before printing, so that Ctrl-C does not lose a printed window
            if is_tabular(args):
                prediction = collect([(window, probabilities)], source, names, args.threshold)
                unknown = f"{UNKNOWN}: " if prediction.verdict()[0] == UNKNOWN else ""
                best = ", ".join(f"{name} {probability:.2f}" for name, probability in prediction.top(args.top))
                print(f"{clock(window.start)} - {clock(window.end)}  {unknown}{best}", flush=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    except UserError as error:
        report_error(error, source, errors)


def picture_names(sources: Sequence[str]) -> list[str]:
    """A name for the pictures of each source, from its file name; duplicates are numbered."""
    names: dict[str, None] = {}  # an ordered set
    for source in sources:
        stem = name = re.sub(r"[^\w.-]+", "_", Path(printable(source)).stem)[-80:] or "video"
        for number in itertools.count(2):
            if name not in names:
                break
            name = f"{stem}_{number}"
        names[name] = None
    return list(names)


def draw_pictures(stem: Path, prediction: VideoPrediction, k: int) -> list[Path]:
    """Write `STEM.strip.png`, and `STEM.timeline.png` if there are several windows."""
    written = [stem.with_name(f"{stem.name}.strip.png")]
    draw_strips(written[0], prediction, k)
    if len(prediction.spans) > 1:
        written.append(stem.with_name(f"{stem.name}.timeline.png"))
        draw_timeline(written[1], prediction)
    return written
