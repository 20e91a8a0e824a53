"""`predict.py`: classifies videos, folders, cameras and streams."""

import argparse
import csv
import dataclasses
import io
import itertools
import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inference.isolation import DecodingJob, IsolatedVideo
from inference.model import VideoModel, collect, load_model
from inference.pictures import Spotlight, draw_strips, draw_timeline
from inference.timeline import UNKNOWN, VideoPrediction, clock, csv_header
from inference.video_inputs import is_live
from inference.windows import Window
from utils.cli import EXIT_INTERRUPTED, EXIT_USER_ERROR
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.terminal import print_error_line


def predict(args: argparse.Namespace, sources: list[str], overrides: list[str]) -> int:
    """Name what happens in `sources`; returns the exit code."""

    # ---- inputs and model; what is said of them goes to stderr, results to stdout
    logging.basicConfig(
        level=logging.WARNING if args.quiet else logging.INFO, format="%(message)s", stream=sys.stderr, force=True
    )
    log = logging.getLogger()
    model = load_model(args.weights, args.config, args.classes, overrides)
    if len(model.class_names) == 1:
        log.warning("warning: a single class always has probability 1; give others to compare with")
    log.info("%s; %d classes, %s", model.description, len(model.class_names), model.precision)

    # ---- each source: windows, their probabilities, the result; Ctrl-C leaves what is done so far
    predictions, errors, taken, is_interrupted = [], {}, set(), False
    try:
        for source in sources:
            prediction = predict_source(source, model, args, errors)
            if prediction is None:
                continue
            predictions.append(dataclasses.replace(prediction, clips=()))  # they are what fills the memory
            if is_tabular(args):
                print(prediction.describe(args.top), end="\n\n", flush=True)
            if args.pictures:
                for path in draw_pictures(Path(args.pictures), prediction, args.top, taken, model.spotlight):
                    log.info("picture: %s", path)
    except KeyboardInterrupt:
        is_interrupted = True
        print(f"interrupted: {len(predictions)} of {len(sources)} videos were done", file=sys.stderr, flush=True)

    # ---- files
    write_results(args, model, predictions, errors)
    if errors and len(sources) > 1:
        print(f"{len(errors)} of {len(sources)} could not be read", file=sys.stderr)
    if is_interrupted:
        return EXIT_INTERRUPTED
    return EXIT_USER_ERROR if errors else 0


Scored = tuple[Window, np.ndarray]
"""A window and its classes' probabilities (K,)."""


def predict_source(
    source: str, model: VideoModel, args: argparse.Namespace, errors: dict[str, str]
) -> VideoPrediction | None:
    """The `VideoPrediction` of a source; None where it cannot be read, which is printed and noted in `errors`."""
    try:
        if is_live(source):
            windows = model.windows(source, args.window, args.stride, max_seconds=args.seconds)
            stream = follow(model.stream(windows, source), source, model.class_names, args, errors)
            return collect(stream, source, model.class_names, args.threshold)
        name = printable(source)
        hidden = True if args.quiet or args.plain else None  # None: where stderr is not a terminal
        with (
            open_windows(source, model, args) as (windows, total),
            tqdm(windows, Path(name).name, total, unit="window", leave=False, disable=hidden) as bar,
        ):
            return model.predict_windows(bar, name, args.threshold)
    except UserError as error:
        if args.debug:
            raise
        tell(error, source, errors)


@contextmanager
def open_windows(
    source: str, model: VideoModel, args: argparse.Namespace
) -> Iterator[tuple[Iterator[Window], int | None]]:
    """The windows of a file or folder, and how many; with --isolate, a child process decodes them."""
    if args.isolate:
        job = DecodingJob(model.reader, source, args.window, args.stride, args.fps)
        with IsolatedVideo(job, args.isolate) as video:
            yield video.windows(), video.num_windows
        return
    total = model.num_windows(source, args.window, args.stride, fps=args.fps)
    yield model.windows(source, args.window, args.stride, fps=args.fps), total


def printable(name: str) -> str:
    r"""A file's name, or a message with one, as text that any file can hold: bytes that are not UTF-8 as `\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def tell(error: UserError, source: str, errors: dict[str, str]) -> None:
    """Note and print what is wrong with a source; the first fault of each."""
    if source not in errors:
        errors[source] = printable(str(error))
        print_error_line(f"error: {errors[source]}")


def is_tabular(args: argparse.Namespace) -> bool:
    """Whether the standard output is for people, not for a program that reads JSON or CSV."""
    return "-" not in (args.json, args.csv)


def follow(
    stream: Iterable[Scored], source: str, names: list[str], args: argparse.Namespace, errors: dict[str, str]
) -> Iterator[Scored]:
    """Passes on the windows of a camera or URL and prints a line each, until it ends, breaks off, or Ctrl-C."""
    try:
        for window, probabilities in stream:
            yield window, probabilities  # before the line, so that Ctrl-C after a line does not lose it
            if is_tabular(args):
                one = collect([(window, probabilities)], source, names, args.threshold)
                unknown = f"{UNKNOWN}: " if one.verdict()[0] == UNKNOWN else ""
                best = ", ".join(f"{name} {probability:.2f}" for name, probability in one.top(args.top))
                print(f"{clock(window.start)} - {clock(window.end)}  {unknown}{best}", flush=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    except UserError as error:
        tell(error, source, errors)


def write_results(
    args: argparse.Namespace, model: VideoModel, predictions: list[VideoPrediction], errors: dict[str, str]
) -> None:
    """JSON and CSV, to files or to the standard output.

    Raises:
        UserError: one of them could not be written; the other one was.
    """
    texts = {}
    if args.json:
        content = {
            "model": model.description,
            "classes": model.class_names,
            "threshold": args.threshold,
            "videos": [prediction.to_dict(args.top) for prediction in predictions],
            "errors": [{"video": printable(video), "error": error} for video, error in errors.items()],
        }
        texts[args.json] = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if args.csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(csv_header(len(model.class_names), args.top))
        for prediction in predictions:
            writer.writerows(prediction.rows(args.top))
        texts[args.csv] = text.getvalue()
    failed = []
    for target, content in texts.items():
        try:
            _write(target, content)
        except OSError as error:
            failed.append(f"{target}: cannot be written ({error.strerror})")
    if failed:
        raise UserError("; ".join(failed))


def _write(target: str, text: str) -> None:
    if target == "-":
        print(text, end="", flush=True)
    elif Path(target).exists() and not Path(target).is_file():
        Path(target).write_text(text, encoding="utf-8")  # a pipe or device: a rename would take its place
    else:
        write_text_atomic(target, text)


def draw_pictures(
    folder: Path, prediction: VideoPrediction, k: int, taken: set[str], spotlight: Spotlight
) -> list[Path]:
    """`NAME.strip.png`, and `NAME.timeline.png` where there are several windows; a name in `taken` gets a number."""
    stem = name = re.sub(r"[^\w.-]+", "_", Path(prediction.source).stem)[-80:] or "video"
    for number in itertools.count(2):
        if name not in taken:
            break
        name = f"{stem}_{number}"
    taken.add(name)
    written = [folder / f"{name}.strip.png"]
    draw_strips(written[0], prediction, k, spotlight)
    if len(prediction.spans) > 1:
        written.append(folder / f"{name}.timeline.png")
        draw_timeline(written[1], prediction)
    return written
