"""A small data set for the tests of the commands (three classes, short clips, a CLIP of some thousand parameters), and
functions that run the entry scripts, in this process or in another."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import open_clip
import pytest
import torch
import yaml

from tests.datasets.helpers import write_frames, write_video
from utils.cli import run_command

REPO = Path(__file__).parents[2]
CLASSES = ("riding a bike", "playing guitar", "swimming")
NUM_TRAIN, NUM_VAL = 5, 3  # clips per class, which batches of 2 and 2 or 3 processes do not divide evenly


class World(NamedTuple):
    """`config` trains one epoch from frames; `video_config` the same from video files."""

    root: Path
    config: Path
    video_config: Path
    arch: Path


def tiny_clip_state(seed: int = 0, image_size: int = 32, layers: int = 2) -> dict[str, torch.Tensor]:
    """OpenAI's layout, 32-dimensional embeddings, random weights."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(
        32,
        {"image_size": image_size, "layers": layers, "width": 64, "patch_size": 8},
        {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
        quick_gelu=True,
    )
    return model.state_dict()


def make_world(root: Path) -> World:
    for split, num_clips in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        frame_lines, video_lines = [], []
        for label in range(len(CLASSES)):
            for number in range(num_clips):
                name, num_frames = f"{split}_{label}_{number}", 9 + number
                write_frames(root / "frames" / name, num_frames, height=36, width=48)
                (root / "videos").mkdir(exist_ok=True)
                write_video(root / "videos" / f"{name}.mp4", num_frames, size=(36, 48))
                frame_lines.append(f"{name} {num_frames} {label}\n")
                video_lines.append(f"{name}.mp4 {label}\n")
        (root / f"{split}_frames.txt").write_text("".join(frame_lines))
        (root / f"{split}_videos.txt").write_text("".join(video_lines))
    (root / "labels.csv").write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(CLASSES)))
    arch = root / "clip.pt"
    torch.save(tiny_clip_state(), arch)
    return World(root, _write_config(root, "frames", arch), _write_config(root, "videos", arch), arch)


def _write_config(root: Path, kind: str, arch: Path) -> Path:
    config = {
        "data": {
            "dataset": "tiny",
            "modality": "RGB" if kind == "frames" else "video",
            "num_segments": 4,
            "batch_size": 2,
            "workers": 0,
            "num_classes": len(CLASSES),
            "train_root": str(root / kind),
            "train_list": str(root / f"train_{kind}.txt"),
            "val_root": str(root / kind),
            "val_list": str(root / f"val_{kind}.txt"),
            "label_list": str(root / "labels.csv"),
            "input_size": 32,
        },
        "network": {"arch": str(arch), "sim_header": "Transf"},
        "solver": {"epochs": 1, "lr": 1e-3, "lr_warmup_step": 0.5},
        "logging": {"print_freq": 1, "eval_freq": 1, "cache_dir": str(root / "cache"), "tensorboard": False},
    }
    path = root / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def entry_script(name: str) -> ModuleType:
    # By path: `import test` would find the standard library's.
    spec = importlib.util.spec_from_file_location(f"entry_{name}", REPO / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *arguments: object) -> int:
    """Run an entry script in this process; returns the exit code."""
    module = entry_script(name)
    return run_command(module.main, module.parse_arguments([str(a) for a in arguments]))


def command(*words: object, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess:
    """Run a command in the repository with this interpreter as `python`, and one thread per process."""
    return subprocess.run(
        [str(w) for w in words],
        cwd=REPO,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def assert_same_predictions(found: list[str], expected: list[str]) -> None:
    """Check that the lines of two predictions.csv are equal, probabilities up to differences of batch shapes."""
    for ours, theirs in zip(csv.DictReader(found), csv.DictReader(expected), strict=True):
        for name, cell in theirs.items():
            if name.startswith("prob") and cell:
                assert float(ours[name]) == pytest.approx(float(cell), abs=1e-4), (ours, theirs)
            else:
                assert ours[name] == cell, (ours, theirs)


def losses(run_dir: Path) -> list[float]:
    return [r["loss"] for r in records(run_dir) if r["kind"] == "train"]


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
