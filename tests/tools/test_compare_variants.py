"""tools/compare_variants.py: one table of the variants; the long runs themselves are not tests."""

import argparse
import json

import pytest

from tests.commands.world import REPO
from tests.tools.loading import load_tool
from utils.cli import run_command

compare_variants = load_tool("compare_variants")


def write_results(out, **scores):
    """Variants as the script leaves them, so that it only reads and writes."""
    for name, (seen, held_out) in scores.items():
        folder = out / f"{name}-5"
        (folder / "zeroshot").mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(json.dumps({"kind": "val", "step": 9, "top1": seen}) + "\n")
        summary = {"tests": {"zeroshot, heldout_frames.txt": {"full_top1": held_out}}}
        (folder / "zeroshot" / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def measured(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_variants, "PAGE", str(tmp_path / "variants.md"))
    write_results(tmp_path, mean=(30.0, 50.0), transf=(85.5, 76.25))
    return tmp_path


def run(out, *only, page=None):
    args = argparse.Namespace(epochs=5, out=str(out), page=page, only=list(only) or None, debug=False)
    return run_command(compare_variants.main, args)


def test_the_table_has_a_row_for_each_variant_with_results(measured):
    page = measured / "page.md"
    assert run(measured, "transf", page=str(page)) == 0
    text = page.read_text()
    assert "| mean of the frames | `network.sim_header=None` | 30.0 | 50.0 |" in text
    assert "| temporal head | `network.sim_header=Transf` | 85.5 | 76.2 |" in text


def test_the_page_is_not_written_while_a_variant_lacks_results(measured, capsys):
    page = measured / "variants.md"
    page.write_text("whole")
    assert run(measured, "transf") == 0
    said = capsys.readouterr().out
    assert page.read_text() == "whole" and "no results of tsm, tokenshift, tokent1d" in said
    others = [name for name in compare_variants.VARIANTS if name not in ("mean", "transf")]
    write_results(measured, **dict.fromkeys(others, (1.0, 2.0)))
    assert run(measured, "transf") == 0
    assert page.read_text().count("| 1.0 | 2.0 |") == len(others)


def test_an_unknown_variant_is_named(measured, capsys):
    assert run(measured, "lstm") == 2
    assert "unknown variant lstm; available are mean, transf" in capsys.readouterr().err


def test_the_page_shows_the_variants_that_there_are():
    text = (REPO / "docs" / "variants.md").read_text(encoding="utf-8")
    rows = [line.split("|")[3:5] for line in text.splitlines() if line.startswith("| ")][2:]
    scores = [{"seen": float(seen), "held_out": float(held_out)} for seen, held_out in rows]
    assert len(scores) == len(compare_variants.VARIANTS)
    assert compare_variants.make_page(dict(zip(compare_variants.VARIANTS, scores)), epochs=5) == text
