"""Tiny CLIP models and configs for the tests of modules/."""

from pathlib import Path
from typing import Any

import torch

from clip import ClipModel
from modules.build import load_clip_model
from tests.clip.tiny import save_state
from utils.schema import Config

NAMES = ["riding a bike", "playing guitar", "swimming"]


def make_config(folder: Path, vision: dict | None = None, **changes: Any) -> Config:
    """A config on tiny weights. `changes` are network.* keys, but data_*, solver_* and logging_* keys of theirs."""
    arch = folder / f"clip{abs(hash(str(vision)))}.pt"
    if not arch.exists():
        save_state(arch, vision)
    tree: dict[str, dict] = {
        "network": {"arch": str(arch)},
        "data": {"input_size": (vision or {}).get("image_size", 32), "num_segments": 4, "num_classes": len(NAMES)},
        "solver": {},
        "logging": {"cache_dir": str(folder / "cache")},
    }
    for name, value in changes.items():
        section, _, key = name.partition("_")
        if section in ("data", "solver", "logging"):
            tree[section][key] = value
        else:
            tree["network"][name] = value
    return Config.model_validate(tree)


def clip_of(cfg: Config, seed: int = 0) -> ClipModel:
    return load_clip_model(cfg.model_copy(update={"seed": seed}))


def make_clips(batch: int = 2, frames: int = 4, size: int = 32, seed: int = 0) -> torch.Tensor:
    """uint8 (B, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, frames, 3, size, size), dtype=torch.uint8, generator=generator)
