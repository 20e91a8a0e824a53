"""Losses; the contrastive ones over several processes against one with the whole batch."""

from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from modules.losses.contrastive import contrastive_loss, ds_one_way, nce_one_way
from modules.losses.cross_entropy import weighted_cross_entropy
from modules.losses.loss import Loss
from modules.scorers.cosine import scaled_cosine
from tests.two_processes import in_two_processes
from utils.schema import Config

DIM = 6
ONE_WAY = {"NCE": nce_one_way, "DS": ds_one_way}
LABELS = torch.tensor([0, 2, 0, 1, 2])


def sides(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video, text = (torch.randn(len(LABELS), DIM, generator=generator, requires_grad=True) for _ in range(2))
    return video, text


def scored(scale):
    return partial(scaled_cosine, scale=scale)


def test_weighted_cross_entropy_is_a_sum():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    each = F.cross_entropy(logits, labels, reduction="none")
    weights = torch.tensor([1.0, 0.0, 1.0, 0.5])
    expected = each[0] + each[2] + each[3] / 2
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights), expected)
    assert weighted_cross_entropy(logits, labels, torch.zeros(4)) == 0


def test_nce_is_its_formula():
    logits = torch.randn(4, 4, dtype=torch.float64)
    target = torch.eye(4, dtype=torch.float64)
    goal = (10 * target).softmax(1)
    expected = (goal * (goal.log() - logits.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(nce_one_way(logits, target), expected)
    torch.testing.assert_close(ds_one_way(logits, target), nce_one_way(logits * (logits / 1000).softmax(0) * 4, target))


class Pairs(torch.nn.Module):
    """Replaces the model: its logits, or with labels its two sides, are parameters."""

    scorer = staticmethod(scaled_cosine)

    def __init__(self):
        super().__init__()
        self.video, self.text = torch.randn(4, DIM), torch.randn(3, DIM)

    def forward(self, frames, text, labels=None):
        if labels is None:
            return self.video @ self.text.T
        rows = self.text[labels] if labels.ndim == 1 else labels @ F.normalize(self.text, dim=-1)
        return self.video, rows, torch.tensor(7.0)


def test_class_weights_multiply_the_classes_parts():
    model, labels, weights = Pairs(), torch.tensor([0, 2, 0, 1]), torch.tensor([1.0, 1, 1, 0])
    loss = Loss.named("CE")(Config(), world_size=1)
    batch = {"frames": None, "label": labels, "weight": weights}
    each = F.cross_entropy(model.video @ model.text.T, labels, reduction="none")
    loss.class_weights = torch.tensor([2.0, 1.0, 0.5])
    torch.testing.assert_close(loss(model, batch), 2 * each[0] + 0.5 * each[1] + 2 * each[2])
    shares = F.one_hot(labels, 3).float()
    torch.testing.assert_close(loss(model, batch | {"label": shares}), loss(model, batch))


def test_classes_of_other_sets_do_not_change_the_loss_of_sets_apart():
    sets = [{"name": name, "num_classes": count} for name, count in (("a", 2), ("b", 1))]
    batch = {"frames": None, "label": torch.tensor([0, 1, 0, 1]), "weight": torch.ones(4)}
    is_same = {}
    for space in ("joined", "apart"):
        cfg = Config.model_validate({"data": {"sets": sets, "label_space": space}})
        model, losses = Pairs(), []
        for _ in range(2):
            losses.append(Loss.named("CE")(cfg, world_size=1)(model, batch))
            model.text = torch.cat([model.text[:2], -model.text[2:]])
        is_same[space] = torch.allclose(*losses)
    assert is_same == {"joined": False, "apart": True}


def test_binary_cross_entropy_is_its_formula():
    model, weights = Pairs(), torch.tensor([1.0, 1, 1, 0])
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    cfg = Config.model_validate({"components": {"BCE": {"bias": -2.0}}})
    found = Loss.named("BCE")(cfg, world_size=3)(model, {"frames": None, "label": labels, "weight": weights})
    p = torch.sigmoid(model.video @ model.text.T - 2)
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean(dim=1)
    torch.testing.assert_close(found, 3 * expected[:3].sum())


@pytest.mark.parametrize("kind", ["CE", "NCE", "DS"])
def test_shares_of_the_classes_as_labels(kind):
    """(B, K) shares that are all of one class are that class; what lies between is another loss."""
    model, loss = Pairs(), Loss.named(kind)(Config(), world_size=1)
    labels = torch.tensor([0, 2, 0, 1])
    of = lambda label: loss(model, {"frames": None, "label": label, "weight": torch.tensor([1.0, 1, 1, 0])})  # noqa: E731
    shares = F.one_hot(labels, 3).float()
    torch.testing.assert_close(of(shares), of(labels))
    mixed = 0.7 * shares + 0.3 * shares.flip(0)
    assert of(mixed).isfinite() and not torch.allclose(of(mixed), of(labels))
    if kind == "CE":
        torch.testing.assert_close(of(mixed), 0.7 * of(labels) + 0.3 * of(labels.flip(0)))


@pytest.mark.parametrize("kind", ["NCE", "DS"])
def test_clips_of_weight_zero_do_not_change_the_loss(kind):
    video, text = sides()
    scale, ones = torch.tensor(9.0), torch.ones(len(LABELS))
    loss = contrastive_loss(ONE_WAY[kind], scored(scale), video, text, LABELS, ones)
    more = torch.cat([video, torch.full((1, DIM), 5.0)]), torch.cat([text, torch.full((1, DIM), -3.0)])
    filled = contrastive_loss(
        ONE_WAY[kind], scored(scale), *more, torch.tensor([*LABELS, 1]), torch.tensor([*ones, 0.0])
    )
    torch.testing.assert_close(filled, loss)


@pytest.mark.parametrize("kind", ["NCE", "DS"])
def test_gradient_descent_decreases_the_loss(kind):
    video, text = sides()
    optimizer = torch.optim.SGD([video, text], 0.02)
    found = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = contrastive_loss(ONE_WAY[kind], scored(5.0), video, text, LABELS, torch.ones(len(LABELS)))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.8 * found[0]


CASES = [(kind, bounds) for kind in ("NCE", "DS") for bounds in ([0, 3, 5], [0, 5, 5], [0, 0, 5])]


def shares_of_one_process(rank: int) -> list[list[torch.Tensor]]:
    """Every case as process `rank` of two sees it."""
    return [of_a_share(kind, bounds[rank], bounds[rank + 1]) for kind, bounds in CASES]


def of_a_share(kind: str, start: int, end: int) -> list[torch.Tensor]:
    """Loss and gradients, averaged over processes, with this process's rows; where it has none, one without weight."""
    video, text = sides()
    scale = torch.tensor(2.0, requires_grad=True)
    rows = slice(start, end) if end > start else slice(0, 1)
    weights = torch.full((len(LABELS[rows]),), float(end > start))
    loss = contrastive_loss(ONE_WAY[kind], scored(scale.exp()), video[rows], text[rows], LABELS[rows], weights)
    loss.backward()
    gradients = [leaf.grad for leaf in (video, text, scale) if leaf.grad is not None]
    for gradient in gradients:  # as DDP does
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    return [loss.detach(), *gradients]


@pytest.fixture(scope="module")
def found_by_two(tmp_path_factory) -> list[list[list[torch.Tensor]]]:
    return in_two_processes(shares_of_one_process, tmp_path_factory.mktemp("shares"))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_two_processes_equal_one(found_by_two, number):
    """Loss and gradients, of uneven shares and of a share with nothing in it."""
    video, text = sides()
    scale = torch.tensor(2.0, requires_grad=True)
    loss = contrastive_loss(
        ONE_WAY[CASES[number][0]], scored(scale.exp()), video, text, LABELS, torch.ones(len(LABELS))
    )
    loss.backward()
    for found in found_by_two:
        for value, expected in zip(found[number], [loss.detach(), video.grad, text.grad, scale.grad], strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
