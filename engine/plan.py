"""Summary of a run before it starts: parameters, steps and estimated memory.

Legend: B clips of a process's batch, T frames, C,H,W image.
"""

import math
import platform
import shlex
import sys
import weakref
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datasets.build import TrainEntries, train_transform
from datasets.device_pixels import train_pixels
from datasets.lists import read_labels
from datasets.sets import describe_sets
from datasets.transforms import Draw
from modules.build import build_model_and_text
from modules.distillation import Distillation
from modules.interpolation import interpolated_parameters
from modules.sharding import blocks_of
from modules.video_clip import VideoCLIP
from utils.context import RunContext
from utils.precision import autocast
from utils.project_paths import given
from utils.schema import Config, DataConfig

ADAM_STATES = 2  # float32 optimiser states per trainable parameter
STORED_SIZE = 256, 340  # assumed (H, W) of frames that are preprocessed on the device
WORKSPACE = 0.01  # share of the total for library workspaces; measured on an H100: 0.2 to 1.2 %


class MemoryEstimate(NamedTuple):
    """Bytes on the device, per process."""

    weights: int
    gradients_and_optimizer: int
    activations: int
    methods: int = 0  # additional memory of training methods, see `method_bytes`
    ahead: int = 0  # batches prepared in advance, see `bytes_ahead`

    @property
    def total(self) -> int:
        """Total including workspaces of libraries."""
        return round((1 + WORKSPACE) * sum(self))


def estimate_memory(
    model: VideoCLIP, text: torch.Tensor | None, batch_size: int, num_frames: int, image_size: int, precision: str
) -> MemoryEstimate:
    """Peak memory of a training step, without fragmentation.

    Counted in a forward and backward pass with PyTorch's fake tensors, which have shapes but no data. The peak is
    either at the start of the backward pass (all activations and the temporary tensors of a block, few gradients) or at
    its end (all gradients).

    Args:
        text: frozen class embeddings (K,D); None: they are computed by the model.
        batch_size, num_frames, image_size: of the batch of a process (B,T,3,H,H).
    """
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    peak = _peak_of_a_step(model, text, (batch_size, num_frames, 3, image_size, image_size), precision)
    return MemoryEstimate(
        weights=4 * sum(p.numel() for p in model.parameters()),
        gradients_and_optimizer=4 * (1 + ADAM_STATES) * trainable,
        activations=peak - 4 * trainable,  # the peak includes all gradients
    )


def bytes_of_a_step(cfg: Config) -> int:
    """Peak memory of a training step of a config on the CPU, with all of its classes."""
    names = read_labels(given(cfg.data.label_list), cfg.data.num_classes)
    model, text = build_model_and_text(cfg, names, torch.device("cpu"))
    data = cfg.data
    assert data.input_size is not None
    return estimate_memory(model, text, data.batch_size, data.num_frames, data.input_size, "fp32").total


def method_bytes(cfg: Config, model: VideoCLIP) -> int:
    """Bytes of `solver.interpolated_loss` (two copies of CLIP's trained weights), `solver.distill` (a copy of CLIP's
    image tower) and averaging (a copy of the trained weights). The second pass starts after the activations of the
    first are freed."""
    total = 0
    if cfg.solver.ema is not None or cfg.solver.average_epochs:
        total += sum(4 * parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if cfg.solver.interpolated_loss:
        total += 2 * sum(4 * parameter.numel() for parameter in interpolated_parameters(model).values())
    if isinstance(model.distillation, Distillation):
        total += sum(4 * parameter.numel() for parameter in model.distillation.towers[0].parameters())
    return total


def bytes_ahead(cfg: Config, device: torch.device) -> int:
    """Bytes of `datasets.lookahead` during a step: the next batch, and the preprocessing of the one after it."""
    data = cfg.data
    is_on_device = data.pixels_on == "device"
    if data.cached_draws or (device.type == "cpu" and not is_on_device):
        return 0
    transform = train_transform(cfg)
    size = transform.input_size
    batch = data.batch_size * data.num_frames * 3 * size**2
    if not is_on_device:
        return 2 * batch
    height, width = (max(side, size) for side in transform.resize.size_of(*STORED_SIZE))
    whole = Draw((0, 0, height, width), (size, size))
    with FakeTensorMode(), _LiveBytes([]) as live:
        stored = [torch.zeros(data.num_frames, 3, *STORED_SIZE, dtype=torch.uint8) for _ in range(data.batch_size)]
        train_pixels(stored, [whole] * data.batch_size, transform)
    return batch + live.peak


def shared_out(memory: MemoryEstimate, model: VideoCLIP, kind: str, world_size: int) -> MemoryEstimate:
    """The estimate with `solver.shard`: the shards of a process, and the weights that are gathered at a time."""
    if kind == "none" or world_size == 1:
        return memory
    blocks = [sum(4 * parameter.numel() for parameter in block.parameters()) for block in blocks_of(model)]
    gathered = memory.weights
    if kind == "full":
        gathered += 2 * max(blocks) - sum(blocks)  # the current block, and the prefetched next one
    gradients = memory.gradients_and_optimizer // world_size
    return memory._replace(weights=memory.weights // world_size + gathered, gradients_and_optimizer=gradients)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of live tensors created within the context; `peak` is the maximum. `known`: existing tensors,
    whose views are not counted."""

    def __init__(self, known: Iterable[torch.Tensor]):
        super().__init__()
        self.peak = self._now = 0
        addresses = [tensor.untyped_storage()._cdata for tensor in known]
        self._seen: dict[int, weakref.ref[torch.UntypedStorage] | None] = dict.fromkeys(addresses)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **kwargs or {})
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return outputs

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, num_bytes = storage._cdata, storage.nbytes()
        if address in self._seen:
            return

        def forget(_: object) -> None:
            del self._seen[address]
            self._now -= num_bytes

        self._seen[address] = weakref.ref(storage, forget)
        self._now += num_bytes
        self.peak = max(self.peak, self._now)


def _peak_of_a_step(model: VideoCLIP, text: torch.Tensor | None, shape: Sequence[int], precision: str) -> int:
    """Peak bytes of a forward and backward pass of uint8 clips of `shape`, including all gradients."""
    cpu = torch.device("cpu")
    was_training = model.training
    model.train()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        tensors = [*model.named_parameters(), *model.named_buffers()]
        fakes: dict[str, torch.Tensor] = {name: mode.from_tensor(tensor.to(cpu)) for name, tensor in tensors}
        text = text if text is None else mode.from_tensor(text.to(cpu))
        precision_on_cpu = "bf16" if precision == "fp16" else precision  # the same size, and supported on CPUs
        with _LiveBytes([*fakes.values(), *([] if text is None else [text])]) as live:
            with autocast(precision_on_cpu, cpu):
                clips = torch.zeros(*shape, dtype=torch.uint8)
                passes = model.fusion_model.loss is not None  # MoTE's head makes several passes
                outputs = functional_call(model, fakes, (clips, text, None, passes))
                total = torch.stack([tensor.float().sum() for tensor in tree_leaves(outputs)]).sum()
            total.backward()
    model.train(was_training)
    return live.peak


def describe_plan(
    cfg: Config, model: VideoCLIP, text: torch.Tensor | None, train: TrainEntries, num_val: int, context: RunContext
) -> str:
    """The plan of a run as lines of text: command, software, sizes, steps, parameters, memory."""
    data, solver = cfg.data, cfg.solver
    process, precision = context.process, context.precision
    clips_per_step = data.batch_size * process.world_size * solver.grad_accumulation_steps
    num_clips = len(train.entries)
    steps = math.ceil(num_clips / clips_per_step)
    assert data.input_size is not None, "modules.pixels.with_preprocessing comes first"
    memory = estimate_memory(model, text, data.batch_size, data.num_frames, data.input_size, precision)
    # With several passes per step, the gradients of the earlier ones are still in memory.
    if solver.grad_accumulation_steps > 1 or solver.interpolated_loss:
        gradients = memory.gradients_and_optimizer // (1 + ADAM_STATES)
        memory = memory._replace(activations=memory.activations + gradients)
    memory = memory._replace(methods=method_bytes(cfg, model), ahead=bytes_ahead(cfg, process.device))
    memory = shared_out(memory, model, solver.shard, process.world_size)
    methods = [name for name in ("interpolated_loss", "distill") if getattr(solver, name)]
    others = f", {' and '.join(methods)} {memory.methods / 2**30:.2f}" if methods else ""
    others += f", prefetched batches {memory.ahead / 2**30:.2f}" if memory.ahead else ""
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    device = torch.cuda.get_device_name(process.device) if process.device.type == "cuda" else process.device.type
    software = [f"{package} {version(package)}" for package in ("torch", "torchvision", "open_clip_torch")]
    structure = ", ".join([cfg.network.arch, *model.additions, f"sim_header {cfg.network.sim_header}"])
    lines = {
        "command": shlex.join(sys.argv),
        "software": ", ".join([f"Python {platform.python_version()}", *software]),
        "model": f"{structure}, {data.input_size} pixels, {precision}",
        "parameters": f"{total / 1e6:.2f} M, {trainable / 1e6:.2f} M of them trainable",
        "training": f"{num_clips} clips per epoch{_left_out(train, data.sampling)}",
        **({"sets": describe_sets(data, train.entries)} if data.sets else {}),
        "validation": f"{num_val} videos, {data.num_classes} classes",
        "steps": f"{steps} per epoch, {steps * solver.epochs} in {solver.epochs} epochs, of {clips_per_step} clips "
        f"({data.batch_size} x {process.world_size} processes x {solver.grad_accumulation_steps} batches)",
        "clip": f"{data.num_frames} frames, {_where(data)}",
        "device": f"{process.world_size} x {device}" if process.world_size > 1 else f"one {device}",
        "memory": f"about {memory.total / 2**30:.2f} GiB per process: weights {memory.weights / 2**30:.2f}, gradients, "
        f"optimiser {memory.gradients_and_optimizer / 2**30:.2f}, activations {memory.activations / 2**30:.2f}{others}",
    }
    return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def _where(data: DataConfig) -> str:
    """Where frames are decoded and preprocessed."""
    if data.pixels_on == "cpu":
        return "decoded and preprocessed in the loader processes"
    if data.decode_on == "cpu":
        where = "in the loader processes"
    elif data.modality == "RGB":
        where = "there as well (JPEG files)"
    else:
        where = "there if supported, otherwise in the loader processes"
    return f"resized, cropped and augmented on the device, decoded {where}"


def _left_out(train: TrainEntries, sampling: str) -> str:
    notes = []
    if train.num_short:
        notes.append(f"{train.num_short} entries with fewer than 8 frames left out")
    if train.picks is not None:
        notes.append(f"few-shot: {len(train.picks)} videos, repeated")
    if sampling == "balanced":
        notes.append("the same number of each class")
    return f" ({'; '.join(notes)})" if notes else ""
