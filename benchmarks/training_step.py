"""What does a training step cost, against the published way, which re-computes every block in the backward pass?

    python benchmarks/training_step.py [--arch ViT-B/32] [--batch 2] [--rounds 5] [--compile]

Random weights, synthetic uint8 clips of 8 frames; forward, loss, backward, AdamW; one thread, CPU time. For a GPU:
benchmarks/gpu_check.py.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.timing import in_ms, interleaved, one_thread, print_header, print_table, ratio
from modules.build import build_model, load_clip_model
from modules.build_training import compile_model, parameter_groups
from modules.losses.cross_entropy import weighted_cross_entropy
from modules.video_clip import VideoCLIP
from utils.config import load_config
from utils.optim import build_optimizer
from utils.precision import autocast

NUM_FRAMES, NUM_CLASSES = 8, 400
CPU = torch.device("cpu")


class Variant:
    """A model, its optimiser and one step of training."""

    def __init__(self, arch: str, batch: int, precision: str, *keys: str, compiled: bool = False):
        size = 336 if "336" in arch else 224
        overrides = [f"network.arch={arch}", "network.weights=none", f"data.input_size={size}", *keys]
        cfg, _ = load_config(None, overrides, "predict")
        self.model: VideoCLIP = build_model(cfg, load_clip_model(cfg)).train()
        self.optimizer = build_optimizer(parameter_groups(cfg, self.model), cfg.solver)
        self.precision = precision
        torch.manual_seed(1)
        shape = (batch, NUM_FRAMES, 3, size, size)
        self.clips = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.text = torch.randn(NUM_CLASSES, self.model.embed_dim)
        self.labels = torch.randint(0, NUM_CLASSES, (batch,))
        self.weights = torch.ones(batch)
        if compiled:
            compile_model(self.model, CPU)

    def loss(self) -> torch.Tensor:
        with autocast(self.precision, CPU):
            logits = self.model(self.clips, self.text)
        return weighted_cross_entropy(logits, self.labels, self.weights) / len(self.labels)

    def step(self, number: int = 0) -> torch.Tensor:
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def published_optimizer(variant: Variant) -> Variant:
    """PyTorch's default AdamW in place of the fused one."""
    groups = [dict(group) for group in variant.optimizer.param_groups]
    for group in groups:
        group.pop("fused")
    variant.optimizer = torch.optim.AdamW(groups, foreach=False, betas=(0.9, 0.999), eps=1e-8)
    return variant


def variants(args: argparse.Namespace) -> dict[str, Variant]:
    def make(precision: str, *keys: str, **options: Any) -> Variant:
        return Variant(args.arch, args.batch, precision, *keys, **options)

    recompute = "solver.activation_checkpointing=true"
    low = "bf16"
    made = {
        "published way, fp32": published_optimizer(make("fp32", recompute)),
        f"published way, {low}": published_optimizer(make(low, recompute)),
        "ours, fp32": make("fp32"),
        f"ours, {low}": make(low),
        f"ours, {low}, half of the patches": make(low, "network.patch_dropout=0.5"),
    }
    if args.compile:
        made[f"ours, {low}, compiled"] = make(low, compiled=True)
    return made


def check_equal(made: dict[str, Variant]) -> None:
    """The same weights and clips give the same loss, to the precision's digits; printed."""
    for name, variant in made.items():
        if "patches" in name:
            continue
        started = time.perf_counter()
        loss = variant.step().item()
        print(f"first step: {name}: loss {loss:.5f}, {time.perf_counter() - started:.1f} s  ")
    print()


def cpu_table(made: dict[str, Variant], rounds: int) -> None:
    seconds = interleaved({name: variant.step for name, variant in made.items()}, rounds)
    slow, low = (seconds[f"published way, {p}"] for p in ("fp32", "bf16"))
    rows = [
        [name, in_ms(s), f"{ratio(slow, s):.2f}", f"{ratio(low, s):.2f}"]
        for name, s in seconds.items()
    ]  # fmt: skip
    print_table(["step", "ms", "times the published way in fp32", "in bf16"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="ViT-B/32")
    parser.add_argument("--batch", type=int, default=2, help="clips")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="a compiled model too")
    args = parser.parse_args()
    one_thread()
    print_header(f"Training step ({args.arch}, {args.batch} clips of {NUM_FRAMES} frames)")
    made = variants(args)
    check_equal(made)
    cpu_table(made, args.rounds)


if __name__ == "__main__":
    main()
