"""Adapters train on two processes as on one: DDP without a search for unused parameters."""

from pathlib import Path

import pytest
import torch

from modules.adapters import ADAPTERS
from modules.build_training import data_parallel
from tests.modules.test_adapters import built, moved
from tests.modules.tiny import make_clips
from tests.two_processes import in_two_processes

CLIPS = make_clips(batch=4)


def gradients(adapter: str, folder: Path, rows: slice, wrap: bool) -> dict[str, torch.Tensor]:
    """After the second of two steps, the first of which DDP learns its buckets from."""
    settings = {"text_depth": 2} if adapter == "deep_prompts" else None
    model = moved(built(folder, adapter, settings=settings)).train()
    text = None if settings else torch.randn(3, model.embed_dim, generator=torch.Generator().manual_seed(0))
    whole = data_parallel(model, torch.device("cpu"), has_one_pass=True) if wrap else model
    for _ in range(2):
        model.zero_grad()
        whole(CLIPS[rows], text).logsumexp(-1).mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def one_of_two(rank: int, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    rows = slice(2 * rank, 2 * rank + 2)
    return {name: gradients(name, folder / str(rank), rows, True) for name in ADAPTERS}


@pytest.fixture(scope="module")
def found_by_two(tmp_path_factory) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("two")
    for rank in (0, 1):
        (folder / str(rank)).mkdir()
    return in_two_processes(one_of_two, folder, folder)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_two_processes_equal_one(tmp_path, found_by_two, adapter):
    expected = gradients(adapter, tmp_path, slice(None), False)
    for found in found_by_two:
        assert found[adapter].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[adapter][name], gradient, rtol=1e-4, atol=1e-6)
