"""Parameter groups, optimisers and the learning rate's course."""

import math

import pytest
import torch
from torch import nn

from utils.optim import build_optimizer, describe_groups, set_lr, split_parameters
from utils.schedule import fractional_epoch, lr_factor, milestones_of


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Linear(4, 3)
        self.fusion_model = nn.Linear(3, 3, bias=False)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.logit_scale = nn.Parameter(torch.ones(()))


def groups(model):
    return split_parameters(model, lambda name: name.startswith(("visual.", "logit_scale")), clip_ratio=0.1)


def test_every_parameter_is_in_exactly_one_group():
    model = Model()
    names = {g.name: [n for n, _ in g.parameters] for g in groups(model)}
    assert names == {
        "pretrained": ["logit_scale", "visual.weight", "visual.bias"],
        "new": ["fusion_model.weight"],
        "frozen": ["frozen.weight", "frozen.bias"],
    }
    table = describe_groups(groups(model), 1e-3)
    assert "pretrained  0.0001" in table and "16" in table and "fusion_model" in table


@pytest.mark.parametrize(
    ("kind", "cls"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimizers_and_their_rates(kind, cls):
    model = Model()
    optimizer = build_optimizer(groups(model), kind, lr=1e-3, weight_decay=0.2, momentum=0.9)
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


def test_schedule_shapes():
    assert lr_factor(2.5, "cosine", 30, 5) == 0.5
    assert lr_factor(17.5, "cosine", 30, 5) == pytest.approx(0.5)
    assert lr_factor(30, "cosine", 30, 5) == 0
    assert lr_factor(0, "cosine", 30, 0) == 1
    assert milestones_of(10, 30) == [10, 20] and milestones_of([3, 7], 30) == [3, 7]
    assert lr_factor(10, "multistep", 30, 5, [10, 20]) == pytest.approx(0.1)
    assert math.isclose(lr_factor(9.999, "multistep", 30, 5, [10, 20]), 1)


def test_fractional_epoch_counts_iterations():
    # 20 clips in steps of 8: three iterations.
    assert [fractional_epoch(4, c, 8, 20) for c in (0, 8, 16)] == pytest.approx([4, 4 + 1 / 3, 4 + 2 / 3])
