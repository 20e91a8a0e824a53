"""A few videos of the embedded world, to try a model on: those of the demo, else rendered here."""

import shutil
from pathlib import Path

import av
import numpy as np

from datasets.lists import read_list
from demo.shapes_world import FRAMES_PER_SECOND, HELD_OUT_CLASSES, SEEN_CLASSES, ClipClass, render_clip

CLASS_NAMES = [clip_class.name for clip_class in (*SEEN_CLASSES, *HELD_OUT_CLASSES)]
# One of each motion, the last of a class that no training saw.
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
        world: of demo/make_shapes_world.py; its test videos are taken where it has them.
        folder: of the videos: copies named after their classes, or rendered ones.
    """
    found = []
    folder.mkdir(parents=True, exist_ok=True)
    lists = [world / "lists" / f"{split}_videos.txt" for split in ("val", "heldout")]
    if all(path.is_file() for path in lists):
        entries = [e.path for path in lists for e in read_list(path, len(CLASS_NAMES), of_frames=False)]
        for clip_class in SAMPLE_CLASSES:
            path = next((world / "videos" / p for p in entries if p.startswith(f"{clip_class.folder}/")), None)
            if path is not None and path.is_file():
                copied = shutil.copy(path, folder / f"{clip_class.folder}.mp4")
                found.append((clip_class.name, Path(copied)))
    if len(found) == len(SAMPLE_CLASSES):
        return found
    return [(c.name, _render(c, seed, folder / f"{c.folder}.mp4")) for seed, c in enumerate(SAMPLE_CLASSES)]


def _render(clip_class: ClipClass, seed: int, path: Path) -> Path:
    """An H.264 file of a clip of the class, at the clip's own size."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": "16", "threads": "1"})
        frames = render_clip(clip_class, np.random.default_rng(seed))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
