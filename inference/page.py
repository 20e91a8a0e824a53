"""The Gradio page of app.py: a video and class names in; bars, frames and a timeline out. Loads nothing from outside.

Legend: T frames, C=3 channels, S side of a frame in pixels.
"""

import base64
import html
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inference.timeline import UNKNOWN, VideoPrediction, clock
from utils.errors import UserError

TITLE = "What happens in this video?"
MAX_FRAMES_A_STRIP, MAX_STRIPS, MAX_BARS = 8, 6, 5
FRAME_HEIGHT = 160  # pixels that a frame is sent with, at most
MAX_WAITING = 20  # requests; a further one is refused
MAX_AT_ONCE = 4  # requests, one a session
# Okabe and Ito's colours, which stay apart for colour-blind eyes; a class keeps its colour within a result.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8c8c8c")

CSS = """
.result h3 { margin: 1.1em 0 .4em; font-size: 1em; font-weight: 600; }
.result .verdict { font-size: 1.5em; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.result .bar { display: grid; grid-template-columns: minmax(6em, 13em) 1fr 4.2em; gap: .7em; align-items: center;
  margin: .3em 0; }
.result .bar span { overflow-wrap: anywhere; line-height: 1.25; }
.result .bar .track { height: .8em; border-radius: .4em; background: var(--border-color-primary); overflow: hidden; }
.result .bar .track i { display: block; height: 100%; background: #0072b2; }
.result .figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.result .strip { display: grid; grid-template-columns: repeat(8, 1fr); gap: 3px; margin-bottom: .7em; }
.result .strip img { width: 100%; margin: 0; border-radius: 3px; image-rendering: auto; }
.result .band { display: flex; height: 1.9em; border-radius: .4em; overflow: hidden; gap: 1px; }
.result .band i { display: block; min-width: 2px; }
.result .ends { display: flex; justify-content: space-between; font-size: .85em; opacity: .75; }
.result .segments { display: grid; grid-template-columns: auto 1fr auto; gap: .3em 1em; margin-top: .6em; }
.result .segments span { overflow-wrap: anywhere; }
.result .segments .time { white-space: nowrap; font-variant-numeric: tabular-nums; }
.result .segments .time i { display: inline-block; width: .75em; height: .75em; border-radius: 2px;
  margin-right: .5em; }
.result .note { opacity: .75; }
/* Gradio's trimming fetches its program from elsewhere. */
#video button[aria-label="Trim video to selection"] { display: none; }
@media (max-width: 600px) {
  .result .strip { grid-template-columns: repeat(4, 1fr); }
  .result .bar { grid-template-columns: 8.5em 1fr 4.2em; }
}
"""


class SessionTurns:
    """Each session has one video named at a time. What it asks for beside that is refused as soon as its turn comes, so
    that one session cannot fill the queue."""

    def __init__(self):
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def take(self, session: str) -> Iterator[None]:
        """The session's turn. Raises UserError while it has one."""
        with self._lock:
            if session in self._busy:
                raise UserError("Your last video is not done yet; wait for it.")
            self._busy.add(session)
        try:
            yield
        finally:
            self._busy.remove(session)


def build_page(
    gradio: Any,
    predict: Callable[[str, list[str] | None, float | None], VideoPrediction],
    *,
    description: str,
    limits: str,
    class_names: Sequence[str],
    samples: Sequence[tuple[str, Path]],
) -> Any:
    """The page, a `gradio.Blocks` that is ready to launch.

    Args:
        gradio: the package; who wants no page does without it.
        predict: path of a video, class names (None: the model's own), seconds of a window (None: as the model likes)
            -> prediction. A UserError of it is shown, and the page goes on.
        description: of the model. limits: what may be uploaded. Both a line.
        class_names: the model's own. samples: names and paths of videos to choose from.
    """

    turns = SessionTurns()

    def answer(video: str | None, names: str, seconds: float | None, request: gradio.Request) -> str:  # pyright: ignore[reportInvalidTypeForm]
        if not video:
            raise gradio.Error("Drop a video first, or pick a sample.", title="No video", print_exception=False)
        if seconds is not None and not 0 <= seconds <= 86400:
            raise gradio.Error("Seconds a window must be 0 to 86400.", title="Not possible", print_exception=False)
        try:
            with turns.take(str(request.session_hash)):
                return result_html(predict(video, split_names(names), seconds or None))
        except UserError as error:
            # Paths of the server are nobody's business.
            text = str(error).replace(video, Path(video).name)
            raise gradio.Error(html.escape(text), title="Not possible", print_exception=False) from error

    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gradio.HTML(f"<h1>{TITLE}</h1><p>{html.escape(description)}</p>", padding=False)
        with gradio.Row():
            with gradio.Column(min_width=320):
                video, names, seconds, button = _inputs(gradio, limits, class_names, samples)
            with gradio.Column(min_width=320):
                result = gradio.HTML(
                    '<div class="result"><p class="note">The classes, the frames that the model saw, and a timeline '
                    "come here.</p></div>",
                    label="Result",
                    padding=False,
                )
        button.click(
            answer,
            [video, names, seconds],
            result,
            concurrency_limit=MAX_AT_ONCE,
            scroll_to_output=True,
            api_visibility="private",
        )
    return page.queue(max_size=MAX_WAITING)


def _inputs(gradio: Any, limits: str, class_names: Sequence[str], samples: Sequence[tuple[str, Path]]) -> tuple:
    """Video, class names, seconds and button, in a column of the page."""
    video = gradio.Video(label="Video", sources=["upload"], include_audio=True, height=280, buttons=[], elem_id="video")
    gradio.HTML(f'<small style="opacity:.75">{html.escape(limits)}</small>', padding=False)
    if samples:
        gradio.Examples(
            [[str(path)] for _, path in samples],
            [video],
            label="Samples",
            example_labels=[name for name, _ in samples],
            cache_examples=False,
        )
    names = gradio.Textbox(
        "\n".join(class_names),
        label="Classes, one a line",
        info="Any words will do: the text is the classifier. Empty: the model's own.",
        lines=6,
        max_lines=8,
    )
    seconds = gradio.Number(
        label="Seconds a window",
        info="For the timeline. 0: one clip up to 30 s, windows of 10 s for longer videos.",
        value=0,
    )
    button = gradio.Button("Name it", variant="primary")
    return video, names, seconds, button


def look(gradio: Any) -> dict[str, Any]:
    """The theme for `launch`: system fonts, none downloaded."""
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": CSS, "footer_links": []}


def split_names(text: str) -> list[str] | None:
    """Class names of a text: one a line, or, of a single line, with commas between; None where there is none."""
    lines = text.splitlines() if "\n" in text.strip() else text.split(",")
    return [name for line in lines if (name := " ".join(line.split()))] or None


def result_html(prediction: VideoPrediction) -> str:
    """The result as HTML; every name in it is escaped."""
    name, probability = prediction.verdict()
    parts = [f'<p class="verdict">{html.escape(name)}</p>', *(_bar(*row) for row in prediction.top(MAX_BARS))]
    if len(prediction.spans) > 1:
        parts += ["<h3>Timeline</h3>", _timeline(prediction)]
    parts.append("<h3>Frames that the model saw</h3>")
    shown = (
        np.unique(np.linspace(0, len(prediction.clips) - 1, MAX_STRIPS).round().astype(int)) if prediction.clips else []
    )
    for place in shown:
        number, clip = prediction.clips[place]
        if len(prediction.spans) > 1:
            start, end = prediction.spans[number]
            best, share = prediction.verdict(number)
            parts.append(f"<small>{clock(start)} - {clock(end)} &nbsp; {html.escape(best)}, {share:.0%}</small>")
        parts.append(_strip(clip.numpy()))
    return f'<div class="result">{"".join(parts)}</div>'


def _bar(name: str, probability: float) -> str:
    return (
        f'<div class="bar"><span>{html.escape(name)}</span><span class="track"><i style="width:{probability:.1%}"></i>'
        f'</span><span class="figure">{probability:.1%}</span></div>'
    )


def _timeline(prediction: VideoPrediction) -> str:
    segments = prediction.segments
    order = list(dict.fromkeys(s.class_name for s in segments))
    colour = {n: "#8c8c8c" if n == UNKNOWN else COLOURS[i % len(COLOURS)] for i, n in enumerate(order)}
    blocks, rows = [], []
    for segment in segments:
        times = f"{clock(segment.start)} - {clock(segment.end)}"
        escaped = html.escape(segment.class_name, quote=True)
        blocks.append(
            f'<i style="flex:{segment.end - segment.start:.3f};background:{colour[segment.class_name]}" '
            f'title="{times} {escaped}"></i>'
        )
        rows.append(
            f'<span class="time"><i style="background:{colour[segment.class_name]}"></i>{times}</span>'
            f'<span>{escaped}</span><span class="figure">{segment.probability:.0%}</span>'
        )
    ends = f"<span>{clock(segments[0].start)}</span><span>{clock(segments[-1].end)}</span>"
    parts = (("band", "".join(blocks)), ("ends", ends), ("segments", "".join(rows)))
    return "".join(f'<div class="{kind}">{content}</div>' for kind, content in parts)


def _strip(clip: np.ndarray) -> str:
    """(T,C,S,S) uint8 -> up to eight of its frames side by side."""
    places = np.unique(np.linspace(0, len(clip) - 1, MAX_FRAMES_A_STRIP).round().astype(int))
    images = "".join(f'<img alt="frame" src="{_data_uri(clip[place].transpose(1, 2, 0))}">' for place in places)
    return f'<div class="strip">{images}</div>'


def _data_uri(frame: np.ndarray) -> str:
    image = Image.fromarray(frame)
    image.thumbnail((2 * FRAME_HEIGHT, FRAME_HEIGHT))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
