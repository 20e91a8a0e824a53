"""A few sample videos of the demo data set: those of the demo if it has run, otherwise rendered here."""

import shutil
from pathlib import Path

import numpy as np

from datasets.lists import read_list
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


def sample_videos(world: Path, folder: Path) -> list[tuple[str, Path]]:
    """Names and paths of sample videos.

    Args:
        world: folder of demo/make_shapes_world.py, whose test videos are used if they exist.
        folder: folder for the samples: copies named after their classes, or rendered ones.
    """
    samples = []
    folder.mkdir(parents=True, exist_ok=True)
    lists = [world / "lists" / f"{split}_videos.txt" for split in ("val", "heldout")]
    if all(path.is_file() for path in lists):
        entries = [e.path for path in lists for e in read_list(path, len(CLASS_NAMES), of_frames=False)]
        for clip_class in SAMPLE_CLASSES:
            path = next((world / "videos" / p for p in entries if p.startswith(f"{clip_class.folder}/")), None)
            if path is not None and path.is_file():
                copied = shutil.copy(path, folder / f"{clip_class.folder}.mp4")
                samples.append((clip_class.name, Path(copied)))
    if len(samples) == len(SAMPLE_CLASSES):
        return samples
    return [(c.name, _render(c, seed, folder / f"{c.folder}.mp4")) for seed, c in enumerate(SAMPLE_CLASSES)]


def _render(clip_class: ClipClass, seed: int, path: Path) -> Path:
    """An H.264 file of a clip of the class, at the clip's own size."""
    write_video(path, render_clip(clip_class, np.random.default_rng(seed)))
    return path
