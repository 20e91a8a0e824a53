"""`app.py`: serves a web page to try a model."""

import argparse
import dataclasses
import functools
import itertools
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from demo.shapes_samples import CLASS_NAMES, sample_videos
from inference.isolation import DecodingJob, IsolatedVideo, start_server
from inference.model import VideoModel, check_other_classes, load_model
from inference.page import OWN_CLASSES, PageContent, build_page, count_waiting, look
from inference.request_guard import RequestGuard, RequestLimits
from inference.timeline import VideoPrediction, collect
from inference.upload import Limits
from inference.video_inputs import read_class_names
from inference.windows import Window
from utils.errors import UserError
from utils.project_paths import REPOSITORY

LOCAL = "127.0.0.1"
MAX_WINDOWS, MAX_CLASSES, MAX_NAME_LENGTH = 300, 400, 200
TOY = "A toy model: it only knows moving shapes."
CLASS_SETS = {
    "Kinetics-400": "kinetics_400_labels.csv",
    "UCF101": "ucf_labels.csv",
    "HMDB51": "hmdb51_labels.csv",
    "ActivityNet": "anet1.3_labels.csv",
}
"""Sets of class names offered on the page, and their files in lists/."""
WINDOWS_PER_TURN = 4
MAX_COMPUTING_SECONDS = 120
"""Time limit of one video, from the start of decoding to its last window."""


def import_gradio(temporary: str):
    """Gradio without analytics, keeping uploads in `temporary`. Raises a UserError if it is not installed."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": temporary}
    try:
        import gradio
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("app.py: gradio is not installed; run 'pip install -r requirements-app.txt'") from None
    return gradio


class Service:
    """Predictions for many users with one model. Videos are decoded in parallel in child processes; the model processes
    one batch of windows of one video at a time.
    """

    def __init__(self, model: VideoModel, limits: Limits):
        self.model, self.limits = model, limits
        self._turn = threading.Lock()

    def predict(
        self, video: str, names: list[str] | None, seconds: float | None, threshold: float = 0.0
    ) -> VideoPrediction:
        """Classify an uploaded file.

        Raises:
            UserError: file, names or window exceed a limit, the file is corrupted, or it takes too long.
        """
        check_names(names or [], len(self.model.class_names))
        reader = dataclasses.replace(self.model.reader, max_pixels=self.limits.max_pixels)
        job = DecodingJob(reader, video, seconds, limits=self.limits, max_windows=MAX_WINDOWS)
        with IsolatedVideo(job, MAX_COMPUTING_SECONDS) as decoded:
            model = self.model.with_classes(names, self._turn) if names else self.model
            named = self._named(model, decoded.windows())
            prediction = collect(named, Path(video).name, model.class_names, threshold)
        return model.explained(prediction, self._turn)

    def _named(self, model: VideoModel, windows: Iterator[Window]) -> Iterator[tuple[Window, np.ndarray]]:
        """Yield each window and its probabilities (K,); other requests are served between two batches."""
        while batch := list(itertools.islice(windows, WINDOWS_PER_TURN)):
            with self._turn:
                named = list(model.stream(batch, batch_size=WINDOWS_PER_TURN))
            yield from named


def check_names(names: list[str], num_own: int) -> None:
    """Raise a UserError for too many or too long class names."""
    most = max(MAX_CLASSES, num_own)
    if len(names) > most:
        raise UserError(f"{len(names)} classes; the limit is {most}")
    for name in names:
        if len(name) > MAX_NAME_LENGTH:
            raise UserError(f"class {name[:40]!r}...: longer than {MAX_NAME_LENGTH} characters")


def load_service(args: argparse.Namespace, cache: str) -> tuple[Service, list[tuple[str, Path]]]:
    """The model selected by the arguments, and sample videos for it."""
    overrides = [*args.overrides, f"logging.cache_dir={cache}"]
    classes = CLASS_NAMES if args.is_demo and args.classes is None else args.classes
    model = load_model(args.weights, args.config, classes, overrides)
    # Class names typed by users are embedded each time and not saved, which would fill the disk.
    model.cfg = model.cfg.model_copy(update={"logging": model.cfg.logging.model_copy(update={"cache_dir": None})})
    is_embedded = model.cfg.data.dataset == "shapes"
    samples = sample_videos(Path(cache) / "samples") if is_embedded else []
    return Service(model, Limits(args.max_megabytes, args.max_seconds)), samples


def class_sets(model: VideoModel) -> dict[str, list[str]]:
    """The model's classes and, if it supports other classes, those of known data sets."""
    sets = {OWN_CLASSES: model.class_names}
    try:
        check_other_classes(model.cfg)
    except UserError:
        return sets
    return sets | {name: read_class_names(str(REPOSITORY / "lists" / file)) for name, file in CLASS_SETS.items()}


def describe(description: str, weights: str | None) -> str:
    """The model's description for users, without the folder of its file."""
    return description.replace(weights, Path(weights).name) if weights else description


def guards(args: argparse.Namespace, uploads: Path, page: Any) -> list:
    """Middlewares for requests, of Starlette, which is installed with Gradio."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    limits = RequestLimits(int(args.max_megabytes * 1e6))
    # Prevents DNS rebinding, by which another site could read this page under its own host name.
    hosts = {_in_url(host) for host in (LOCAL, "::1", "localhost", args.host, *args.allow_host)} - {"0.0.0.0"}
    return [
        Middleware(TrustedHostMiddleware, allowed_hosts=sorted(hosts), www_redirect=False),
        Middleware(RequestGuard, uploads, limits, functools.partial(count_waiting, page)),
    ]


def _in_url(host: str) -> str:
    """A host as in URLs, which have addresses of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def serve(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    start_server()  # while the model is loaded, so that the first video does not wait for it
    with tempfile.TemporaryDirectory(prefix="video_clip_app_") as temporary:
        uploads = Path(temporary) / "uploads"
        uploads.mkdir()
        gradio = import_gradio(str(uploads))
        service, samples = load_service(args, str(Path(temporary) / "cache"))

        sets = class_sets(service.model)
        knows = f"{TOY} Click a sample, or drop a video of your own." if samples else "Drop a video, or record one."
        description = describe(service.model.description, args.weights)
        content = PageContent(knows, description, service.limits.describe(), sets, samples)
        page = build_page(gradio, service.predict, content)
        print(f"{service.model.description}; {len(service.model.class_names)} classes")
        try:
            _, address, _ = page.launch(
                server_name=_in_url(args.host),
                server_port=args.port or None,
                share=False,
                inbrowser=False,
                quiet=True,
                ssr_mode=False,
                enable_monitoring=False,
                max_file_size=int(args.max_megabytes * 1e6),
                allowed_paths=[str(path) for _, path in samples],
                app_kwargs={"middleware": guards(args, uploads, page)},
                prevent_thread_lock=True,
                **look(gradio),
            )
        except OSError as error:
            raise UserError(
                f"--host {args.host} --port {args.port}: the server could not be started ({error}); choose others"
            ) from None
        print(f"open {address} in a browser; press Ctrl-C to stop", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that uploads are deleted on SIGTERM as well
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)
