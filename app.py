"""Serves a page to try a model: drop a video or pick a sample, type class names, see bars, frames and a timeline."""

import argparse
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from utils.cli import run_story
from utils.config import load_config
from utils.errors import UserError

DEFAULT_CONFIG, DEFAULT_WEIGHTS = "configs/shapes/transf.yaml", "exp/demo/transf/last_model.pt"
DEMO_WORLD = "exp/demo/world"
LOCAL = "127.0.0.1"
MAX_WINDOWS, MAX_CLASSES, MAX_NAME_LENGTH = 300, 200, 200
MAX_COMPUTING_SECONDS = 120
"""For one video, between two of its windows: then it is given up and the next user's turn comes."""


def parse_arguments(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override")
    parser.add_argument("--config", metavar="YAML", help=f"the model's recipe (default: {DEFAULT_CONFIG})")
    parser.add_argument(
        "--weights", metavar="FILE", help="a video checkpoint (default: the demo's; with --config: plain CLIP)"
    )
    parser.add_argument("--classes", metavar="NAMES", help="'riding a bike, cooking' or a CSV (default: the config's)")
    parser.add_argument("--host", default=LOCAL, help=f"address to serve at (default {LOCAL}: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="default 7860")
    parser.add_argument("--max_megabytes", type=float, default=200, metavar="MB", help="of an upload (default 200)")
    parser.add_argument("--max_seconds", type=float, default=600, metavar="S", help="of a video (default 600)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_intermixed_args(arguments)


def check_arguments(args) -> None:
    """Puts the embedded default in where neither config nor weights are given."""
    if args.weights and not args.config:
        raise UserError("--weights: give the model's --config, too")
    if not args.config:
        args.config = str(Path(__file__).parent / DEFAULT_CONFIG)
        demo = Path(__file__).parent / DEFAULT_WEIGHTS
        args.weights = str(demo) if demo.is_file() else None
    for option in ("max_megabytes", "max_seconds"):
        if not getattr(args, option) > 0:
            raise UserError(f"--{option} {getattr(args, option):g}: must be above 0")
    if not 0 <= args.port < 65536:
        raise UserError(f"--port {args.port}: must be 0 to 65535")


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
        predictor: modules.predictor.Predictor. reader: datasets.windows.WindowReader.
        limits: utils.upload.Limits.
    """

    def __init__(self, predictor, reader, limits):
        self.predictor, self.reader, self.limits = predictor, reader, limits
        self._turn = threading.Lock()

    def predict(self, video: str, names: list[str] | None, seconds: float | None):
        """The utils.timeline.VideoPrediction of an uploaded file.

        Raises:
            UserError: file, names or window are over a limit, or the file is damaged.
        """
        from utils.upload import check_upload

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

    # The heavy rooms come after the config's check, so that a typo answers at once.
    from datasets.build import build_window_reader
    from datasets.lists import read_labels
    from datasets.shapes_samples import CLASS_NAMES, sample_videos
    from datasets.video_inputs import read_class_names
    from modules.predictor import load_predictor
    from utils.upload import Limits

    is_embedded = cfg.data.dataset == "shapes"
    names = read_class_names(args.classes)
    if names is None and is_embedded:
        names = CLASS_NAMES
    elif names is None and cfg.data.label_list:
        names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    limits = Limits(args.max_megabytes, args.max_seconds)
    service = Service(load_predictor(cfg, args.weights, names), build_window_reader(cfg), limits)
    return service, sample_videos(Path(__file__).parent / DEMO_WORLD, Path(cache) / "samples") if is_embedded else []


def describe(description: str, weights: str | None) -> str:
    """The model's description for strangers, who need not know where the file lies."""
    return description.replace(weights, Path(weights).name) if weights else description


def main(args) -> None:
    check_arguments(args)
    with tempfile.TemporaryDirectory(prefix="video_clip_app_") as temporary:
        gradio = import_gradio(temporary)
        service, samples = load_service(args, temporary)

        from utils.page import build_page, look

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


if __name__ == "__main__":
    sys.exit(run_story(main, parse_arguments()))
