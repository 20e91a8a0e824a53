"""Time of a training step, compared with the published code, which recomputes every block in the backward pass.

    python benchmarks/training_step.py [--arch ViT-B/32] [--batch 2] [--rounds 5] [--compile]
    python benchmarks/training_step.py --tuning [--arch ViT-B/32 ViT-B/16] [--batch 2] [--rounds 2] [--count]

Random weights, synthetic uint8 clips of 8 frames; forward, loss, backward, AdamW; one thread, CPU time. For a GPU:
benchmarks/gpu_check.py.

--tuning compares full tuning with a frozen tower and each adapter, in float32 on a CPU, each in a separate process.
Peak memory is that of a step in addition to Python and its libraries (Linux's VmHWM). The C library is set to return
freed memory to the system, since the amount that it would keep depends on the order of allocations. With --count no
step runs: memory is counted as by `train.py --check`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.timing import in_ms, interleaved, memory_bytes, print_header, print_table, ratio
from engine.plan import estimate_memory
from modules.build import build_model, load_clip_model
from modules.build_training import compile_model, parameter_groups
from modules.losses.cross_entropy import weighted_cross_entropy
from modules.optim import build_optimizer
from modules.video_clip import VideoCLIP
from utils.config import load_config
from utils.precision import autocast
from utils.schema import Config

NUM_FRAMES, NUM_CLASSES = 8, 400
CPU = torch.device("cpu")
RETURN_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}  # read by glibc; slows down steps
# Tuning methods: name -> config keys in addition to the mean over frames.
TUNING = {
    "full tuning": [],
    "frozen tower with temporal head": ["network.fix_video=true", "network.sim_header=Transf"],
    "st_adapter": ["network.adapter=st_adapter"],
    "st_adapter, before the MLP": ["network.adapter=st_adapter", "components.st_adapter.places=[before_mlp]"],
    "aim": ["network.adapter=aim"],
    "deep_prompts, image": ["network.adapter=deep_prompts", "components.deep_prompts.text_depth=0"],
    "lora": ["network.adapter=lora"],
    "bitfit": ["network.adapter=bitfit"],
}


def config_of(arch: str, *keys: str) -> Config:
    overrides = [f"network.arch={arch}", "network.weights=none", *keys]
    return load_config(None, overrides, "predict").config


class Variant:
    """A model, its optimiser and one step of training."""

    def __init__(self, arch: str, batch: int, precision: str, *keys: str, compiled: bool = False):
        cfg = config_of(arch, *keys)
        clip_model = load_clip_model(cfg)
        self.model: VideoCLIP = build_model(cfg, clip_model).train()
        self.optimizer = build_optimizer(parameter_groups(cfg, self.model), cfg.solver)
        self.precision = precision
        torch.manual_seed(1)
        shape = (batch, NUM_FRAMES, 3, clip_model.image_size, clip_model.image_size)
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
    """Replace the fused AdamW by PyTorch's default."""
    groups = [dict(group) for group in variant.optimizer.param_groups]
    for group in groups:
        group.pop("fused")
    variant.optimizer = torch.optim.AdamW(groups, foreach=False, betas=(0.9, 0.999), eps=1e-8)
    return variant


def variants(args: argparse.Namespace) -> dict[str, Variant]:
    def make(precision: str, *keys: str, **options: Any) -> Variant:
        return Variant(args.arch, args.batch, precision, *keys, **options)

    recompute = "solver.activation_checkpointing=true"
    by_name = {
        "published, fp32": published_optimizer(make("fp32", recompute)),
        "published, bf16": published_optimizer(make("bf16", recompute)),
        "ours, fp32": make("fp32"),
        "ours, bf16": make("bf16"),
        "ours, bf16, half of the patches": make("bf16", "network.patch_dropout=0.5"),
    }
    if args.compile:
        by_name["ours, bf16, compiled"] = make("bf16", compiled=True)
    return by_name


def check_equal(made: dict[str, Variant]) -> None:
    """Print the losses of the first step, which should agree within the precision."""
    for name, variant in made.items():
        if "patches" in name:
            continue
        started = time.perf_counter()
        loss = variant.step().item()
        print(f"first step: {name}: loss {loss:.5f}, {time.perf_counter() - started:.1f} s  ")
    print()


def cpu_table(made: dict[str, Variant], rounds: int) -> None:
    seconds = interleaved({name: variant.step for name, variant in made.items()}, rounds)
    fp32, bf16 = seconds["published, fp32"], seconds["published, bf16"]
    rows = [[name, in_ms(s), f"{ratio(fp32, s):.2f}", f"{ratio(bf16, s):.2f}"] for name, s in seconds.items()]
    print_table(["step", "ms", "speed-up over published, fp32", "over published, bf16"], rows)


def tuning_figures(arch: str, name: str, batch: int, rounds: int) -> dict[str, float]:
    """CPU seconds of a step, peak bytes and number of trained parameters of a tuning method; run in a new process."""
    before = memory_bytes("VmRSS")
    variant = Variant(arch, batch, "fp32", "network.sim_header=None", *TUNING[name])
    variant.step()
    started = time.process_time()
    for _ in range(rounds):
        variant.step()
    seconds = (time.process_time() - started) / max(1, rounds)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    variant.step()
    trained = sum(p.numel() for p in variant.model.parameters() if p.requires_grad)
    return {"seconds": seconds, "peak": memory_bytes("VmHWM") - before, "trained": trained}


def counted_table(args: argparse.Namespace) -> None:
    for arch in args.arch:
        found = {}
        for name, keys in TUNING.items():
            cfg = config_of(arch, "network.sim_header=None", *keys)
            with torch.device("meta"):
                clip_model = load_clip_model(cfg)
                model = build_model(cfg, clip_model).to_empty(device="cpu")
            text = torch.zeros(NUM_CLASSES, model.embed_dim)
            found[name] = estimate_memory(model, text, args.batch, NUM_FRAMES, clip_model.image_size, "fp32").total
        rows = [[name, f"{b / 2**20:.0f}", f"{b / found['full tuning']:.0%}"] for name, b in found.items()]
        print(f"\n{arch}\n")
        print_table(["method", "counted memory, MiB", "relative to full"], rows)


def tuning_table(args: argparse.Namespace) -> None:
    def measure(name: str, arch: str, rounds: int, environment: Mapping[str, str] = os.environ) -> dict[str, float]:
        words = [sys.executable, __file__, "--tuning", "--one", name, "--arch", arch]
        words += ["--batch", str(args.batch), "--rounds", str(rounds)]
        result = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        return json.loads(result.stdout.splitlines()[-1])

    for arch in args.arch:
        figures = {}
        for name in TUNING:
            peak = measure(name, arch, 0, os.environ | RETURN_MEMORY)["peak"]
            figures[name] = measure(name, arch, args.rounds) | {"peak": peak}
        full = figures["full tuning"]
        rows = [
            [
                name, f"{f['trained'] / 1e6:.2f}", f"{f['seconds'] * 1e3:.0f}", f"{f['seconds'] / full['seconds']:.0%}",
                f"{f['peak'] / 2**20:.0f}", f"{f['peak'] / full['peak']:.0%}",
            ]
            for name, f in figures.items()
        ]  # fmt: skip
        print(f"\n{arch}\n")
        columns = ["method", "trained parameters, millions", "ms", "relative to full"]
        print_table([*columns, "peak memory, MiB", "relative to full"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["ViT-B/32"], help="several only with --tuning")
    parser.add_argument("--batch", type=int, default=2, help="clips")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also measure a compiled model")
    parser.add_argument("--tuning", action="store_true", help="compare tuning methods")
    parser.add_argument("--count", action="store_true", help="with --tuning: count memory without running a step")
    parser.add_argument("--one", choices=TUNING, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        print(json.dumps(tuning_figures(args.arch[0], args.one, args.batch, args.rounds)))
        return
    print_header(f"Training step ({', '.join(args.arch)}, {args.batch} clips of {NUM_FRAMES} frames)")
    if args.tuning:
        (counted_table if args.count else tuning_table)(args)
        return
    (args.arch,) = args.arch
    made = variants(args)
    check_equal(made)
    cpu_table(made, args.rounds)


if __name__ == "__main__":
    main()
