"""Models with random weights, and steps of train.py's trainer on generated clips.

Legend: B clips, T frames, C channels, S input size, K classes.
"""

import copy
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu_parts.part import Setting, Skipped
from clip import ClipModel
from datasets.build import input_size
from inference.export_formats import random_clips
from modules.build import build_model, load_clip_model
from modules.build_training import build_trainer
from modules.pixels import with_preprocessing
from modules.sharding import gathered
from modules.training import Progress, Trainer
from modules.video_clip import VideoCLIP
from utils.config import load_config
from utils.context import RunContext
from utils.distributed import Process
from utils.schema import Config, dotted_keys

NUM_CLASSES = 400
TINY_ARCH = "clip/shapes_clip.pt"  # in the repository: four blocks, 64 channels, 64 pixels
Batch = dict[str, torch.Tensor]


def make_config(setting: Setting, arch: str, *keys: str, batch: int = 2, num_frames: int = 8) -> Config:
    """A config that builds `arch` with random weights, or the tiny model; `keys` are overrides.

    Raises:
        Skipped: if the schema does not have one of the keys.
    """
    for key in keys:
        if key.partition("=")[0] not in dotted_keys():
            raise Skipped(f"this version does not support {key.partition('=')[0]}")
    size = 336 if "336" in arch else 224
    overrides = [f"network.arch={arch}", "network.weights=none", f"data.input_size={size}"]
    if setting.tiny:
        overrides, num_frames = [f"network.arch={TINY_ARCH}", "data.input_size=64", "network.head_layers=1"], 4
    overrides += [
        f"data.batch_size={batch}",
        f"data.num_segments={num_frames}",
        "solver.lr_warmup_step=0",
        "solver.lr=5e-6",
    ]
    overrides += [f"data.num_classes={NUM_CLASSES}", *keys]
    return with_preprocessing(load_config(None, overrides, "predict").config)


@functools.lru_cache(maxsize=1)
def _kept_clip(arch: str, weights: str, size: int) -> ClipModel:
    cfg = load_config(
        None, [f"network.arch={arch}", f"network.weights={weights}", f"data.input_size={size}"], "predict"
    )
    return load_clip_model(cfg.config)


def model_on_cpu(cfg: Config) -> VideoCLIP:
    """The model of `cfg`, with the same weights each time; its CLIP model is cached for the next call."""
    clip_model = _kept_clip(cfg.network.arch, cfg.network.weights, input_size(cfg))
    torch.manual_seed(cfg.seed)
    return build_model(cfg, copy.deepcopy(clip_model))


def random_text(width: int) -> torch.Tensor:
    """(K, D) float32 class embeddings."""
    return torch.randn(NUM_CLASSES, width, generator=torch.Generator().manual_seed(1))


def random_batch(cfg: Config) -> Batch:
    """A batch like those of a training loader, in the same memory layout."""
    data = cfg.data
    different = random_clips(min(4, data.batch_size), data.num_frames, input_size(cfg))
    clips = different[torch.arange(data.batch_size) % len(different)]
    return {
        "frames": clips.movedim(-3, -1).contiguous().movedim(-1, -3),
        "label": torch.randint(0, NUM_CLASSES, (data.batch_size,), generator=torch.Generator().manual_seed(0)),
        "index": torch.arange(data.batch_size),
        "weight": torch.ones(data.batch_size),
        "is_faulty": torch.zeros(data.batch_size, dtype=torch.bool),
    }


class RepeatedBatch:
    """A `modules.training.TrainLoader` that repeats a batch `num_steps` times; in pinned memory if a GPU is
    available."""

    def __init__(self, batch: Batch, num_steps: int):
        self._batch = {k: v.pin_memory() if torch.cuda.is_available() else v for k, v in batch.items()}
        size = len(batch["label"])
        self.batches = _Plan([size] * num_steps)
        self.dataset: Any = _Clips(size * num_steps)

    def __len__(self) -> int:
        return len(self.batches.plan)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in self.batches.plan:
            yield dict(self._batch)

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        """Start at the epoch's sample `start_sample`."""
        size = len(self._batch["label"])
        self.batches.plan = [size] * ((len(self.dataset) - start_sample) // size)


@dataclass
class _Plan:
    plan: list[int]


class _Clips(list):
    def __init__(self, num_clips: int):
        super().__init__(SimpleNamespace(path="synthetic") for _ in range(num_clips))
        self.entries = self


class Steps(NamedTuple):
    """Losses of the steps, and the gradients of the first step by parameter name, on the CPU."""

    losses: list[float]
    gradients: dict[str, torch.Tensor]

    def gradient_differences(self, other: "Steps") -> tuple[float, float]:
        """Norm of the difference of the whole gradient, relative to `other`; and the largest such value of a parameter.

        The difference of a parameter is relative to the norm of its gradient, or to a thousandth of the whole
        gradient's norm if that is larger.
        """
        norms = {name: float(gradient.norm()) for name, gradient in other.gradients.items()}
        differences = {name: float((self.gradients[name] - other.gradients[name]).norm()) for name in norms}
        whole = math.hypot(*norms.values())
        largest = max(difference / max(norms[name], 1e-3 * whole) for name, difference in differences.items())
        return math.hypot(*differences.values()) / whole, largest


def device_of(name: str) -> torch.device:
    """The device; `cuda` is the first GPU, as in a single process."""
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def make_trainer(cfg: Config, model: VideoCLIP, device: str, precision: str) -> Trainer:
    """A single-process trainer for `cfg`; `model` is moved to the device."""
    context = RunContext(Process(0, 1, 0, device_of(device)), precision)
    return build_trainer(cfg, model, random_text(model.embed_dim), context)


def video_clip(trainer: Trainer) -> VideoCLIP:
    """The model of a trainer without its DDP wrapper."""
    model = trainer.model.module if isinstance(trainer.model, DistributedDataParallel) else trainer.model
    assert isinstance(model, VideoCLIP)
    return model


def train_steps(
    trainer: Trainer, cfg: Config, num_steps: int = 3, progress: Progress | None = None, stop_after: int = 0
) -> Steps:
    """Train an epoch of `num_steps` steps of one batch.

    Args:
        progress: where to start; None: at the beginning.
        stop_after: stop the epoch after this step; 0: at its end.
    """
    gradients: dict[str, torch.Tensor] = {}

    def record_gradients(*_: Any) -> None:
        if not gradients:
            for name, parameter in trainer.model.named_parameters():
                if parameter.grad is not None:
                    gradients[name.removeprefix("module.")] = gathered(parameter.grad.detach()).float().cpu().clone()

    hook = trainer.optimizer.register_step_pre_hook(record_gradients)
    progress, loader, losses = progress or Progress(), RepeatedBatch(random_batch(cfg), num_steps), []
    loader.start_epoch(progress.epoch, progress.consumed_clips)
    for record in trainer.run_epoch(loader, progress, settle_after=lambda step: step == stop_after):
        losses.append(record.loss)
        if record.step == stop_after:
            break
    hook.remove()
    return Steps(losses, gradients)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Compute cuDNN's convolutions in float32 instead of TF32, PyTorch's default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def compiler_of(device: str) -> Iterator[None]:
    """On a CPU, compile models with the backend `aot_eager`, since compiling the default backend's C++ takes a
    minute."""
    torch.compiler.reset()
    compile_module = torch.nn.Module.compile
    if device == "cpu":
        torch.nn.Module.compile = functools.partialmethod(compile_module, backend="aot_eager")  # type: ignore
    try:
        yield
    finally:
        torch.nn.Module.compile = compile_module
