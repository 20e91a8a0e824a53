"""Tiny CLIP models and configs for the tests of modules/."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
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


class Batches:
    """A loader for the trainer with batches of clips and labels, of which this process has the rows `share`."""

    def __init__(self, batches: list[tuple[torch.Tensor, torch.Tensor]], share: slice = slice(None)):
        sizes = [len(labels) for _, labels in batches]
        self.batches, self.dataset = SimpleNamespace(plan=sizes), range(sum(sizes))
        self.shares = [(clips[share], labels[share]) for clips, labels in batches]

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for clips, labels in self.shares:
            size = len(labels)
            yield {
                "frames": clips,
                "label": labels,
                "weight": torch.ones(size),
                "index": torch.arange(size),
                "is_faulty": torch.zeros(size, dtype=torch.bool),
            }
