"""A small generated data set: JPEG frames or videos, lists and labels."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks.gpu_parts.part import Setting

LABELS = ("riding a bike", "playing guitar", "swimming", "cooking")
NUM_FRAMES = 12  # per folder


def data_keys(setting: Setting, num_clips: int, videos: bool = False) -> list[str]:
    """Overrides for training on `num_clips` clips and validating on one per class; creates missing files."""
    root = Path(setting.scratch)
    kind, count = ("videos", "") if videos else ("frames", f" {NUM_FRAMES}")
    names = _write_videos(root / kind, setting.tiny) if videos else _write_frames(root / kind, setting.tiny)
    for name, number in (("train", num_clips), ("val", len(LABELS))):
        lines = [f"{names[i % len(names)]}{count} {i % len(LABELS)}\n" for i in range(number)]
        (root / f"{name}_{kind}.txt").write_text("".join(lines))
    (root / "labels.csv").write_text("id,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(LABELS)))
    return [
        f"data.train_root={root}/{kind}", f"data.train_list={root}/train_{kind}.txt",
        f"data.val_root={root}/{kind}", f"data.val_list={root}/val_{kind}.txt",
        f"data.modality={'video' if videos else 'RGB'}",
        f"data.label_list={root}/labels.csv", f"data.num_classes={len(LABELS)}",
        f"logging.cache_dir={root}/cache", "logging.tensorboard=false",
    ]  # fmt: skip


def _random_frames(is_tiny: bool) -> Iterator[np.ndarray]:
    """(NUM_FRAMES, H, W, 3) uint8 for each clip, 340x256 pixels, whose JPEGs are about as large as those of real
    frames."""
    num_clips, (height, width) = (6, (64, 84)) if is_tiny else (48, (256, 340))
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_clips):
        coarse = torch.rand(NUM_FRAMES, 3, height // 6, width // 6, generator=generator)
        levels = F.interpolate(coarse, (height, width), mode="bilinear").mul(255).byte()
        yield np.asarray(levels.permute(0, 2, 3, 1).contiguous())


def _write_frames(root: Path, is_tiny: bool) -> list[str]:
    """Write folders of JPEG frames of quality 90; returns the folder names."""
    if not root.is_dir():
        for number, frames in enumerate(_random_frames(is_tiny)):
            (root / f"clip_{number:02d}").mkdir(parents=True)
            for index, frame in enumerate(frames):
                Image.fromarray(frame).save(root / f"clip_{number:02d}" / f"img_{index + 1:05d}.jpg", quality=90)
    return sorted(path.name for path in root.iterdir())


def _write_videos(root: Path, is_tiny: bool) -> list[str]:
    """Write H.264 files whose image changes every five frames, with a keyframe every two seconds; returns the file
    names."""
    if not root.is_dir():
        root.mkdir()
        for number, frames in enumerate(_random_frames(is_tiny)):
            with av.open(str(root / f"clip_{number:02d}.mp4"), "w") as container:
                frames = frames[:, 2 * (number % 2) :]  # heights of one coded size, which a decoder must not confuse
                stream = container.add_stream("libx264", rate=25, options={"g": "50", "preset": "veryfast"})
                stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
                for frame in np.repeat(frames, 5, axis=0):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode(None))
    return sorted(path.name for path in root.iterdir())
