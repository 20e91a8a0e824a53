"""What the page of app.py shows, as HTML: a result, an error, samples that play, the history of a session.

Every name and message in it is escaped. Legend: T frames, C=3 channels, S side of a frame in pixels.
"""

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from PIL import Image

from inference.pictures import MAX_FRAMES_A_STRIP, spread
from inference.timeline import UNKNOWN, VideoPrediction, clock

MAX_BARS = 5
FRAME_HEIGHT = 160  # pixels that a frame is sent with, at most
THUMBNAIL_HEIGHT, THUMBNAIL_FRAMES = 96, 16
# Okabe and Ito's colours, which stay apart for colour-blind eyes; a class keeps its colour within a result.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8c8c8c")

_FOLDER = Path(__file__).parent
CSS = (_FOLDER / "page.css").read_text(encoding="utf-8")
SCRIPT = f"<script>{(_FOLDER / 'page.js').read_text(encoding='utf-8')}</script>"


class Answer(NamedTuple):
    """A prediction for the page, whose `clips` are those that are shown."""

    prediction: VideoPrediction
    lit: torch.Tensor | None  # uint8 (B,T,C,S,S) of `VideoModel.spotlight`, one for each of the clips, where it has one


def opening_html(title: str, knows: str, description: str) -> str:
    """The page's title, what the model knows, and in small type what it is."""
    lines = f"<p>{html.escape(knows)}</p><p class='note'>{html.escape(description)}</p>"
    return f'<div class="opening"><h1>{html.escape(title)}</h1>{lines}</div>'


def result_html(answer: Answer) -> str:
    """The result, its film strips, and links to save it."""
    prediction = answer.prediction
    name, probability = prediction.verdict()
    said = "unknown: no class is likely enough" if name == UNKNOWN else name
    parts = [f'<p class="verdict">{html.escape(said)}</p>', *(_bar(*row) for row in prediction.top(MAX_BARS))]
    if len(prediction.spans) > 1:
        parts += ["<h2>Timeline</h2>", _timeline(prediction)]
    where = ", highlighted where they support the top class" if answer.lit is not None else ""
    parts.append(f"<h2>Frames the model saw{where}</h2>")
    for place, (number, clip) in enumerate(prediction.clips):
        title = ""
        if len(prediction.spans) > 1:
            start, end = prediction.spans[number]
            best, share = prediction.verdict(number)
            title = f"{clock(start)} - {clock(end)}: {best}, {share:.0%}"
            parts.append(f'<button type="button" class="seek" data-start="{start:.3f}">{html.escape(title)}</button>')
        parts.append(_strip(clip.numpy(), None if answer.lit is None else answer.lit[place].numpy(), title))
    parts.append(_links(prediction))
    return f'<div class="result">{"".join(parts)}</div>'


def error_html(message: str) -> str:
    return f'<div class="result"><p class="alert" role="alert">{html.escape(message)}</p></div>'


def empty_html() -> str:
    said = "Here come the best classes, a timeline, and the frames that the model saw."
    return f'<div class="result empty"><p class="note">{said}</p></div>'


def history_html(entries: Sequence[tuple[str, str, float]]) -> str:
    """The session's results, newest first: (video, class, probability)."""
    rows = "".join(
        f'<span class="time">{html.escape(video)}</span><span>{html.escape(name)}</span>'
        f'<span class="figure">{probability:.0%}</span>'
        for video, name, probability in reversed(entries)
    )
    return f'<div class="result"><h2>This session</h2><div class="segments">{rows}</div></div>' if entries else ""


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


def _links(prediction: VideoPrediction) -> str:
    """What saves the result: JSON in the page, and a button by which the page's script draws a picture of it."""
    content = json.dumps(prediction.to_dict(MAX_BARS), indent=2, ensure_ascii=False).encode()
    stem = html.escape(Path(prediction.source).stem, quote=True)
    return (
        f'<p class="save"><a download="{stem}.json" href="{_data_uri("application/json", content)}">Save as JSON</a>'
        f'<button type="button" data-picture="{stem}.png">Save as picture</button></p>'
    )


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
            f'<button type="button" data-start="{segment.start:.3f}" title="{times} {escaped}" '
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


def _strip(clip: np.ndarray, lit: np.ndarray | None, title: str) -> str:
    """(T,C,S,S) uint8 each -> up to eight of its frames side by side, each above itself lit."""
    films = [spread(list(film.transpose(0, 2, 3, 1)), MAX_FRAMES_A_STRIP) for film in (clip, lit) if film is not None]
    cells = "".join(f"<div>{''.join(map(_image, frames))}</div>" for frames in zip(*films))
    repeated = ", each repeated below, highlighted where it supports the class" if len(films) > 1 else ""
    said = f"{len(films[0])} frames{repeated}"
    title = html.escape(title, quote=True)
    return f'<div class="strip" role="img" aria-label="{said}" data-title="{title}">{cells}</div>'


def _image(frame: np.ndarray) -> str:
    image = Image.fromarray(frame)
    image.thumbnail((2 * FRAME_HEIGHT, FRAME_HEIGHT))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    uri = _data_uri("image/jpeg", content.getvalue())
    return f'<img alt="" src="{uri}">'


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
