"""Compares training on the device with training on the CPU, and each option of the trainer with the plain trainer."""

import functools
import gc
import math
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.gpu_parts.part import Figures, Found, Setting, expect
from benchmarks.gpu_parts.training import (
    RepeatedBatch,
    Steps,
    compiler_of,
    exact_convolutions,
    make_config,
    make_trainer,
    model_on_cpu,
    random_batch,
    train_steps,
    video_clip,
)
from engine.resume import restore_run, run_state
from modules.training import Progress, Trainer
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.config import dump_config
from utils.schema import Config

ARCH = "ViT-B/32"


class Tolerance(NamedTuple):
    """`loss`: absolute; `gradient`: relative, of the whole gradient (ten times as much for a single tensor); `steps`:
    number of steps whose losses are compared.
    """

    loss: float
    gradient: float
    steps: int = 3


FP32 = Tolerance(1e-3, 1e-3)  # a different order of summation
TF32 = Tolerance(2e-2, 2e-2)  # 10 bits of mantissa, in convolutions
# 7 bits of mantissa (bf16) or 10 (fp16). Only the first step is compared: AdamW's first update depends only on the sign
# of the gradient, and weights stored in fp16 often lie where bf16 rounds differently before and after the update.
LOW = Tolerance(5e-2, 1e-1, steps=1)


def prepare(setting: Setting, precision: str, *keys: str, batch: int = 2) -> tuple[Config, Trainer]:
    cfg = make_config(setting, ARCH, *keys, batch=batch)
    return cfg, make_trainer(cfg, model_on_cpu(cfg), setting.device, precision)


@functools.cache
def plain_steps(setting: Setting, device: str, precision: str) -> Steps:
    """Three steps without any option, computed once per process."""
    cfg = make_config(setting, ARCH)
    return train_steps(make_trainer(cfg, model_on_cpu(cfg), device, precision), cfg)


def compare(found: Steps, expected: Steps, tolerance: Tolerance) -> Figures:
    """Differences of losses and gradients.

    Raises:
        AssertionError: if a difference exceeds the tolerance or a loss is not finite.
    """
    loss = max(abs(a - b) for a, b in list(zip(found.losses, expected.losses, strict=True))[: tolerance.steps])
    whole, tensor = found.gradient_differences(expected)
    figures = {"loss_difference": loss, "gradient_difference": whole, "tensor_difference": tensor}
    expect(all(map(math.isfinite, found.losses)), f"losses are {found.losses}")
    expect(loss <= tolerance.loss, f"losses {found.losses} differ from {expected.losses} by over {tolerance.loss:g}")
    for name, value, limit in (("whole", whole, tolerance.gradient), ("a tensor's", tensor, 10 * tolerance.gradient)):
        expect(value <= limit, f"{name} gradient differs by {value:.2g} of its norm, over {limit:g}")
    return figures | {"losses": found.losses}


def describe(figures: Figures) -> str:
    loss, gradient = figures["loss_difference"], figures["gradient_difference"]
    return f"losses within {loss:.1g}, gradients within {gradient:.1g}"


def training_step(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Compare three steps in fp32 on the device and on the CPU."""
    on_cpu = plain_steps(setting, "cpu", "fp32")
    with exact_convolutions():
        cfg, trainer = prepare(setting, "fp32")
        exact = compare(train_steps(trainer, cfg), on_cpu, FP32)
    default = compare(plain_steps(setting, setting.device, "fp32"), on_cpu, TF32)
    text = f"fp32 as on the CPU: {describe(exact)}; with TF32 convolutions, PyTorch's default: {describe(default)}"
    return Found(text, {"exact": exact, "default": default})


def bf16(setting: Setting, earlier: dict[str, Figures]) -> Found:
    cfg, trainer = prepare(setting, "bf16")
    figures = compare(train_steps(trainer, cfg), plain_steps(setting, setting.device, "fp32"), LOW)
    return Found(f"against fp32: {describe(figures)}", figures)


def fp16(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Check that a step whose gradients overflow is skipped and lowers the loss scale, then compare steps with fp32."""
    cfg, trainer = prepare(setting, "fp16")
    trainer.scaler = torch.amp.GradScaler(setting.device, init_scale=2.0**40, backoff_factor=2.0**-12)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    overflowing = train_steps(trainer, cfg, 1)
    expect(
        all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters())),
        "weights changed in a step whose gradients overflowed",
    )
    expect(trainer.scaler.get_scale() == 2.0**28, f"the loss scale is {trainer.scaler.get_scale():g} after an overflow")
    cfg, trainer = prepare(setting, "fp16")
    trainer.scaler = torch.amp.GradScaler(setting.device, init_scale=2.0**10)
    figures = compare(train_steps(trainer, cfg), plain_steps(setting, setting.device, "fp32"), LOW)
    figures["overflowing_loss"] = overflowing.losses[0]
    return Found(f"against fp32: {describe(figures)}; an overflow makes no update and lowers the scale", figures)


def activation_checkpointing(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Compare steps with and without checkpointing, on a batch whose activations take most of the memory."""
    steps, peaks = [], []
    for keys in ((), ("solver.activation_checkpointing=true",)):
        cfg, trainer = prepare(setting, "fp32", *keys, batch=2 if setting.tiny else 16)
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        steps.append(train_steps(trainer, cfg))
        if setting.device == "cuda":
            peaks.append(torch.cuda.max_memory_allocated())
        del trainer
        gc.collect()
    figures = compare(steps[1], steps[0], FP32)
    text = f"compared with no checkpointing: {describe(figures)}"
    if peaks:
        figures["peak_bytes"] = peaks
        expect(peaks[1] < peaks[0], f"peak memory is {peaks[1]} bytes, and {peaks[0]} without")
        text += f"; peak memory {peaks[1] / peaks[0]:.0%}"
    return Found(text, figures)


def compiled(setting: Setting, earlier: dict[str, Figures]) -> Found:
    with compiler_of(setting.device):
        cfg, trainer = prepare(setting, "bf16", "solver.compile=true")
        steps = train_steps(trainer, cfg)
    figures = compare(steps, plain_steps(setting, setting.device, "bf16"), LOW)
    return Found(f"in bf16, against eager: {describe(figures)}", figures)


def weight_average(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Compare the moving average after each step with one computed on the CPU in float64."""
    decay = 0.5
    cfg, trainer = prepare(setting, "fp32", f"solver.ema={decay}")
    names = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    parameters = dict(trainer.model.named_parameters())
    expected = {name: parameters[name].detach().cpu().double() for name in names}
    progress = Progress()
    for step in range(3):
        progress.consumed_clips = 0
        train_steps(trainer, cfg, 1, progress)
        share = 1 - min(decay, (1 + step) / (10 + step))
        for name in names:
            expected[name] = expected[name].lerp(parameters[name].detach().cpu().double(), share)
    with trainer.kept_weights():
        difference = max(float((parameters[n].detach().cpu() - expected[n]).abs().max()) for n in names)
    expect(difference <= 1e-6, f"the average differs by {difference:.2g} from float64")
    return Found(f"three updates, within {difference:.1g} of float64", {"difference": difference})


def resume(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Compare four steps with two steps, a checkpoint on disk, and two steps of a new model and trainer."""
    keys = ("solver.ema=0.9", "network.patch_dropout=0.25")  # state that has to be resumed in addition to the weights
    cfg, trainer = prepare(setting, "bf16", *keys)
    uninterrupted = train_steps(trainer, cfg, 4).losses
    cfg, trainer = prepare(setting, "bf16", *keys)
    progress, path, names = Progress(), Path(setting.scratch, "resume.pt"), ["a class"]
    losses = train_steps(trainer, cfg, 4, progress, stop_after=2).losses
    with trainer.kept_weights():
        save_checkpoint(path, run_state(video_clip(trainer), trainer, progress, names, dump_config(cfg)))
    cfg, trainer = prepare(setting, "bf16", *keys)
    loader = RepeatedBatch(random_batch(cfg), 4)
    progress = restore_run((path, load_checkpoint(path)), cfg, names, video_clip(trainer), trainer, loader)
    losses += train_steps(trainer, cfg, 4, progress).losses
    difference = max(abs(a - b) for a, b in zip(losses, uninterrupted, strict=True))
    figures = {"uninterrupted": uninterrupted, "resumed": losses, "difference": difference}
    expect(difference <= FP32.loss, f"losses {losses} after resuming, {uninterrupted} without")
    return Found("bit-equal losses" if difference == 0 else f"losses within {difference:.1g}", figures)
