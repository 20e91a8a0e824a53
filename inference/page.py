"""The page of app.py: a video and class names in; bars, frames and a timeline out. Gradio, without other servers."""

import html
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from inference.page_html import (
    ALERT,
    CSS,
    SCRIPT,
    empty_html,
    error_html,
    history_html,
    opening_html,
    result_html,
    samples_html,
)
from inference.timeline import VideoPrediction
from inference.video_inputs import read_class_names
from utils.errors import UserError

TITLE = "What happens in this video?"
OWN_CLASSES = "the model's own"
MAX_WAITING = 20  # requests; a further one is refused
MAX_AT_ONCE = 4  # requests, one per session
MAX_HISTORY = 12
MAX_LIST_BYTES = 200_000  # of an uploaded list of class names
FAILED = "This video could not be classified because of an internal error (see the server's log). Try another video."
log = logging.getLogger(__name__)

Predict = Callable[[str, list[str] | None, float | None, float], VideoPrediction]
"""Path of a video, class names (None: the model's own), seconds of a window (None: the default), the probability
below which a class is unknown -> the prediction, of `VideoModel.explained`. The message of a UserError is shown."""


class SessionTurns:
    """Allows one request of a session at a time. Further ones are refused when they leave the queue; `RequestGuard`
    limits how many of them wait."""

    def __init__(self):
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def take(self, session: str) -> Iterator[None]:
        """Start a request of a session. Raises a UserError while another one is active."""
        with self._lock:
            if session in self._busy:
                raise UserError("Your last video is still being processed; please wait.")
            self._busy.add(session)
        try:
            yield
        finally:
            self._busy.remove(session)


def count_waiting(page: Any, session: str) -> int:
    """Number of requests of a session in the page's queue, for which Gradio has no public interface."""
    queues = page._queue.event_queue_per_concurrency_id.values()
    return sum(event.session_hash == session for queue in queues for event in queue.queue)


class PageContent(NamedTuple):
    """Contents of a page."""

    knows: str  # one line: what the model knows
    description: str  # one line: the model
    limits: str  # one line: what may be uploaded
    class_sets: Mapping[str, Sequence[str]]  # class names by the name of the set; the first set is selected
    samples: Sequence[tuple[str, Path]]  # names and paths of sample videos


def build_page(gradio: Any, predict: Predict, content: PageContent) -> Any:
    """The page, a `gradio.Blocks` that is ready to launch."""
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gradio.HTML(opening_html(TITLE, content.knows, content.description))
        samples = _samples(gradio, content.samples)
        with gradio.Row(elem_id="work"):
            with gradio.Column(min_width=320, elem_id="watch"):
                video, button = _video(gradio, content.limits)
            with gradio.Column(min_width=320, elem_id="outcome"):
                gradio.HTML(ALERT, padding=False)
                result = gradio.HTML(empty_html(), label="Result", padding=False)
                history, past = gradio.State([]), gradio.HTML("", padding=False)
            with gradio.Column(min_width=320, elem_id="settings"):
                names, seconds, threshold, again = _settings(gradio, content)
        answered: dict[str, Any] = {
            "fn": _answering(gradio, predict),
            "inputs": [video, names, seconds, threshold, history],
            "outputs": [result, history, past],
            "concurrency_limit": MAX_AT_ONCE,
            "concurrency_id": "answer",
            "api_visibility": "private",
        }
        button.click(**answered)
        again.click(**answered)
        for path, sample in samples:
            picked = sample.click(lambda path=path: path, None, video, api_visibility="private")
            picked.success(**answered)
        no_result = {"fn": None, "outputs": result, "js": f"() => {json.dumps(empty_html())}"}
        for chosen in (video.upload, video.clear, video.stop_recording, *(sample.click for _, sample in samples)):
            chosen(**no_result, api_visibility="private")  # the last result is of another video
    return page.queue(max_size=MAX_WAITING)


def _answering(gradio: Any, predict: Predict) -> Callable:
    """The function that answers a request: HTML of the result or the error, and the session's history, as a list and as
    HTML."""
    turns = SessionTurns()

    def answer(
        video: str | None,
        names: list[str],
        seconds: float | None,
        threshold: float,
        history: list,
        request: gradio.Request,  # pyright: ignore[reportInvalidTypeForm]
    ) -> tuple[str, list, str]:
        try:
            if not video:
                raise UserError("Add a video first, or pick a sample.")
            if seconds is not None and not 0 <= seconds <= 86400:
                raise UserError("Window length must be between 0 and 86400 seconds.")
            with turns.take(str(request.session_hash)):
                prediction = predict(video, names if any(map(str.strip, names)) else None, seconds or None, threshold)
        except UserError as error:
            shown = error_html(str(error).replace(video or "", Path(video or "").name))  # without paths of the server
        except Exception:  # a bug, whose message may be long and contain paths
            log.exception("%s: could not be classified", video)
            shown = error_html(FAILED)
        else:
            name, probability = prediction.verdict()
            history = [*history, (prediction.source, name, probability)][-MAX_HISTORY:]
            shown = result_html(prediction)
        return shown, history, history_html(history)

    return answer


def _video(gradio: Any, limits: str) -> tuple:
    """The video and the button that classifies it; below them, what may be uploaded."""
    video = gradio.Video(
        label="Video", sources=["upload", "webcam"], include_audio=True, height=300, buttons=[], elem_id="video"
    )
    button = gradio.Button("Classify", variant="primary")
    gradio.HTML(html.escape(limits), elem_id="limits")
    return video, button


def _samples(gradio: Any, samples: Sequence[tuple[str, Path]]) -> list[tuple[str, Any]]:
    """The thumbnails; returns the path and the hidden button of each, which the page's script presses."""
    if samples:
        gradio.HTML(samples_html(samples))
    return [
        (str(path), gradio.Button(name, elem_id=f"sample-{number}", visible="hidden"))
        for number, (name, path) in enumerate(samples)
    ]


def _settings(gradio: Any, content: PageContent) -> tuple:
    """The inputs of class names, window length and threshold, and the button that applies them."""
    first = next(iter(content.class_sets))
    chosen = gradio.Radio(list(content.class_sets), value=first, label="Classes to choose from")
    own = gradio.UploadButton("or your own list (CSV or text)", file_types=[".csv", ".txt"], size="sm")
    names = gradio.Dropdown(
        list(content.class_sets[first]),
        value=list(content.class_sets[first]),
        multiselect=True,
        allow_custom_value=True,
        label="Class names",
        info="Any words will do: the text is the classifier. Type one and press Enter.",
        elem_id="classes",
    )
    with gradio.Row():
        seconds = gradio.Number(
            label="Window length (seconds)", info="0: one clip up to 30 s, windows of 10 s for longer videos.", value=0
        )
        threshold = gradio.Slider(0, 1, value=0, step=0.05, label="Unknown below", info="probability of the top class")
    again = gradio.Button("Run again with these settings")
    show = {"outputs": names, "api_visibility": "private"}
    chosen.change(lambda name: _shown(gradio, content.class_sets[name]), chosen, **show)
    own.upload(lambda path: _shown(gradio, _uploaded_names(gradio, path)), own, **show)
    return names, seconds, threshold, again


def _shown(gradio: Any, names: Sequence[str]) -> Any:
    return gradio.Dropdown(choices=list(names), value=list(names))


def _uploaded_names(gradio: Any, path: str) -> list[str]:
    """Class names in an uploaded file: CSV `id,name`, or text with one name per line."""
    try:
        if Path(path).stat().st_size > MAX_LIST_BYTES:
            raise UserError(f"{path}: is larger than {MAX_LIST_BYTES // 1000} kB; give a list of class names")
        return read_class_names(path if path.endswith(".csv") else Path(path).read_text(encoding="utf-8").splitlines())
    except (UserError, UnicodeDecodeError) as error:
        message = html.escape(str(error).replace(path, Path(path).name))
        raise gradio.Error(message, print_exception=False) from error


def look(gradio: Any) -> dict[str, Any]:
    """Arguments of Gradio's `launch`: a theme with system fonts, of which none is downloaded, and the colours of
    page.css; the style sheet and the script of the page."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = gradio.themes.Default(primary_hue="blue", neutral_hue="stone", **fonts).set(
        body_background_fill="#fdfdfb",
        body_background_fill_dark="#131519",
        button_primary_background_fill="#1a62b4",
        button_primary_background_fill_dark="#1a62b4",
        block_info_text_color="#5c626b",
        block_info_text_color_dark="#a4a9b2",
    )
    return {"theme": theme, "css": CSS, "head": SCRIPT, "footer_links": []}
