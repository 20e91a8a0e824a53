"""`app.py`: serves a page to try a model."""

import argparse
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from datasets.lists import read_labels
from demo.shapes_samples import CLASS_NAMES, sample_videos
from inference.page import build_page, look
from inference.predictor import load_predictor
from inference.upload import Limits, check_upload
from inference.video_inputs import read_class_names
from inference.windows import build_window_reader
from utils.config import load_config
from utils.errors import UserError

DEMO_WORLD = "exp/demo/world"
MAX_WINDOWS, MAX_CLASSES, MAX_NAME_LENGTH = 300, 200, 200
MAX_COMPUTING_SECONDS = 120
"""For one video, between two of its windows: then it is given up and the next user's turn comes."""


def import_gradio(temporary: str):
    """Gradio, told to call nobody and to keep uploads in `temporary`. Raises UserError where it is missing."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": temporary}
    try:
        import gradio
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("app.py: gradio is not installed; run 'pip install -r requirements-app.txt'") from None
    return gradio


class Service:
    """Predictions for many users by one model, one at a time.

    Args:
        predictor: inference.predictor.Predictor. reader: inference.windows.WindowReader.
        limits: inference.upload.Limits.
    """

    def __init__(self, predictor, reader, limits):
        self.predictor, self.reader, self.limits = predictor, reader, limits
        self._turn = threading.Lock()

    def predict(self, video: str, names: list[str] | None, seconds: float | None):
        """The inference.timeline.VideoPrediction of an uploaded file.

        Raises:
            UserError: file, names or window are over a limit, or the file is damaged.
        """
        check_upload(video, self.limits)
        check_names(names or [], len(self.predictor.class_names))
        num_windows = self.reader.num_windows(video, seconds, None) or 1
        if num_windows > MAX_WINDOWS:
            raise UserError(
                f"{num_windows} windows of {seconds:g} s: at most {MAX_WINDOWS} are taken; make them longer"
            )
        with self._turn:
            predictor = self.predictor.with_classes(names) if names else self.predictor
            return predictor.predict(self._windows(video, seconds), Path(video).name, batch_size=4)

    def _windows(self, video: str, seconds: float | None):
        """The video's windows, to the limits that its header may have lied about."""
        given_up = time.monotonic() + MAX_COMPUTING_SECONDS
        for window in itertools.islice(self.reader.windows(video, seconds), MAX_WINDOWS + 1):
            if window.end > self.limits.max_seconds + 1:
                raise UserError(f"{Path(video).name}: is longer than its header says, and than is taken here; cut it")
            if time.monotonic() > given_up:
                raise UserError(f"{Path(video).name}: takes too long; give a shorter video or longer windows")
            yield window


def check_names(names: list[str], num_own: int) -> None:
    """Raise a UserError for class names that are too many, too long, or there twice."""
    most = max(MAX_CLASSES, num_own)
    if len(names) > most:
        raise UserError(f"{len(names)} classes: at most {most} are taken")
    for name in names:
        if len(name) > MAX_NAME_LENGTH:
            raise UserError(f"class {name[:40]!r}...: is longer than {MAX_NAME_LENGTH} letters")
        if names.count(name) > 1:
            raise UserError(f"class {name!r}: is given twice")


def load_service(args, cache: str) -> tuple[Service, list[tuple[str, Path]]]:
    """The model as the arguments say, and sample videos for it."""
    # What users type is encoded anew: their class names are not kept after the program's end.
    cfg = load_config(args.config, [*args.overrides, f"logging.cache_dir={cache}"], "predict").config

    is_embedded = cfg.data.dataset == "shapes"
    names = read_class_names(args.classes)
    if names is None and is_embedded:
        names = CLASS_NAMES
    elif names is None and cfg.data.label_list:
        names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    limits = Limits(args.max_megabytes, args.max_seconds)
    service = Service(load_predictor(cfg, args.weights, names), build_window_reader(cfg), limits)
    return service, sample_videos(
        Path(__file__).parents[1] / DEMO_WORLD, Path(cache) / "samples"
    ) if is_embedded else []


def describe(description: str, weights: str | None) -> str:
    """The model's description for strangers, who need not know where the file lies."""
    return description.replace(weights, Path(weights).name) if weights else description


def serve(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="video_clip_app_") as temporary:
        gradio = import_gradio(temporary)
        service, samples = load_service(args, temporary)

        page = build_page(
            gradio,
            service.predict,
            description=describe(service.predictor.description, args.weights),
            limits=service.limits.describe(),
            class_names=service.predictor.class_names,
            samples=samples,
        )
        print(f"{service.predictor.description}; {len(service.predictor.class_names)} classes")
        try:
            _, address, _ = page.launch(
                server_name=args.host, server_port=args.port or None, share=False, inbrowser=False, quiet=True,
                ssr_mode=False, enable_monitoring=False, max_file_size=int(args.max_megabytes * 1e6),
                prevent_thread_lock=True, **look(gradio),
            )  # fmt: skip
        except OSError as error:
            raise UserError(
                f"--host {args.host} --port {args.port}: cannot be served at ({error}); take others"
            ) from None
        print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the uploads are deleted then, too
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)
