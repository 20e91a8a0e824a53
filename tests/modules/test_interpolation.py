"""Open-VCLIP's second pass, and FROSTER's distance to frozen CLIP: gradients equal those written out by hand."""

import pytest
import torch
from torch.nn import functional as F

from engine.plan import method_bytes
from modules.build import build_model
from modules.build_training import build_trainer
from modules.checkpoint_layout import load_video_weights
from modules.distillation import attach_distillation
from modules.interpolation import clip_weights
from modules.training import Progress
from tests.clip.tiny import EMBED_DIM, state_of
from tests.modules import reference
from tests.modules.test_training_parity import FRAMES, epochs_of, published_checkpoint
from tests.modules.tiny import NAMES, Batches, clip_of, make_config
from utils.context import RunContext

TEXT = torch.randn(len(NAMES), EMBED_DIM, generator=torch.Generator().manual_seed(2))
CPU = torch.device("cpu")


def set_up(tmp_path, **changes):
    """A trainer of a model away from CLIP, its model, and what its optimiser would get."""
    cfg = make_config(tmp_path, data_batch_size=2, **changes)
    clip_model = clip_of(cfg)
    text = None if changes.get("fix_text") is False else TEXT
    model = build_model(cfg, clip_model, NAMES, text)
    clip = clip_weights(model)
    if cfg.solver.distill:
        attach_distillation(cfg, model, NAMES, CPU)
    state = {name: value + 0.01 for name, value in published_checkpoint(None, False, "Transf").items()}
    load_video_weights(model, {"model_state_dict": state}, "published.pt")
    trainer = build_trainer(cfg, model, text, RunContext(), clip)
    return cfg, model, trainer, state


def gradients_of(trainer, model, batches) -> dict[str, torch.Tensor]:
    """Of the first optimiser step."""
    found = {}

    def keep(loss: torch.Tensor) -> torch.Tensor:
        found.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        return torch.zeros(())

    trainer._update = keep
    list(trainer.run_epoch(Batches(batches), Progress()))
    return found


def reference_gradients(loss_of, state) -> dict[str, torch.Tensor]:
    leaves = {n: v.detach().clone().requires_grad_() for n, v in state.items() if v.is_floating_point()}
    loss = loss_of(leaves)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)))


def assert_same(found, expected) -> None:
    assert found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_gradient_is_that_of_both_passes(tmp_path, accumulation):
    solver = {"solver_interpolated_loss": 0.5, "solver_grad_accumulation_steps": accumulation}
    cfg, model, trainer, state = set_up(tmp_path, **solver)
    ((*batches,),) = epochs_of(1, accumulation, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = gradients_of(trainer, model, batches)
    share = trainer.interpolation.draw(0, 0)
    assert 0 < share < 0.6
    clip = state_of()
    between = {n: torch.lerp(v, clip[n], share) if n in clip and v.is_floating_point() else v for n, v in state.items()}

    def loss(p):
        parts = [F.cross_entropy(reference.logits(p, clips, TEXT, False), labels) for clips, labels in batches]
        return sum(parts) / len(parts)

    first, second = reference_gradients(loss, state), reference_gradients(loss, between)
    expected = {name: first[name] + 0.5 * second[name] for name in first if first[name] is not None}
    assert_same(found, expected)
    assert any(not torch.allclose(0.5 * second[name], torch.zeros(())) for name in expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_interpolation_weight_is_drawn_each_step_within_its_range(tmp_path):
    *_, trainer, _ = set_up(tmp_path, solver_interpolated_loss=0.5, solver_interpolated_range=[0.2, 0.3])
    drawn = [trainer.interpolation.draw(epoch, clips) for epoch in range(3) for clips in range(0, 40, 4)]
    assert len(set(drawn)) == len(drawn) and 0.2 <= min(drawn) < 0.22 and 0.28 < max(drawn) <= 0.3
    assert drawn[0] == trainer.interpolation.draw(0, 0)


def distance(own: torch.Tensor, projection: list[torch.Tensor], frozen: torch.Tensor) -> torch.Tensor:
    own = own / own.norm(dim=-1, keepdim=True)
    own = own + 0.1 * F.gelu(own @ projection[0].T) @ projection[1].T
    own, frozen = (x / x.norm(dim=-1, keepdim=True) for x in (own, frozen))
    return 1 - (own * frozen).sum(dim=-1)


def test_the_distance_of_frames_to_frozen_clip_equals_its_formula(tmp_path):
    cfg, model, trainer, state = set_up(tmp_path, solver_distill=2.0)
    projection = model.distillation.frames
    assert not projection[2].weight.any()
    with torch.no_grad():
        projection[2].weight.normal_(std=0.1)  # else its gradient alone would be tested
    ((batch,),) = epochs_of(1, 1, 32)
    found = gradients_of(trainer, model, [batch])
    state |= {f"distillation.frames.{i}.weight": projection[i].weight.detach() for i in (0, 2)}
    clips, labels = batch

    def loss(p):
        logits = reference.logits(p, clips, TEXT, False)
        frames = reference.vit(p, clips.flatten(0, 1), FRAMES, False)
        with torch.no_grad():
            frozen = reference.vit(state_of(), clips.flatten(0, 1), FRAMES, False)
        weights = [p[f"distillation.frames.{i}.weight"] for i in (0, 2)]
        return F.cross_entropy(logits, labels) + 2 * distance(frames, weights, frozen).mean()

    expected = reference_gradients(loss, state)
    assert {"distillation.frames.0.weight", "distillation.frames.2.weight"} <= set(found)
    assert_same(found, expected)


def test_a_trained_text_tower_is_distilled_as_well(tmp_path):
    cfg, model, trainer, _ = set_up(tmp_path, solver_distill=2.0, fix_text=False)
    frozen = model.class_embeddings().detach()
    torch.testing.assert_close(model.distillation.frozen_classes, frozen)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("text.") or name == "distillation.classes.2.weight":
                parameter.add_(0.01 * torch.randn_like(parameter))
    ((batch,),) = epochs_of(1, 1, 32)
    model.eval()
    clips, labels = batch
    with torch.no_grad():
        frozen_frames = model.distillation.towers[0](clips.flatten(0, 1))
    parts = {kind: [getattr(model.distillation, kind)[i].weight for i in (0, 2)] for kind in ("frames", "classes")}
    loss = F.cross_entropy(model(clips), labels)
    loss = loss + 2 * distance(model.encode_frames(clips).flatten(0, 1), parts["frames"], frozen_frames).mean()
    loss = loss + 2 * distance(model.class_embeddings(), parts["classes"], frozen).mean()
    loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    found = gradients_of(trainer, model, [batch])
    assert any(name.startswith("text.") for name in found) and "distillation.classes.2.weight" in found
    assert_same(found, expected)


def test_the_memory_of_both_is_counted(tmp_path):
    cfg, model, *_ = set_up(tmp_path, solver_distill=2.0, solver_interpolated_loss=0.5)
    tower = sum(p.numel() for p in model.visual.parameters())
    assert method_bytes(cfg, model) == 4 * (tower + 2 * (tower + 1))  # the temperature is CLIP's too
    assert not any(name.startswith("distillation.towers") for name in model.state_dict())
