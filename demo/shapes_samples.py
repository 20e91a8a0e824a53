"""A few sample videos of the classes of the demo data set."""

from pathlib import Path

import numpy as np

from demo.make_shapes_world import write_video
from demo.shapes_world import HELD_OUT_CLASSES, SEEN_CLASSES, ClipClass, render_clip

CLASS_NAMES = [clip_class.name for clip_class in (*SEEN_CLASSES, *HELD_OUT_CLASSES)]
# One of each motion; the last is of a held-out class.
SAMPLE_CLASSES = (
    ClipClass("circle", "moving left"),
    ClipClass("star", "moving up"),
    ClipClass("triangle", "spinning"),
    ClipClass("cross", "growing"),
    ClipClass("square", "flashing"),
    HELD_OUT_CLASSES[1],
)


def sample_videos(folder: Path) -> list[tuple[str, Path]]:
    """Render the sample videos into `folder`; returns their names and paths, which are named after their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for seed, clip_class in enumerate(SAMPLE_CLASSES):
        path = folder / f"{clip_class.folder}.mp4"
        write_video(path, render_clip(clip_class, np.random.default_rng(seed)))
        samples.append((clip_class.name, path))
    return samples
