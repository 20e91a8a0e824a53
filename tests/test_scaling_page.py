"""docs/scaling.md contains the output of benchmarks/scaling.py."""

import logging
from pathlib import Path

import pytest

from benchmarks import scaling

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


def test_flops_by_hand():
    """ViT-B/32 at 224: 12 blocks of width 768 on 50 tokens and a patch embedding; forward + backward is three times."""
    width, tokens, layers = 768, 50, 12
    block = tokens * 12 * width**2 + 2 * tokens**2 * width  # multiplications: projections and MLP, then attention
    tower = layers * block + 49 * 32 * 32 * 3 * width + width * 512
    head = 6 * (8 * 12 * 512**2 + 2 * 8**2 * 512)
    by_hand = 3 * 2 * (8 * tower + head)
    assert scaling.cost_of("vitb-32-f8").flops == pytest.approx(by_hand, rel=0.02)
