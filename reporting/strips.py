"""Film strips: the input frames, and below each its contribution to the prediction."""

import base64
import io

import torch
from PIL import Image

from modules.attribution import ShownClip
from reporting.html import Html, el

MAX_SIDE = 112  # of a frame in a strip, in pixels
MAX_WIDTH = 1792  # of a strip: 16 frames of 112 pixels; more frames are drawn smaller


def jpeg_strip(frames: torch.Tensor) -> str:
    """The frames (T,3,H,W) uint8 side by side, as the data address of a JPEG."""
    num_frames, _, height, width = frames.shape
    scale = min(1.0, MAX_SIDE / height, MAX_WIDTH / (num_frames * width))
    strip = Image.fromarray(torch.cat(list(frames), dim=2).permute(1, 2, 0).numpy())
    size = (num_frames * max(1, round(width * scale)), max(1, round(height * scale)))
    buffer = io.BytesIO()
    strip.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def bars(clip: ShownClip) -> Html:
    """A bar with its value below each frame, pointing up if it supports the predicted class; the largest has full
    height."""
    marks = []
    for share, nats in clip.bars():
        bar = el("i", class_="for" if share > 0 else "against", style=f"--height:{100 * abs(share):.0f}%")
        marks.append(el("li", bar, el("span", nats)))
    return el("ol", marks, class_="bars", aria_label="Contribution of each frame, in nats")


def strip_box(clip: ShownClip, path: str) -> Html:
    """The frames and their bars, in a scrolling box."""
    num_frames = len(clip.frames)
    pictures = [el("img", src=jpeg_strip(clip.frames), alt=f"{num_frames} frames of {path}")]
    if clip.lit is not None:
        alt = "The same frames, highlighted where they support the predicted class"
        pictures.append(el("img", src=jpeg_strip(clip.lit), alt=alt))
    inside = el("div", pictures, bars(clip), style=f"--frames:{num_frames}")
    return el("div", inside, class_="film", tabindex="0", role="region", aria_label=f"Frames of {path}")
