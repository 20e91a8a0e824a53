"""Computes the tables of docs/scaling.md: the cost of a clip of each recipe, and the data rates that GPUs need.

    python benchmarks/scaling.py [--flops 370e12]

FLOPs are counted by PyTorch on meta tensors (a multiplication and an addition are two). Rates of GPUs and of data
loading are those of benchmarks/RESULTS.md. `--flops` is the bf16 FLOP/s that another GPU sustains in training.
"""

import argparse
import logging
import math
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

RECIPES = ("vitb-32-f8", "vitb-16-f8", "vitl-14-f8", "vitl-14-336-f8", "vitl-14-336-f32")
# From benchmarks/RESULTS.md: training speed of an H100 in clips/s, and its FLOP/s for L/14-336, used for other recipes.
MEASURED = {"vitb-32-f8": 1177, "vitb-16-f8": 372, "vitl-14-f8": 93.2, "vitl-14-336-f8": 41.0}
SUSTAINED = 370e12
NODE_GPUS = 8
NUM_CLIPS, NUM_EPOCHS = 240_000, 30  # approximately those of Kinetics-400's training list
LARGE_CLIPS, LARGE_GPUS = 10_000_000, 64
# From benchmarks/RESULTS.md, for 340x256 pixels: clips/s of 8 JPEG frames per loader process, CPU seconds to decode a
# 10-second video, and bytes of a frame and of a video.
CORE_CLIPS, VIDEO_SECONDS = 115, 60e-3
FRAME_BYTES, VIDEO_BYTES = 20e3, 0.65e6
PACKED_BYTES = 100 * FRAME_BYTES  # of 10 seconds at 10 frames per second
# benchmarks/RESULTS.md: per clip in list and index, with the order of an epoch; and while the index is read.
INDEX_SECONDS, INDEX_BYTES, READING_BYTES = 4.6e-6, 92, 252
START_SECONDS = 5  # benchmarks/RESULTS.md: from the command to the first step of a resumed run, of a small model
HUGE_PARAMETERS = 1.84e9  # of the image tower of ViT-bigG/14
HUGE_FLOPS = 6 * HUGE_PARAMETERS * 8 * 257  # of a step with a clip of 8 frames: 6 per parameter and token
NETWORK = 12.5e9  # bytes/s of a 100 Gb/s link between machines
LINKS = (10, 25, 100, 400)  # Gb/s of Ethernet's usual links
NVLINK = 450e9  # bytes/s in each direction between the H100s of a machine (NVIDIA's data sheet: 900 GB/s both ways)


class Recipe(NamedTuple):
    """`flops`: of a training step per clip, forward and backward; `parameters`: number of trained ones."""

    name: str
    num_frames: int
    size: int
    flops: float
    parameters: int

    @property
    def frame_area(self) -> float:
        """Pixels of a stored frame relative to the measured ones: the short side is 256, or 336 for inputs of 336."""
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
    columns = ["recipe", "frames", "pixels", "M parameters", "TFLOP per step and clip", "kB of JPEG", "MB to the GPU"]
    print_table(columns, rows)


def rate_of(recipe: Recipe, flops: float | None) -> float:
    """Training speed of a GPU in clips/s: measured, or estimated from its sustained FLOP/s."""
    if flops is None and recipe.name in MEASURED:
        return MEASURED[recipe.name]
    return (flops or SUSTAINED) / recipe.flops


def core_seconds(recipe: Recipe) -> float:
    """CPU seconds of a clip from JPEG frames, in proportion to its pixels."""
    return recipe.num_frames / 8 * recipe.frame_area / CORE_CLIPS


def print_needs(recipes: list[Recipe], flops: float | None) -> None:
    rows = []
    for r in recipes:
        rate = NODE_GPUS * rate_of(r, flops)
        rows.append(
            [
                r.name,
                f"{rate / NODE_GPUS:.0f}",
                f"{rate * core_seconds(r):.0f}",
                f"{rate * (core_seconds(r) + VIDEO_SECONDS):.0f}",
                f"{rate * r.num_frames * r.frame_area * FRAME_BYTES / 1e6:.0f}",
                f"{rate * VIDEO_BYTES / 1e6:.0f}",
                f"{NUM_CLIPS * NUM_EPOCHS / rate / 3600:.1f}",
            ]
        )
    columns = ["recipe", "clips/s per GPU", "cores, frames or packed", "cores, mp4", "MB/s, frames or packed"]
    print_table([*columns, "MB/s, mp4", "hours, 30 epochs"], rows)


def print_large(recipes: list[Recipe], flops: float | None) -> None:
    rows = []
    for r in recipes:
        if r.name in MEASURED:
            rate = LARGE_GPUS * rate_of(r, flops)
            gpu_hours = NUM_EPOCHS * LARGE_CLIPS / rate / 3600 * LARGE_GPUS
            node = rate * NODE_GPUS / LARGE_GPUS
            rows.append(
                [
                    r.name,
                    f"{LARGE_CLIPS / rate / 60:.0f}",
                    f"{gpu_hours:.0f}",
                    f"{node * core_seconds(r):.0f}",
                    f"{node * PACKED_BYTES / 1e9:.1f}",
                    f"{12 * r.parameters / 1e9:.1f}",
                ]
            )
    columns = ["recipe", "minutes per epoch", "GPU hours, 30 epochs", "cores per node"]
    print_table([*columns, "GB/s per node, not cached", "GB per checkpoint"], rows)


def print_traffic(recipes: list[Recipe], flops: float | None) -> None:
    rows = []
    for r in recipes:
        exchange = 2 * 4 * r.parameters / NETWORK  # ring: each machine sends and receives almost twice the gradients
        backward = 2 / 3 / rate_of(r, flops)  # seconds of one clip, during which gradients can be exchanged
        rows.append([r.name, f"{4 * r.parameters / 1e6:.0f}", f"{1e3 * exchange:.0f}", f"{exchange / backward:.0f}"])
    print_table(["recipe", "MB of gradients", "ms to exchange", "clips per GPU and step to hide it"], rows)


def print_text(recipes: list[Recipe], flops: float | None) -> None:
    """Print the numbers in the text of the page, each with its derivation."""
    rates = {recipe.name: rate_of(recipe, flops) for recipe in recipes}
    large, data = {recipe.name: recipe for recipe in recipes}["vitl-14-f8"], LARGE_CLIPS * PACKED_BYTES
    hours = NUM_EPOCHS * LARGE_CLIPS / rates[large.name] / 3600
    machines = LARGE_GPUS // NODE_GPUS
    # A node reads a random share of the clips in each epoch: after n, it has cached 1 - (1 - share)^n of them.
    half_cached = 1 + math.ceil(math.log(0.5) / math.log(1 - 1 / machines))
    others = 4 * HUGE_PARAMETERS * (machines - 1) / machines  # bytes of weights of the other machines
    backward = 2 / 3 * HUGE_FLOPS / (flops or SUSTAINED)
    node_gb, large_node_gb = (NODE_GPUS * rates[name] * PACKED_BYTES / 1e9 for name in ("vitl-14-f8", "vitb-16-f8"))
    link, large_link = (min(link for link in LINKS if link > 8 * rate) for rate in (node_gb, large_node_gb))
    smallest = recipes[0]
    ring = 2 * 4 * smallest.parameters * (NODE_GPUS - 1) / NODE_GPUS / NVLINK
    hidden = math.ceil(ring / (2 / 3 / rates[smallest.name]))
    restart = START_SECONDS + LARGE_CLIPS * INDEX_SECONDS + 12 * large.parameters / 1e9
    for value, what in {
        f"{round(NODE_GPUS * rates['vitb-16-f8'] * 8, -3):,.0f} loose frames": "a node's B/16, 8 frames per clip",
        f"{NUM_CLIPS * 300 * FRAME_BYTES / 1e12:.1f} TB as frames": "10 seconds at 30 frames per second",
        f"{round(NUM_CLIPS * VIDEO_BYTES / 1e9, -1):.0f} GB as videos": "as many videos",
        f"{data / 1e12:.0f} TB together": "packed clips",
        f"files of {data / 20_000 / 1e9:.0f} GB": "of 20,000 shards",
        f"{LARGE_CLIPS * INDEX_SECONDS:.0f} s, and {LARGE_CLIPS * INDEX_BYTES / 1e9:.1f} GB": "list and index",
        f"{LARGE_CLIPS * READING_BYTES / 1e9:.1f} GB while reading": "the list, and the index while it is read",
        f"{node_gb:.1f} GB/s needs a {link} Gb/s link": "packed clips for L/14",
        f"{large_node_gb:.0f} GB/s a {large_link} Gb/s link": "packed clips for B/16",
        f"data.cache_gb: {data / 2 / 1e9:.0f}": "half of them",
        f"from epoch {half_cached} on": "the first that begins with half of them cached",
        f"{12 * large.parameters / 1e9 / 600:.1%}".replace("%", " %"): "a checkpoint of L/14 at 1 GB/s in ten minutes",
        f"checkpoint, and {restart:.0f} s": "start-up, list and index, a checkpoint of L/14 at 1 GB/s",
        f"{round(2.5 * hours, -2):,.0f} USD": "GPU hours of L/14 at 2.50 USD",
        f"{16 * HUGE_PARAMETERS / LARGE_GPUS / 1e9:.1f} GB per GPU": "weights, gradients and moments over all GPUs",
        f"{3 * others / 1e9:.0f} GB of weights and": "gathered twice, gradients reduced once",
        f"({3 * others / NETWORK:.1f} s)": "that at 100 Gb/s",
        f"HSDP {16 * HUGE_PARAMETERS / NODE_GPUS / 1e9:.1f} GB": "over the GPUs of a machine",
        f"{2 * others / 1e9:.0f} GB of gradients ({2 * others / NETWORK:.1f} s)": "a ring over the machines",
        f"{2 * others / NETWORK / backward:.0f} clips per GPU": "whose backward pass takes as long",
        f"{HUGE_FLOPS / 1e12:.0f} TFLOP per step and clip": "6 per parameter and token",
        f"backward pass of {hidden} clips per GPU": "of B/32, as long as a ring of NVLinks takes for its gradients",
    }.items():
        print(f"{value}: {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flops", type=float)
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # random weights are intended
    recipes = [cost_of(name) for name in RECIPES]
    print_recipes(recipes)
    print_needs(recipes, args.flops)
    print_large(recipes, args.flops)
    print_traffic(recipes, args.flops)
    print_text(recipes, args.flops)


if __name__ == "__main__":
    main()
