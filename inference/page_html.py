"""What the page of app.py shows, as HTML: a result, an error, samples that play, the history of a session.

Every name and message in it is escaped. Legend: T frames, C=3 channels, S side of a frame in pixels.
"""

import base64
import html
import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from PIL import Image

from inference.pictures import MAX_FRAMES_A_STRIP, draw_strips, spread
from inference.timeline import UNKNOWN, VideoPrediction, clock

MAX_BARS = 5
FRAME_HEIGHT = 160  # pixels that a frame is sent with, at most
THUMBNAIL_HEIGHT, THUMBNAIL_FRAMES = 96, 16
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
.result .ends { display: flex; justify-content: space-between; font-size: .85em; opacity: .75; }
.result .segments { display: grid; grid-template-columns: auto 1fr auto; gap: .3em 1em; margin-top: .6em; }
.result .segments span { overflow-wrap: anywhere; }
.result .segments .time { white-space: nowrap; font-variant-numeric: tabular-nums; }
.result .segments .time i { display: inline-block; width: .75em; height: .75em; border-radius: 2px;
  margin-right: .5em; }
.result .note { opacity: .75; }
/* Gradio's trimming fetches its program from elsewhere. */
#video button[aria-label="Trim video to selection"] { display: none; }
.result .lit { margin-top: -.4em; }
.result a { color: inherit; margin-right: 1em; }
.result .alert { border: 2px solid #d55e00; border-radius: .5em; padding: .8em 1em; margin: 0;
  overflow-wrap: anywhere; }
.result button.block { display: block; min-width: 4px; height: 100%; border: 0; padding: 0; cursor: pointer; }
.result button.seek { all: unset; cursor: pointer; text-decoration: underline dotted; }
.result button:focus-visible, .samples button:focus-visible { outline: 3px solid #56b4e9; outline-offset: 1px; }
.samples { display: grid; grid-template-columns: repeat(3, 1fr); gap: .5em; }
.samples button { background: none; border: 0; padding: 0; cursor: pointer; color: inherit; font-size: .8em; }
.samples img { width: 100%; border-radius: .4em; display: block; margin-bottom: .2em; }
#classes .wrap-inner { max-height: 9.5em; overflow-y: auto; }
@media (max-width: 600px) {
  .result .strip { grid-template-columns: repeat(4, 1fr); }
  .result .bar { grid-template-columns: 8.5em 1fr 4.2em; }
}
"""

SCRIPT = """
<script>
document.addEventListener("click", (event) => {
  const place = event.target.closest("[data-start]");
  const video = document.querySelector("#video video");
  if (place && video) { video.currentTime = Number(place.dataset.start); video.play(); }
  const sample = event.target.closest("[data-sample]");
  if (sample) document.querySelector(`#sample-${sample.dataset.sample}`).click();
});
</script>
"""
"""A click in a timeline goes to that time of the video; one on a sample presses its hidden button."""


class Answer(NamedTuple):
    """A prediction for the page, whose `clips` are those that are shown."""

    prediction: VideoPrediction
    lit: torch.Tensor | None  # uint8 (B,T,C,S,S) of `VideoModel.spotlight`, one for each of the clips, where it has one


def result_html(answer: Answer) -> str:
    """The result, its film strips, and links to save it."""
    prediction = answer.prediction
    name, probability = prediction.verdict()
    said = "unknown: no class is likely enough" if name == UNKNOWN else name
    parts = [f'<p class="verdict">{html.escape(said)}</p>', *(_bar(*row) for row in prediction.top(MAX_BARS))]
    if len(prediction.spans) > 1:
        parts += ["<h3>Timeline</h3>", _timeline(prediction)]
    if answer.lit is not None:
        parts.append("<h3>Frames that the model saw, and where in them it found its best class</h3>")
    else:
        parts.append("<h3>Frames that the model saw</h3>")
    for place, (number, clip) in enumerate(prediction.clips):
        if len(prediction.spans) > 1:
            start, end = prediction.spans[number]
            best, share = prediction.verdict(number)
            parts.append(f"<small>{clock(start)} - {clock(end)} &nbsp; {html.escape(best)}, {share:.0%}</small>")
        parts.append(_strip(clip.numpy(), "frame"))
        if answer.lit is not None:
            parts.append(_strip(answer.lit[place].numpy(), "the same frame, lit where it speaks for the class", "lit"))
    parts.append(_links(answer))
    return f'<div class="result">{"".join(parts)}</div>'


def error_html(message: str) -> str:
    return f'<div class="result"><p class="alert" role="alert">{html.escape(message)}</p></div>'


def empty_html() -> str:
    said = "Pick a sample or drop a video. Its classes, the frames that the model saw, and a timeline come here."
    return f'<div class="result"><p class="note">{said}</p></div>'


def history_html(entries: Sequence[tuple[str, str, float]]) -> str:
    """The session's results, newest first: (video, class, probability)."""
    rows = "".join(
        f'<span class="time">{html.escape(video)}</span><span>{html.escape(name)}</span>'
        f'<span class="figure">{probability:.0%}</span>'
        for video, name, probability in reversed(entries)
    )
    return f'<div class="result"><h3>This session</h3><div class="segments">{rows}</div></div>' if entries else ""


def samples_html(samples: Iterable[tuple[str, Path]]) -> str:
    """A button with a playing thumbnail for each sample."""
    buttons = "".join(
        f'<button type="button" data-sample="{number}"><img alt="" src="{_thumbnail(path)}">'
        f"{html.escape(name)}</button>"
        for number, (name, path) in enumerate(samples)
    )
    return f'<div class="samples">{buttons}</div>'


def _thumbnail(path: Path) -> str:
    """A few frames of a video, evenly over it, as the data address of an animated WebP."""
    with av.open(str(path)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, THUMBNAIL_FRAMES).round().astype(int)]
    width = round(frames[0].width * THUMBNAIL_HEIGHT / frames[0].height)
    small = [frame.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.LANCZOS) for frame in chosen]
    content = io.BytesIO()
    small[0].save(content, "WEBP", save_all=True, append_images=small[1:], duration=110, loop=0, quality=60)
    return _data_uri("image/webp", content.getvalue())


def _links(answer: Answer) -> str:
    """Links that save the result as JSON and as a picture; both are in the page, and nothing is kept on the server."""
    prediction = answer.prediction
    content = json.dumps(prediction.to_dict(MAX_BARS), indent=2, ensure_ascii=False).encode()
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "strip.png"
        draw_strips(picture, prediction, MAX_BARS, lambda *_: answer.lit)
        drawn = picture.read_bytes()
    stem = html.escape(Path(prediction.source).stem, quote=True)
    links = (
        f'<a download="{stem}.json" href="{_data_uri("application/json", content)}">Save as JSON</a>'
        f'<a download="{stem}.png" href="{_data_uri("image/png", drawn)}">Save as picture</a>'
    )
    return f"<p>{links}</p>"


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
            f'<button type="button" class="block" data-start="{segment.start:.3f}" title="{times} {escaped}" '
            f'aria-label="{times} {escaped}" style="flex:{segment.end - segment.start:.3f};'
            f'background:{colour[segment.class_name]}"></button>'
        )
        rows.append(
            f'<span class="time"><i style="background:{colour[segment.class_name]}"></i><button type="button" '
            f'class="seek" data-start="{segment.start:.3f}">{times}</button></span>'
            f'<span>{escaped}</span><span class="figure">{segment.probability:.0%}</span>'
        )
    ends = f"<span>{clock(segments[0].start)}</span><span>{clock(segments[-1].end)}</span>"
    parts = (("band", "".join(blocks)), ("ends", ends), ("segments", "".join(rows)))
    return "".join(f'<div class="{kind}">{content}</div>' for kind, content in parts)


def _strip(clip: np.ndarray, alt: str, kind: str = "") -> str:
    """(T,C,S,S) uint8 -> up to eight of its frames side by side."""
    frames = spread(list(clip.transpose(0, 2, 3, 1)), MAX_FRAMES_A_STRIP)
    images = "".join(f'<img alt="{alt}" src="{_jpeg(frame)}">' for frame in frames)
    return f'<div class="strip {kind}">{images}</div>'


def _jpeg(frame: np.ndarray) -> str:
    image = Image.fromarray(frame)
    image.thumbnail((2 * FRAME_HEIGHT, FRAME_HEIGHT))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return _data_uri("image/jpeg", content.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
