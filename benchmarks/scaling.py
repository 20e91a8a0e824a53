"""The arithmetic of docs/scaling.md: what a clip of each recipe costs, and what a node of 8 GPUs needs to be fed.

    python benchmarks/scaling.py [--flops 140e12]

FLOPs are counted by PyTorch on models without data (a multiplication and an addition are two). Rates of the data path
are those of benchmarks/RESULTS.md. `--flops`: bf16 FLOP/s that a GPU sustains in training.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import print_table
from modules.build import build_model, load_clip_model
from utils.config import load_config
from utils.project_paths import REPOSITORY

RECIPES = ("vitb-32-f8", "vitb-32-f16", "vitb-16-f8", "vitb-16-f16", "vitl-14-f8", "vitl-14-336-f8", "vitl-14-336-f32")
# An A100's bf16 matrix units do 312 TFLOP/s (NVIDIA's data sheet); 45% of it.
SUSTAINED = 0.45 * 312e12
NUM_GPUS = 8
NUM_CLIPS, NUM_EPOCHS = 240_000, 30  # Kinetics-400's training list, about
# benchmarks/RESULTS.md: one core's seconds for a training clip of 8 frames, and bytes, of 10-second clips of 340x256.
FRAME_BYTES, VIDEO_BYTES = 20e3, 0.65e6
JPEG_SECONDS, PACKED_SECONDS, VIDEO_SECONDS = 3.9e-3, 4.2e-3, 60e-3
NETWORK = 12.5e9  # bytes/s of a 100 Gb/s link between machines


class Recipe(NamedTuple):
    """`flops`: of a clip's training step, forward and backward; `parameters`: those that train."""

    name: str
    num_frames: int
    size: int
    flops: float
    parameters: int

    @property
    def frame_area(self) -> float:
        """Pixels of a stored frame as a multiple of the measured ones: the short side is 256, or 336 for 336."""
        return (max(self.size, 256) / 256) ** 2


def cost_of(name: str) -> Recipe:
    cfg, _ = load_config(REPOSITORY / f"configs/k400/k400_train_rgb_{name}.yaml", ["network.weights=none"], "predict")
    with torch.device("meta"):
        clip_model = load_clip_model(cfg)
        model = build_model(cfg, clip_model)
    num_frames, size = cfg.data.num_frames, clip_model.image_size
    with FlopCounterMode(display=False) as counter:
        model.encode_video(torch.zeros(1, num_frames, 3, size, size, device="meta")).sum().backward()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Recipe(name, num_frames, size, counter.get_total_flops(), trained)


def print_recipes(recipes: list[Recipe]) -> None:
    rows = [
        [
            r.name,
            r.num_frames,
            r.size,
            f"{r.parameters / 1e6:.0f}",
            f"{r.flops / 1e12:.2f}",
            f"{r.num_frames * r.frame_area * FRAME_BYTES / 1e3:.0f}",
            f"{r.num_frames * 3 * r.size**2 / 1e6:.1f}",
        ]
        for r in recipes
    ]
    columns = ["recipe", "frames", "pixels", "M parameters", "TFLOP a step and clip", "kB of JPEG", "MB to the GPU"]
    print_table(columns, rows)


def print_needs(recipes: list[Recipe], flops: float) -> None:
    rows = []
    for r in recipes:
        rate = NUM_GPUS * flops / r.flops
        shares = r.num_frames / 8 * r.frame_area  # pixels of a clip as a multiple of those of the measured 8 frames
        cores = [rate * seconds for seconds in (shares * JPEG_SECONDS, shares * PACKED_SECONDS, VIDEO_SECONDS)]
        rows.append(
            [
                r.name,
                f"{rate / NUM_GPUS:.0f}",
                *[f"{c:.0f}" if c >= 1 else f"{c:.1f}" for c in cores],
                f"{rate * r.num_frames:.0f}",
                f"{rate * r.num_frames * r.frame_area * FRAME_BYTES / 1e6:.0f}",
                f"{rate * VIDEO_BYTES / 1e6:.0f}",
                f"{NUM_CLIPS * NUM_EPOCHS / rate / 3600:.1f}",
            ]
        )
    print_table(
        [
            "recipe",
            "clips/s a GPU",
            "cores, frames",
            "cores, packed",
            "cores, mp4",
            "frames/s",
            "MB/s, frames or packed",
        ]
        + ["MB/s, mp4", "hours, 30 epochs"],
        rows,
    )


def print_traffic(recipes: list[Recipe], flops: float) -> None:
    rows = []
    for r in recipes:
        exchange = 2 * 4 * r.parameters / NETWORK  # ring: each machine sends and receives the gradients twice, nearly
        backward = 2 / 3 * r.flops / flops  # of one clip: what there is to hide the exchange behind
        rows.append([r.name, f"{4 * r.parameters / 1e6:.0f}", f"{1e3 * exchange:.0f}", f"{exchange / backward:.0f}"])
    print_table(["recipe", "MB of gradients", "ms to exchange", "clips a GPU and step that hide it"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flops", type=float, default=SUSTAINED)
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # that the weights are random is what is wanted
    recipes = [cost_of(name) for name in RECIPES]
    print_recipes(recipes)
    print_needs(recipes, args.flops)
    print_traffic(recipes, args.flops)


if __name__ == "__main__":
    main()
