"""A small data set of JPEG frames, made here: folders, lists and labels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks.gpu_parts.part import Setting

LABELS = ("riding a bike", "playing guitar", "swimming", "cooking")
NUM_FRAMES = 12  # of a folder


def data_keys(setting: Setting, num_clips: int) -> list[str]:
    """Overrides that train on `num_clips` clips and validate on one of each class; the files are made where missing."""
    root = Path(setting.scratch)
    folders = _write_frames(root / "frames", setting.tiny)
    for name, number in (("train", num_clips), ("val", len(LABELS))):
        chosen = [folders[i % len(folders)] for i in range(number)]
        lines = [f"{folder} {NUM_FRAMES} {i % len(LABELS)}\n" for i, folder in enumerate(chosen)]
        (root / f"{name}.txt").write_text("".join(lines))
    (root / "labels.csv").write_text("id,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(LABELS)))
    return [
        f"data.train_root={root}/frames", f"data.train_list={root}/train.txt",
        f"data.val_root={root}/frames", f"data.val_list={root}/val.txt",
        f"data.label_list={root}/labels.csv", f"data.num_classes={len(LABELS)}",
        f"logging.cache_dir={root}/cache", "logging.tensorboard=false",
    ]  # fmt: skip


def _write_frames(root: Path, is_tiny: bool) -> list[str]:
    """Folders of frames of 340x256 pixels, with about the bytes of real ones at quality 90; their names."""
    num_folders, (height, width) = (6, (64, 85)) if is_tiny else (48, (256, 340))
    generator = torch.Generator().manual_seed(0)
    names = [f"clip_{number:02d}" for number in range(num_folders)]
    for name in names:
        if (root / name).is_dir():
            continue
        coarse = torch.rand(NUM_FRAMES, 3, height // 6, width // 6, generator=generator)
        levels = F.interpolate(coarse, (height, width), mode="bilinear").mul(255).byte()
        (root / name).mkdir(parents=True)
        for index, frame in enumerate(np.asarray(levels.permute(0, 2, 3, 1).contiguous())):
            Image.fromarray(frame).save(root / name / f"img_{index + 1:05d}.jpg", quality=90)
    return names
