"""Parameter groups, optimisers and the learning rate's course."""

import copy
import math

import pytest
import torch
from timm.optim import list_optimizers
from torch import nn

from modules import optim
from modules.optim import build_optimizer, describe_groups, set_lr, split_parameters
from modules.schedule import Schedule, fractional_epoch, lr_factor
from utils.errors import UserError
from utils.schema import SolverConfig


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Linear(4, 3)
        self.fusion_model = nn.Linear(3, 3, bias=False)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.logit_scale = nn.Parameter(torch.ones(()))


def rate_of(name):
    return ("pretrained", 0.1) if name.startswith(("visual.", "logit_scale")) else ("new", 1.0)


def optimizer_of(model, decay_1d=True, **solver):
    return build_optimizer(split_parameters(model, rate_of, decay_1d), SolverConfig(lr=1e-3, **solver))


def test_every_parameter_is_in_exactly_one_group():
    groups = split_parameters(Model(), rate_of)
    assert {g.name: [n for n, _ in g.parameters] for g in groups} == {
        "pretrained": ["logit_scale", "visual.weight", "visual.bias"],
        "new": ["fusion_model.weight"],
        "frozen": ["frozen.weight", "frozen.bias"],
    }
    table = describe_groups(groups, 1e-3)
    assert "pretrained  0.0001" in table and "16" in table and "fusion_model" in table


def test_tensors_of_one_dimension_may_go_without_weight_decay():
    model = Model()
    groups = optimizer_of(model, decay_1d=False, weight_decay=0.2).param_groups
    decayed = {id(p) for g in groups if g["weight_decay"] == 0.2 for p in g["params"]}
    assert decayed == {id(model.visual.weight), id(model.fusion_model.weight)}
    undecayed = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert undecayed == {id(model.visual.bias), id(model.logit_scale)}


@pytest.mark.parametrize(
    ("kind", "cls"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimizers_and_their_rates(kind, cls):
    model = Model()
    optimizer = optimizer_of(model, optim=kind)
    assert isinstance(optimizer, cls)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.2, 0.2]
    assert set_lr(optimizer, 5e-5) == pytest.approx({"pretrained": 5e-6, "new": 5e-5})
    if kind != "sgd":
        assert optimizer.defaults["betas"] == (0.9, 0.999) and optimizer.defaults["eps"] == 1e-8
    before = {name: p.clone() for name, p in model.named_parameters()}
    sum((p**2).sum() for p in model.parameters()).backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"visual.weight", "visual.bias", "fusion_model.weight", "logit_scale"}


OPTIMIZERS = SolverConfig.model_fields["optim"].annotation.__args__


@pytest.mark.parametrize("kind", [kind for kind in OPTIMIZERS if kind in list_optimizers()])
def test_every_optimizer_steps_and_resumes(kind):
    torch.manual_seed(0)
    model = Model()
    optimizer = optimizer_of(model, optim=kind)

    def step():
        sum((p**2).sum() for p in model.parameters() if p.requires_grad).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    saved = copy.deepcopy(optimizer.state_dict()), {name: value.clone() for name, value in model.state_dict().items()}
    step()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.isfinite(value).all() for value in expected.values())
    model.load_state_dict(saved[1])
    torch.manual_seed(0)
    optimizer = optimizer_of(model, optim=kind)
    optimizer.load_state_dict(saved[0])
    step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_an_optimizer_that_timm_lacks_is_a_one_line_error(monkeypatch):
    monkeypatch.setattr(optim, "list_optimizers", lambda: ["adamw"])
    with pytest.raises(UserError, match="solver.optim: the installed timm has no lion; pip install --upgrade timm"):
        optimizer_of(Model(), optim="lion")


def test_the_optimizer_uses_the_betas_of_the_config():
    assert optimizer_of(Model(), betas=[0.9, 0.98]).param_groups[0]["betas"] == (0.9, 0.98)
    assert optimizer_of(Model(), optim="lion", betas=[0.95, 0.98]).param_groups[0]["betas"] == (0.95, 0.98)
    with pytest.raises(UserError, match="solver.betas: adamw has 2 betas, not 3"):
        optimizer_of(Model(), betas=[0.9, 0.98, 0.99])


def test_schedule_shapes():
    assert lr_factor(2.5, "cosine", 30, 5) == 0.5
    assert lr_factor(17.5, "cosine", 30, 5) == pytest.approx(0.5)
    assert lr_factor(30, "cosine", 30, 5) == 0
    assert lr_factor(0, "cosine", 30, 0) == 1
    steps = (SolverConfig(epochs=30, lr_decay_step=step) for step in (10, [3, 7]))
    assert [Schedule(solver).milestones for solver in steps] == [[10, 20], [3, 7]]
    assert lr_factor(10, "multistep", 30, 5, [10, 20]) == pytest.approx(0.1)
    assert math.isclose(lr_factor(9.999, "multistep", 30, 5, [10, 20]), 1)


def test_the_rate_ends_at_its_minimum():
    rates = {"lr": 1e-3, "min_lr": 1e-5}
    cosine = Schedule(SolverConfig(**rates, epochs=30, lr_warmup_step=5))
    assert [cosine.at(e) for e in (0, 2.5, 5, 17.5, 30)] == pytest.approx([0, 5e-4, 1e-3, 5.05e-4, 1e-5])
    multistep = Schedule(SolverConfig(**rates, type="multistep", epochs=40, lr_warmup_step=0, lr_decay_step=10))
    assert [multistep.at(e) for e in (0, 10, 20, 30)] == pytest.approx([1e-3, 1e-4, 1e-5, 1e-5])


def test_fractional_epoch_counts_iterations():
    # 20 clips in steps of 8: three iterations.
    assert [fractional_epoch(4, c, 8, 20) for c in (0, 8, 16)] == pytest.approx([4, 4 + 1 / 3, 4 + 2 / 3])
