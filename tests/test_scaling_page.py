"""docs/scaling.md contains the output of benchmarks/scaling.py."""

import logging
from pathlib import Path

import pytest

from benchmarks import scaling
from datasets.samplers import TrainBatches

PAGE = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_the_tables_are_current(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["scaling.py"])
    scaling.main()
    logging.disable(logging.NOTSET)
    *tables, figures = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 4
    for table in tables:
        assert table in PAGE, "run python benchmarks/scaling.py and put its tables into docs/scaling.md"
    text = " ".join(PAGE.split())
    assert [line for line in figures.splitlines() if line.rpartition(": ")[0] not in text] == []


def test_half_of_the_data_is_cached_as_estimated():
    """One of eight nodes, with a cache of half the clips that evicts nothing."""
    num_clips, cached, shares = 80_000, set(), []
    node = TrainBatches(num_clips, batch_size=100, world_size=8, rank=0, seed=1)
    for epoch in range(8):
        node.start(epoch)
        clips = [key.index for batch in node for key in batch]
        shares.append(sum(clip in cached for clip in clips) / len(clips))
        for clip in clips:
            if len(cached) < num_clips / 2:
                cached.add(clip)
    assert shares == pytest.approx([*(1 - (7 / 8) ** epoch for epoch in range(6)), 0.5, 0.5], abs=0.015)
    assert "from epoch 7 on" in PAGE


def test_flops_by_hand():
    """ViT-B/32 at 224: 12 blocks of width 768 on 50 tokens and a patch embedding; forward + backward is three times."""
    width, tokens, layers = 768, 50, 12
    block = tokens * 12 * width**2 + 2 * tokens**2 * width  # multiplications: projections and MLP, then attention
    tower = layers * block + 49 * 32 * 32 * 3 * width + width * 512
    head = 6 * (8 * 12 * 512**2 + 2 * 8**2 * 512)
    by_hand = 3 * 2 * (8 * tower + head)
    assert scaling.cost_of("vitb-32-f8").flops == pytest.approx(by_hand, rel=0.02)
