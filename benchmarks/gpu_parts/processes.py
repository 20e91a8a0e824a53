"""Training in a process group of one process, which tests NCCL and PyTorch's wrappers without a second GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.cuda import nccl

from benchmarks.gpu_parts.equality import FP32, LOW, compare, describe, plain_steps, prepare
from benchmarks.gpu_parts.part import Figures, Found, Setting, Skipped, expect
from benchmarks.gpu_parts.training import Steps, random_batch, train_steps, video_clip
from modules.build_training import data_parallel
from modules.sharding import IS_SUPPORTED, unsharded
from modules.training import Progress


@contextmanager
def group_of_one(device: str) -> Iterator[str]:
    """Initialise a process group of this process; yields the backend's name."""
    backend = "nccl" if device == "cuda" else "gloo"
    store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)  # as in torchrun; port 0: any free port
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield backend
    finally:
        dist.destroy_process_group()


def data_parallel_step(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Run three steps in DistributedDataParallel, and each collective operation that the commands use."""
    with group_of_one(setting.device) as backend:
        numbers = torch.arange(4.0, device=setting.device)
        dist.all_reduce(numbers)
        expect(numbers.tolist() == [0, 1, 2, 3], f"all_reduce over one process gave {numbers.tolist()}")
        gathered: list[Any] = [None]
        box = [{"a": 1}]
        dist.gather_object({"b": 2}, gathered)
        dist.broadcast_object_list(box)
        expect(gathered == [{"b": 2}] and box == [{"a": 1}], f"objects came back as {gathered} and {box}")
        cfg, trainer = prepare(setting, "fp32")
        trainer.model = data_parallel(video_clip(trainer), trainer.context.device, has_one_pass=True)
        figures = compare(train_steps(trainer, cfg), plain_steps(setting, setting.device, "fp32"), FP32)
    version = ".".join(map(str, nccl.version())) if backend == "nccl" else ""
    return Found(f"DDP on {backend} {version}: {describe(figures)}".replace(" :", ":"), figures)


def sharded(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Run three steps with each kind of sharding, and a validation after the first step."""
    if not IS_SUPPORTED:
        raise Skipped("sharding needs PyTorch 2.8 or later")
    figures: Figures = {}
    with group_of_one(setting.device) as backend:
        for kind in ("grad", "full"):
            for precision, tolerance in (("fp32", FP32), ("bf16", LOW)):
                cfg, trainer = prepare(setting, precision, f"solver.shard={kind}")
                progress, clips = Progress(), random_batch(cfg)["frames"].to(trainer.context.device)
                first = train_steps(trainer, cfg, progress=progress, stop_after=1)
                with unsharded(trainer.model, kind), torch.inference_mode(), trainer.context.autocast():
                    features = video_clip(trainer).eval().video_features(clips)
                expect(bool(features.isfinite().all()), "features of a validation are not finite")
                rest = train_steps(trainer, cfg, progress=progress)
                steps = Steps(first.losses + rest.losses, first.gradients)
                figures[f"{kind}, {precision}"] = compare(
                    steps, plain_steps(setting, setting.device, precision), tolerance
                )
    worst = {key: max(found[key] for found in figures.values()) for key in ("loss_difference", "gradient_difference")}
    return Found(f"solver.shard grad and full in fp32 and bf16 on {backend}: {describe(worst)}", figures)
