"""Film strips: the frames that the model saw, and below each what it adds to the prediction."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from reporting.html import Html, el
from reporting.outcomes import Outcomes

MAX_SIDE = 112  # of a frame in a strip, in pixels
MAX_WIDTH = 1792  # of a strip: 16 frames of 112 pixels; more frames are drawn smaller
_BAR_ROOM = 24  # height of the bars below a strip, in units of a frame's hundredth


class Clip(NamedTuple):
    """A video as the model saw it, by one view.

    Attributes:
        frames: uint8 (T,S,S,3). contributions: float32 (T,), of `reporting.attribution.drop_one_frame`, in nats.
    """

    frames: np.ndarray
    contributions: np.ndarray


def jpeg_strip(frames: np.ndarray) -> str:
    """The frames (T,H,W,3) uint8 side by side, as the data address of a JPEG."""
    num_frames, height, width = frames.shape[:3]
    scale = min(1.0, MAX_SIDE / height, MAX_WIDTH / (num_frames * width))
    strip = Image.fromarray(np.concatenate(list(frames), axis=1))
    size = (num_frames * max(1, round(width * scale)), max(1, round(height * scale)))
    buffer = io.BytesIO()
    strip.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def bars(contributions: np.ndarray) -> Html:
    """A bar below each frame: up where it speaks for the predicted class, down where against; the largest is full."""
    largest = max(float(np.abs(contributions).max()), 1e-9)
    parts = []
    for t, value in enumerate(contributions.tolist()):
        height = _BAR_ROOM * abs(value) / largest
        y = _BAR_ROOM - height if value > 0 else _BAR_ROOM
        parts.append(
            el(
                "rect",
                el("title", f"frame {t + 1}: {value:+.2f} nats"),
                x=100 * t + 8,
                width=84,
                y=round(y, 1),
                height=round(max(height, 0.6), 1),
                class_="for" if value > 0 else "against",
            )
        )
    width = 100 * len(contributions)
    axis = el("line", x1=0, x2=width, y1=_BAR_ROOM, y2=_BAR_ROOM, class_="grid")
    said = "What each frame adds, in nats: " + ", ".join(f"{v:+.2f}" for v in contributions.tolist())
    return el(
        "svg",
        el("title", said),
        axis,
        parts,
        viewBox=f"0 0 {width} {2 * _BAR_ROOM}",
        role="img",
        class_="bars",
    )


def film_strips(
    rows: Sequence[int], clips: dict[int, Clip | str], outcomes: Outcomes, paths: list[str], names: list[str]
) -> Html:
    """A figure for each row of the table: its frames, and in words what it is and what it was called.

    Args:
        clips: by row; a text says why a video cannot be shown.
    """
    return el("div", [_strip(clips[row], row, outcomes, paths, names) for row in rows], class_="strips")


def _strip(clip: Clip | str, row: int, outcomes: Outcomes, paths: list[str], names: list[str]) -> Html:
    predicted, label = names[outcomes.predicted[row]], names[outcomes.labels[row]]
    share = f"{outcomes.confidence[row]:.0%}"
    if outcomes.is_top1[row]:
        verdict = [el("b", predicted, class_="right"), f" {share}"]
    else:
        truth = f", it is {label} ({outcomes.label_probability[row]:.1%})"
        verdict = [el("b", predicted, class_="wrong"), f" {share}", truth]
    caption = el("figcaption", verdict, el("small", paths[row]))
    if isinstance(clip, str):
        return el("figure", caption, el("p", clip, class_="note"))
    num_frames = len(clip.frames)
    picture = el("img", src=jpeg_strip(clip.frames), alt=f"{num_frames} frames of {paths[row]}")
    inside = el("div", picture, bars(clip.contributions), style=f"min-width:{2.6 * num_frames:g}rem")
    return el("figure", caption, el("div", inside, class_="box", tabindex="0", role="region", aria_label="film strip"))
