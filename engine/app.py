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

from demo.shapes_samples import CLASS_NAMES, sample_videos
from inference.model import VideoModel, load_model
from inference.page import build_page, look
from inference.upload import Limits, check_upload
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
        model: inference.VideoModel. limits: inference.upload.Limits.
    """

    def __init__(self, model: VideoModel, limits: Limits):
        self.model, self.limits = model, limits
        self._turn = threading.Lock()

    def predict(self, video: str, names: list[str] | None, seconds: float | None):
        """The inference.timeline.VideoPrediction of an uploaded file.

        Raises:
            UserError: file, names or window are over a limit, or the file is damaged.
        """
        check_upload(video, self.limits)
        check_names(names or [], len(self.model.class_names))
        num_windows = self.model.num_windows(video, seconds) or 1
        if num_windows > MAX_WINDOWS:
            raise UserError(
                f"{num_windows} windows of {seconds:g} s: at most {MAX_WINDOWS} are taken; make them longer"
            )
        with self._turn:
            model = self.model.with_classes(names) if names else self.model
            return model.predict_windows(self._windows(video, seconds), Path(video).name, batch_size=4)

    def _windows(self, video: str, seconds: float | None):
        """The video's windows, to the limits that its header may have lied about."""
        given_up = time.monotonic() + MAX_COMPUTING_SECONDS
        for window in itertools.islice(self.model.windows(video, seconds), MAX_WINDOWS + 1):
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


def load_service(args: argparse.Namespace, cache: str) -> tuple[Service, list[tuple[str, Path]]]:
    """The model as the arguments say, and sample videos for it."""
    # What users type is encoded anew: their class names are not kept after the program's end.
    overrides = [*args.overrides, f"logging.cache_dir={cache}"]
    classes = CLASS_NAMES if args.is_demo and args.classes is None else args.classes
    model = load_model(args.weights, args.config, classes, overrides)
    is_embedded = model.cfg.data.dataset == "shapes"
    samples = sample_videos(Path(__file__).parents[1] / DEMO_WORLD, Path(cache) / "samples") if is_embedded else []
    return Service(model, Limits(args.max_megabytes, args.max_seconds)), samples


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
            description=describe(service.model.description, args.weights),
            limits=service.limits.describe(),
            class_names=service.model.class_names,
            samples=samples,
        )
        print(f"{service.model.description}; {len(service.model.class_names)} classes")
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
