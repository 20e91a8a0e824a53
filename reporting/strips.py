"""Film strips: the frames that the model saw, and below each what it adds to the prediction."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from reporting.html import Html, el

MAX_SIDE = 112  # of a frame in a strip, in pixels
MAX_WIDTH = 1792  # of a strip: 16 frames of 112 pixels; more frames are drawn smaller


class Clip(NamedTuple):
    """A video as the model saw it, by one view.

    Attributes:
        frames: uint8 (T,S,S,3). contributions: float32 (T,), of `modules.attribution.drop_one_frame`, in nats.
        lit: uint8 (T,S,S,3), of `modules.attribution.spotlight` for the predicted class; None if the image tower is
            of a kind that keeps no patches.
    """

    frames: np.ndarray
    contributions: np.ndarray
    lit: np.ndarray | None = None


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
    """A bar and its figure below each frame: up where it supports the predicted class; the largest is full."""
    largest = max(float(np.abs(contributions).max()), 1e-9)
    marks = []
    for value in contributions.tolist():
        kind = "for" if value > 0 else "against"
        bar = el("i", class_=kind, style=f"--height:{100 * abs(value) / largest:.0f}%")
        marks.append(el("li", bar, el("span", f"{value:+.1f}".replace("-", "−"))))
    return el("ol", marks, class_="bars", aria_label="What each frame adds, in nats")


def strip_box(clip: Clip, path: str) -> Html:
    """The frames and their bars, in a box that scrolls where they are too many for it."""
    num_frames = len(clip.frames)
    pictures = [el("img", src=jpeg_strip(clip.frames), alt=f"{num_frames} frames of {path}")]
    if clip.lit is not None:
        alt = "The same frames, highlighted where they support the predicted class"
        pictures.append(el("img", src=jpeg_strip(clip.lit), alt=alt))
    inside = el("div", pictures, bars(clip.contributions), style=f"--frames:{num_frames}")
    return el("div", inside, class_="film", tabindex="0", role="region", aria_label=f"Frames of {path}")
