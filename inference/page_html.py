"""HTML of the page of app.py: a result, an error, thumbnails of the samples, the history of a session.

All names and messages are escaped. Legend: T frames, C=3 channels, S side of a frame in pixels.
"""

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

from inference.pictures import MAX_FRAMES_PER_STRIP
from inference.timeline import UNKNOWN, VideoPrediction, clock, spread
from modules.attribution import ShownClip

MAX_BARS = 5
FRAME_HEIGHT = 160  # pixels, the maximum for frames in the page
THUMBNAIL_HEIGHT, THUMBNAIL_FRAMES = 96, 16
# The colour-blind safe palette of Okabe and Ito, changed for a white page; a class has one colour in a result.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8c8c8c")

_FOLDER = Path(__file__).parent
CSS = (_FOLDER / "page.css").read_text(encoding="utf-8")
SCRIPT = f"<script>{(_FOLDER / 'page.js').read_text(encoding='utf-8')}</script>"


ALERT = '<p class="alert" id="alert" role="alert" hidden></p>'
"""Element in which the page's script shows Gradio's messages, which would disappear after some seconds."""


def opening_html(title: str, knows: str, description: str) -> str:
    """The title of the page, what the model knows, and its description in small type."""
    lines = f"<p>{html.escape(knows)}</p><p class='note'>{html.escape(description)}</p>"
    return f'<div class="opening"><h1>{html.escape(title)}</h1>{lines}</div>'


def result_html(prediction: VideoPrediction) -> str:
    """The result, its film strips, and links to save it."""
    name, _ = prediction.verdict()
    verdict = "unknown: no class is likely enough" if name == UNKNOWN else name
    parts = [f'<p class="verdict">{html.escape(verdict)}</p>']
    parts += [_bar(class_name, probability) for class_name, probability in prediction.top(MAX_BARS)]
    if len(prediction.spans) > 1:
        parts += ["<h2>Timeline</h2>", _timeline(prediction)]
    parts.append(f'<h2>Frames the model saw</h2><p class="note">{_note_on_strips(prediction.clips[0][1])}</p>')
    for number, clip in prediction.clips:
        title = ""
        if len(prediction.spans) > 1:
            start, end = prediction.spans[number]
            best, share = prediction.verdict(number)
            title = f"{clock(start)} - {clock(end)}: {best}, {share:.0%}"
            parts.append(f'<button type="button" class="seek" data-start="{start:.3f}">{html.escape(title)}</button>')
        parts.append(_strip(clip, title))
    parts.append(_links(prediction))
    return f'<div class="result">{"".join(parts)}</div>'


def error_html(message: str) -> str:
    """The result area with a message."""
    return f'<div class="result"><p class="alert" role="alert">{html.escape(message)}</p></div>'


def empty_html() -> str:
    """The empty result area."""
    note = "Here come the best classes, a timeline, and the frames that the model saw."
    return f'<div class="result empty"><p class="note">{note}</p></div>'


def history_html(entries: Sequence[tuple[str, str, float]]) -> str:
    """The session's results, newest first: (video, class, probability)."""
    rows = "".join(
        f'<span class="time">{html.escape(video)}</span><span>{html.escape(name)}</span>'
        f'<span class="figure">{probability:.0%}</span>'
        for video, name, probability in reversed(entries)
    )
    return f'<div class="result"><h2>This session</h2><div class="segments">{rows}</div></div>' if entries else ""


def samples_html(samples: Iterable[tuple[str, Path]]) -> str:
    """A button with an animated thumbnail for each sample."""
    buttons = "".join(
        f'<button type="button" data-sample="{number}">{_thumbnail(path)}{html.escape(name)}</button>'
        for number, (name, path) in enumerate(samples)
    )
    return f'<div class="samples">{buttons}</div>'


def _thumbnail(path: Path) -> str:
    """A few frames of a video as an animation that plays twice, and again when hovered; a single frame if the user
    prefers reduced motion."""
    with av.open(str(path)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, THUMBNAIL_FRAMES).round().astype(int)]
    width = round(frames[0].width * THUMBNAIL_HEIGHT / frames[0].height)
    small = [frame.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.LANCZOS) for frame in chosen]
    playing = _image_uri(small[0], "webp", save_all=True, append_images=small[1:], duration=110, loop=2, quality=60)
    still = _image_uri(small[THUMBNAIL_FRAMES // 2], "jpeg", quality=85)
    calm = f'<source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
    return f'<picture>{calm}<img alt="" src="{playing}"></picture>'


def _links(prediction: VideoPrediction) -> str:
    """Links to save the result: JSON, and a button with which the page's script draws a picture."""
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


def _note_on_strips(clip: ShownClip) -> str:
    lit = "Each is repeated below, highlighted where it supports the top class. " if clip.lit is not None else ""
    return f"{lit}Bars: contribution of each frame to the log-odds of the class."


def _strip(clip: ShownClip, title: str) -> str:
    """Up to eight frames side by side; below each, its highlighted regions and the bar of its contribution."""
    films = [spread(list(film), MAX_FRAMES_PER_STRIP) for film in (clip.frames, clip.lit) if film is not None]
    bars = spread(clip.bars(), MAX_FRAMES_PER_STRIP)
    columns = zip(*films, bars, strict=True)
    cells = []
    for *frames, (share, nats) in columns:
        images = "".join(_image(frame) for frame in frames)
        kind = "for" if share > 0 else "against"
        bar = f'<i class="{kind}" style="--share:{abs(share):.3f}"></i><small>{nats}</small>'
        cells.append(f"<div>{images}{bar}</div>")
    label = f"{len(bars)} frames; contribution of each, in nats: {', '.join(nats for _, nats in bars)}"
    title = html.escape(title, quote=True)
    return f'<div class="strip" role="img" aria-label="{label}" data-title="{title}">{"".join(cells)}</div>'


def _image(frame: torch.Tensor) -> str:
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    image.thumbnail((2 * FRAME_HEIGHT, FRAME_HEIGHT))
    return f'<img alt="" src="{_image_uri(image, "jpeg", quality=85)}">'


def _image_uri(image: Image.Image, kind: str, **options: Any) -> str:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return _data_uri(f"image/{kind}", content.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
