"""Time, kernels and memory of a training step.

FLOPs are those of the model, counted on meta tensors; blocks that are recomputed in the backward pass count once.
"""

import gc
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_parts.kernels import shares_by_kind, short_name
from benchmarks.gpu_parts.part import Figures, Found, Setting, expect
from benchmarks.gpu_parts.training import (
    RepeatedBatch,
    compiler_of,
    make_config,
    make_trainer,
    random_batch,
    random_text,
)
from clip.fast_layers import FAST_LAYERS
from datasets.build import input_size
from engine.plan import estimate_memory
from modules.build import build_model, load_clip_model
from modules.training import Progress, Trainer
from utils.schema import Config

NUM_KERNELS = 3
WARM_UP = 3  # steps


class Model(NamedTuple):
    """`batch`: clips per step, halved until they fit in memory; `keys`: overrides."""

    arch: str
    batch: int
    keys: tuple[str, ...] = ()


def device(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Versions, memory, and FLOP/s of large matrix products, relative to which utilisation is computed."""
    figures: Figures = {"torch": torch.__version__}
    if setting.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        figures |= {
            "name": properties.name,
            "bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    else:
        figures |= {"name": "CPU"}
    size = 512 if setting.device == "cpu" else 8192
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a, b = (torch.randn(size, size, device=setting.device, dtype=dtype) for _ in range(2))
        seconds = seconds_of(lambda a=a, b=b: a @ b, setting.device, 20)
        figures[f"{name}_flops"] = 2 * size**3 / seconds
    rates = ", ".join(f"{name} {figures[f'{name}_flops'] / 1e12:.3g}" for name in ("bf16", "fp32"))
    return Found(f"{figures['name']}, torch {torch.__version__}; matrix products: {rates} TFLOP/s", figures)


def seconds_of(function: Callable[[], object], device: str, calls: int) -> float:
    """Mean wall time of `calls` calls that are queued without synchronisation, after warm-up calls."""
    for _ in range(WARM_UP):
        function()
    _synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        function()
    _synchronize(device)
    return (time.perf_counter() - started) / calls


def vit_b32(setting: Setting, earlier: dict[str, Figures]) -> Found:
    return measure(setting, earlier, Model("ViT-B/32", 128))


def vit_b16(setting: Setting, earlier: dict[str, Figures]) -> Found:
    return measure(setting, earlier, Model("ViT-B/16", 64))


def vit_l14(setting: Setting, earlier: dict[str, Figures]) -> Found:
    return measure(setting, earlier, Model("ViT-L/14", 16))


def vit_l14_336(setting: Setting, earlier: dict[str, Figures]) -> Found:
    return measure(setting, earlier, Model("ViT-L/14-336px", 8))


def vit_l14_compiled(setting: Setting, earlier: dict[str, Figures]) -> Found:
    with compiler_of(setting.device):
        return measure(setting, earlier, Model("ViT-L/14", 16, ("solver.compile=true",)), beside="L/14")


def vit_l14_published(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Blocks are recomputed in the backward pass, layers are open_clip's, and AdamW is PyTorch's default."""
    model = Model("ViT-L/14", 16, ("solver.activation_checkpointing=true",))
    return measure(setting, earlier, model, beside="L/14", prepare=_published)


def adapter(setting: Setting, earlier: dict[str, Figures]) -> Found:
    model = Model("ViT-L/14", 16, ("network.adapter=st_adapter",))
    return measure(setting, earlier, model, beside="L/14")


def _published(trainer: Trainer) -> None:
    for module in trainer.model.modules():
        if type(module) in FAST_LAYERS:
            module.__class__ = FAST_LAYERS[type(module)]
    names = ("params", "lr", "lr_scale", "name", "weight_decay")
    trainer.optimizer = _PlainAdamW([{name: group[name] for name in names} for group in trainer.optimizer.param_groups])


class _PlainAdamW(torch.optim.AdamW):
    """PyTorch's default, which does not support the flag with which the trainer skips an update."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore
        self.grad_scale = self.found_inf = None
        return super().step(closure)


def measure(
    setting: Setting,
    earlier: dict[str, Figures],
    model: Model,
    beside: str = "",
    prepare: Callable[[Trainer], None] = lambda trainer: None,
) -> Found:
    """Measure steps of the trainer in bf16 on a batch in pinned memory.

    Args:
        beside: the part whose speed it is compared with.
        prepare: modifies the trainer before its first step.
    """
    batch = 2 if setting.tiny else model.batch
    while True:
        try:
            figures = _measure(setting, make_config(setting, model.arch, *model.keys, batch=batch), prepare)
            break
        except torch.OutOfMemoryError:
            expect(batch > 1, "one clip does not fit in memory")
        batch //= 2  # outside the handler, whose traceback keeps the model in memory
        gc.collect()
        torch.cuda.empty_cache()
    text = f"{figures['clips_per_second']:.4g} clips/s in steps of {batch} clips"
    if "device" in earlier:
        figures["utilisation"] = figures["clips_per_second"] * figures["flops"] / earlier["device"]["bf16_flops"]
        text += f", {figures['utilisation']:.0%} of the matrix rate"
    if beside in earlier:
        figures["times_faster"] = figures["clips_per_second"] / earlier[beside]["clips_per_second"]
        text += f", {figures['times_faster']:.2f} times {beside}"
    if "peak_bytes" in figures:
        peak, estimate = figures["peak_bytes"] / 2**30, figures["estimated_bytes"] / 2**30
        text += f"; peak {peak:.1f} GiB, estimate of --check {estimate:.1f}"
    if "busy" in figures:
        text += f"; kernels run {figures['busy']:.0%} of the time"
    kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in figures["kinds"].items() if share >= 0.01)
    kernels = ", ".join(f"{kernel['short']} {kernel['share']:.0%}" for kernel in figures["kernels"])
    return Found(f"{text}: {kinds}; costliest: {kernels}", figures)


def _measure(setting: Setting, cfg: Config, prepare: Callable[[Trainer], None]) -> Figures:
    gc.collect()
    with torch.device(setting.device):  # initialising the weights of L/14 on a CPU is slow
        model = build_model(cfg, load_clip_model(cfg)).cpu()
    data = cfg.data
    text = random_text(model.embed_dim)
    estimate = estimate_memory(model, text, data.batch_size, data.num_frames, input_size(cfg), "bf16")
    figures: Figures = {"batch": data.batch_size, "flops": count_flops(cfg), "estimated_bytes": estimate.total}
    trainer = make_trainer(cfg, model, setting.device, "bf16")
    prepare(trainer)
    num_steps = 2 if setting.tiny else 10
    batch = random_batch(cfg)
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    _run(trainer, batch, WARM_UP, setting.device)
    seconds = [_run(trainer, batch, num_steps, setting.device) / num_steps for _ in range(3)]
    if setting.device == "cuda":
        figures["peak_bytes"] = torch.cuda.max_memory_allocated()
    figures |= {"step_seconds": seconds, "clips_per_second": data.batch_size / float(np.median(seconds))}
    times = _kernel_times(trainer, batch, setting.device)
    total = sum(times.values())
    if setting.device == "cuda":
        figures["busy"] = total / float(np.median(seconds))
    figures["kinds"] = shares_by_kind(times)
    largest = sorted(times, key=lambda name: times[name], reverse=True)[:NUM_KERNELS]
    figures["kernels"] = [{"name": n, "short": short_name(n), "share": times[n] / total} for n in largest]
    return figures


def count_flops(cfg: Config) -> int:
    """FLOPs of a training step per clip, forward and backward."""
    solver = cfg.solver.model_copy(update={"activation_checkpointing": False})
    cfg = cfg.model_copy(update={"solver": solver})
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights from a file are not loaded on the meta device
        model = build_model(cfg, load_clip_model(cfg)).train()
    shape = (1, cfg.data.num_frames, 3, input_size(cfg), input_size(cfg))
    with FlopCounterMode(display=False) as counter:
        model.encode_video(torch.zeros(shape, device="meta")).sum().backward()
    return counter.get_total_flops()


def _run(trainer: Trainer, batch: dict[str, torch.Tensor], num_steps: int, device: str) -> float:
    """Run an epoch of `num_steps` steps; returns its seconds."""
    loader = RepeatedBatch(batch, num_steps)
    _synchronize(device)
    started = time.perf_counter()
    for record in trainer.run_epoch(loader, Progress()):
        expect(bool(np.isfinite(record.loss)), f"the loss of step {record.step} is {record.loss}")
    _synchronize(device)
    return time.perf_counter() - started


def _kernel_times(trainer: Trainer, batch: dict[str, torch.Tensor], device: str) -> dict[str, float]:
    """Seconds of a step by kernel (on a CPU: by operation)."""
    with torch.profiler.profile() as profile:
        _run(trainer, batch, 1, device)
    kind, clock = (
        (DeviceType.CUDA, "self_device_time_total") if device == "cuda" else (DeviceType.CPU, "self_cpu_time_total")
    )
    times = {
        event.key: getattr(event, clock) / 1e6
        for event in profile.key_averages()
        if event.device_type == kind and not event.is_user_annotation
    }
    expect(sum(times.values()) > 0, "the profiler recorded no kernel")
    return times


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
