"""Nine steps of training equal the published training written out in plain PyTorch, for every temporal kind.

This tests the models and their gradients, the logit scale's too; the parameter groups and their rates; the schedule;
weight decay of every parameter; accumulation. Each side starts from one checkpoint under the published names.
"""

import pytest
import torch

from modules.build import build_model
from modules.build_training import build_trainer
from modules.checkpoint_layout import load_video_weights
from modules.training import Progress
from tests.clip.tiny import EMBED_DIM, RESNET, state_of
from tests.modules import reference
from tests.modules.tiny import NAMES, Batches, clip_of, make_config
from utils.context import RunContext

FRAMES, BATCH = 4, 2
# Large rates, so that nine steps move the loss far more than the tolerance.
SOLVER = {"solver_lr": 5e-4, "solver_clip_ratio": 0.3, "solver_weight_decay": 2.0, "solver_lr_warmup_step": 1}


def published_checkpoint(vision: dict | None, kind: str | bool, head: str) -> dict[str, torch.Tensor]:
    """Every tensor of a video checkpoint under its published name; the additions away from where they start."""
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: 0.1 * torch.randn(*shape, generator=generator)  # noqa: E731
    whole = state_of(vision)
    state = {name: value for name, value in whole.items() if name.startswith("visual.") or name == "logit_scale"}
    block = "visual.transformer.resblocks."
    if kind == "tsm":
        state = {
            ".".join([*name.split(".")[:4], "net", *name.split(".")[4:]])
            if name.startswith(block)
            else name.replace(".conv1.", ".conv1.net.")
            if name.startswith("visual.layer")
            else name: value
            for name, value in state.items()
        }
    if kind == "tokent1d":
        width = state["visual.class_embedding"].numel()
        for i in range(3):
            state[f"{block}{i}.control_point.conv.weight"] = draw(width, 1, 3) + torch.tensor([0.2, 0.6, 0.2])
    if kind == "joint_st":
        state["visual.time_embedding"] = draw(FRAMES, state["visual.class_embedding"].numel())
    if head == "Transf":
        state["fusion_model.frame_position_embeddings.weight"] = draw(77, EMBED_DIM)
        for i in range(6):
            name = f"fusion_model.transformer.resblocks.{i}"
            shapes = {"attn.in_proj_": (3 * EMBED_DIM, EMBED_DIM), "attn.out_proj.": (EMBED_DIM, EMBED_DIM)}
            shapes |= {"mlp.c_fc.": (4 * EMBED_DIM, EMBED_DIM), "mlp.c_proj.": (EMBED_DIM, 4 * EMBED_DIM)}
            for part, (rows, columns) in shapes.items():
                state[f"{name}.{part}weight"], state[f"{name}.{part}bias"] = draw(rows, columns), draw(rows)
            for part in ("ln_1", "ln_2"):
                state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"] = 1 + draw(EMBED_DIM), draw(EMBED_DIM)
    return state


def epochs_of(num_epochs: int, num_batches: int, size: int) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(9)
    clips = lambda: torch.randn(BATCH, FRAMES, 3, size, size, generator=generator)  # noqa: E731
    labels = lambda: torch.randint(0, len(NAMES), (BATCH,), generator=generator)  # noqa: E731
    return [[(clips(), labels()) for _ in range(num_batches)] for _ in range(num_epochs)]


def train(cfg, state: dict[str, torch.Tensor], epochs: list, text: torch.Tensor) -> list[float]:
    """The losses of our training."""
    model = build_model(cfg, clip_of(cfg, seed=3))
    load_video_weights(model, {"model_state_dict": state}, "published.pt")
    trainer, progress, found = build_trainer(cfg, model, text, RunContext()), Progress(), []
    for number, batches in enumerate(epochs):
        progress.epoch, progress.consumed_clips = number, 0
        found += [record.loss for record in trainer.run_epoch(Batches(batches), progress)]
    return found


@pytest.mark.parametrize(
    ("vision", "kind", "head", "accumulation"),
    [
        (None, False, "Transf", 1),
        (None, False, "None", 1),
        (None, False, "Transf", 3),
        (None, "tsm", "Transf", 1),
        (None, "tokenshift", "Transf", 1),
        (None, "tokent1d", "Transf", 1),
        (None, "joint_st", "None", 1),
        (RESNET, False, "Transf", 1),
        (RESNET, "tsm", "Transf", 1),
    ],
    ids=lambda value: "ResNet" if value is RESNET else "ViT" if value is None else str(value),
)
def test_nine_steps_equal_the_published_training(tmp_path, vision, kind, head, accumulation):
    size = 64 if vision else 32
    changes = {"joint_st": True} if kind == "joint_st" else {"tm": kind}
    run = {"solver_epochs": 3, "solver_grad_accumulation_steps": accumulation, "data_batch_size": BATCH}
    cfg = make_config(tmp_path, vision, sim_header=head, **changes, **SOLVER, **run)
    state = published_checkpoint(vision, kind, head)
    epochs = epochs_of(3, 3 * accumulation, size)
    text = torch.randn(len(NAMES), EMBED_DIM, generator=torch.Generator().manual_seed(2))
    expected = reference.train(state, epochs, text, kind, cfg.solver)
    assert len(expected) == 9
    assert train(cfg, state, epochs, text) == pytest.approx(expected, rel=1e-5)
