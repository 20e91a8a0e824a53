"""`solver.shard`: two processes train as with DistributedDataParallel, and checkpoints can be resumed in any layout."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from engine.plan import MemoryEstimate, shared_out
from engine.resume import restore_run, run_state
from modules.build import build_model_and_text
from modules.build_training import build_trainer
from modules.distillation import attach_distillation
from modules.sharding import IS_SUPPORTED, blocks_of, unsharded
from modules.training import Progress
from modules.validation import text_matrix
from tests.clip.tiny import RESNET
from tests.modules.test_methods_in_two_processes import BATCH, CPU, Share
from tests.modules.tiny import NAMES, make_clips, make_config
from tests.two_processes import in_two_processes
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.config import dump_config
from utils.context import RunContext
from utils.distributed import Process
from utils.errors import UserError

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="sharded training needs PyTorch 2.8")
STEPS, SAVED_AFTER = 4, 2
CASES: dict[str, dict[str, Any]] = {
    "text that trains": {"fix_text": False, "solver_clip_grad_norm": 0.1, "solver_ema": 0.5},
    "contrastive, accumulated": {"solver_loss_type": "NCE", "solver_grad_accumulation_steps": 2},
    "adapter": {"adapter": "lora", "solver_save": "trained", "solver_activation_checkpointing": True},
    "adapter that recomputes": {"adapter": "aim", "solver_save": "trained"},
    "frozen tower": {"fix_video": True, "solver_optim": "adam", "solver_average_epochs": True},
    "experts": {"sim_header": "MoTE", "scorer": "modulated", "solver_loss_type": "mixture"},
    "distillation": {"solver_distill": 2.0},
}
RESUMED = "text that trains"
SHARDED = [(name, "full") for name in CASES] + [(RESUMED, "grad"), ("contrastive, accumulated", "grad")]


class Found(NamedTuple):
    losses: list[float]
    features: torch.Tensor  # of three clips, by the weights that would be validated after SAVED_AFTER
    classes: Any
    stored: dict[str, int]  # bytes of this process's parameters and of its optimiser's averages
    are_sharded: list[bool]  # whether the weights of blocks are sharded after each forward pass in training


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """What this process stores of them; of a sharded tensor its own part."""
    parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return sum(part.numel() * part.element_size() for part in parts)


def train(name: str, shard: str, folder: Path, process: Process, saved: Path | None = None) -> Found:
    """Steps from the start or a checkpoint on, validation after SAVED_AFTER, and a checkpoint named by `shard`."""
    cfg = make_config(
        folder,
        data_batch_size=BATCH // process.world_size,
        head_layers=1,
        solver_lr=1e-3,
        solver_lr_warmup_step=0,
        solver_shard=shard,
        **CASES[name],
    )
    model, text = build_model_and_text(cfg, NAMES, CPU)
    if cfg.solver.distill:
        attach_distillation(cfg, model, NAMES, CPU)
    is_sharded = shard != "none" and process.world_size > 1
    if is_sharded:  # a tower that is sharded may be too large for one GPU
        model.to = mock.Mock(side_effect=AssertionError("the whole model was moved to the device"))
    trainer = build_trainer(cfg, model, text, RunContext(process, "fp32"))
    assert is_sharded == any(isinstance(parameter, DTensor) for parameter in model.parameters())
    are_sharded: list[bool] = []

    def after_forward(*_: Any) -> None:
        if torch.is_grad_enabled():
            weights = [weight for block in blocks_of(model) for weight in block.parameters()]
            are_sharded.append(any(isinstance(weight, DTensor) for weight in weights))

    model.register_forward_hook(after_forward)
    progress, steps = Progress(), STEPS * cfg.solver.grad_accumulation_steps
    loader: Any = Share(process.rank, process.world_size, steps)
    if saved is not None:
        progress = restore_run((saved, load_checkpoint(saved)), cfg, NAMES, model, trainer, loader)
        maps = Path("/proc/self/maps")
        assert not maps.exists() or str(saved) not in maps.read_text(), "a tensor keeps the file mapped"
        loader = Share(process.rank, process.world_size, steps, progress.consumed_clips // BATCH)
    features, classes, losses = torch.empty(0), None, []
    for record in trainer.run_epoch(loader, progress, settle_after=lambda step: step == SAVED_AFTER):
        losses.append(record.loss)
        if record.step != SAVED_AFTER:
            continue
        with trainer.kept_weights():
            with unsharded(model, shard), torch.inference_mode():
                # As many passes as this process has videos: 2 and 1.
                clips = make_clips(3)[process.rank :: process.world_size]
                features = torch.cat([model.eval().video_features(clip[None]).clone() for clip in clips])
                if process.is_main:
                    classes = torch.as_tensor(text_matrix(model, text))
            state = run_state(model, trainer, progress, NAMES, dump_config(cfg))
            if process.is_main and saved is None:
                save_checkpoint(folder / f"{name} {shard} {process.world_size}.pt", state)
        model.train()
    averages = [value for of in trainer.optimizer.state.values() for value in of.values() if value.ndim]
    stored = {"weights": bytes_of(model.parameters()), "optimizer": bytes_of(averages)}
    return Found(losses, features, classes, stored, are_sharded)


def in_process(rank: int, folder: Path, work: dict[tuple, Path | None]) -> dict[tuple, tuple]:
    process = Process(rank, 2, rank, CPU)
    found = {}
    for key, saved in work.items():
        found[key] = tuple(train(*key[:2], folder, process, saved))
        dist.barrier()  # what the main process saved is there
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def found(folder):
    """By case, layout and the layout of the checkpoint, of both processes."""
    alone = train(RESUMED, "none", folder, Process(0, 1, 0, CPU))
    work: dict[tuple, Path | None] = dict.fromkeys([(name, "none") for name in CASES] + SHARDED)
    for kind, origin in (("none", "full 2"), ("full", "none 2"), ("grad", "none 1"), ("full", "grad 2")):
        work[RESUMED, kind, origin] = folder / f"{RESUMED} {origin}.pt"
    of_processes = in_two_processes(in_process, folder, folder, work)
    return {key: [Found(*of_process[key]) for of_process in of_processes] for key in work} | {"alone": [alone]}


@pytest.mark.parametrize(("name", "kind"), SHARDED)
def test_losses_and_validation_are_those_of_data_parallel(found, name, kind):
    for own, expected in zip(found[name, kind], found[name, "none"], strict=True):
        assert len(own.losses) == STEPS and own.losses == pytest.approx(expected.losses, rel=0, abs=1e-5)
        torch.testing.assert_close(own.features, expected.features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[name, kind][0].classes, found[name, "none"][0].classes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "kind"), SHARDED)
def test_each_process_stores_its_part(found, name, kind):
    """Both parts are the whole, once, and differ by less than a row of each parameter; scalars are on both."""
    for what, whole in found[name, "none"][0].stored.items():
        parts = [of.stored[what] for of in found[name, kind]]
        assert sum(parts) == pytest.approx(whole, abs=64) and max(parts) < 0.53 * whole, (what, parts, whole)


def test_only_full_sharding_frees_the_weights_of_blocks_after_the_forward_pass(found):
    for kind, is_sharded in (("none", False), ("grad", False), ("full", True)):
        assert set(found[RESUMED, kind][0].are_sharded) == {is_sharded}, kind


def test_a_checkpoint_is_resumed_in_any_layout(found, folder):
    expected = found[RESUMED, "none"][0].losses[SAVED_AFTER:]
    resumed = {key: of for key, of in found.items() if len(key) == 3}
    assert len(resumed) == 4
    for key, of_processes in resumed.items():
        assert of_processes[0].losses == pytest.approx(expected, rel=0, abs=1e-4), key
    alone = train(RESUMED, "none", folder, Process(0, 1, 0, CPU), folder / f"{RESUMED} full 2.pt")
    assert alone.losses == pytest.approx(found["alone"][0].losses[SAVED_AFTER:], rel=0, abs=1e-4)


@pytest.mark.parametrize(
    ("vision", "precision", "fault"),
    [
        (RESNET, "fp32", "this image tower has no blocks; set it to none"),
        (None, "fp16", "solver.precision to bf16 or fp32"),
    ],
)
def test_unsupported_settings_of_sharding_are_refused(folder, vision, precision, fault):
    cfg = make_config(folder, vision, solver_shard="full", head_layers=1)
    model, text = build_model_and_text(cfg, NAMES, CPU)
    with pytest.raises(UserError, match=fault):
        build_trainer(cfg, model, text, RunContext(Process(0, 1, 0, CPU), precision))


def test_an_older_pytorch_is_refused(folder, monkeypatch):
    monkeypatch.setattr("modules.sharding.IS_SUPPORTED", False)
    cfg = make_config(folder, solver_shard="full", head_layers=1)
    model, text = build_model_and_text(cfg, NAMES, CPU)
    with pytest.raises(UserError, match="solver.shard full: needs PyTorch 2.8 or later"):
        build_trainer(cfg, model, text, RunContext(Process(0, 1, 0, CPU), "fp32"))


def test_the_memory_estimate_divides_sharded_tensors(folder):
    model, _ = build_model_and_text(make_config(folder, head_layers=1), NAMES, CPU)
    plain = MemoryEstimate(
        weights=4 * sum(p.numel() for p in model.parameters()), gradients_and_optimizer=8, activations=3
    )
    assert shared_out(plain, model, "none", 2) == shared_out(plain, model, "full", 1) == plain
    grad, full = shared_out(plain, model, "grad", 2), shared_out(plain, model, "full", 2)
    assert (grad.weights, grad.gradients_and_optimizer, grad.activations) == (1.5 * plain.weights, 4, 3)
    assert plain.weights / 2 < full.weights < grad.weights


def test_checkpoints_are_the_same_in_any_layout(found, folder):
    plain, sharded = (load_checkpoint(folder / f"{RESUMED} {kind} 2.pt") for kind in ("none", "full"))
    for part in ("model_state_dict", "trained_weights"):
        assert list(sharded[part]) == list(plain[part])
        for name, value in plain[part].items():
            torch.testing.assert_close(sharded[part][name], value, rtol=1e-4, atol=1e-4, msg=name)
    assert sharded["optimizer_state_dict"]["param_groups"] == plain["optimizer_state_dict"]["param_groups"]
    for number, state in plain["optimizer_state_dict"]["state"].items():
        for name, value in state.items():
            torch.testing.assert_close(sharded["optimizer_state_dict"]["state"][number][name], value, rtol=0, atol=1e-5)
