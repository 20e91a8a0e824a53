"""scripts/compare_variants.py: one table of the variants; the long runs themselves are not tests."""

import json
import sys

import pytest

from tests.stories.world import command


@pytest.fixture
def measured(tmp_path):
    """Two variants as the script leaves them, so that it only reads and writes."""
    for name, seen, held_out in (("mean", 30.0, 50.0), ("transf", 85.5, 76.25)):
        folder = tmp_path / f"{name}-5"
        (folder / "zeroshot").mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(json.dumps({"kind": "val", "step": 9, "top1": seen}) + "\n")
        summary = {"tests": {"zeroshot, heldout_frames.txt": {"full_top1": held_out}}}
        (folder / "zeroshot" / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def run(measured, *arguments):
    page = measured / "page.md"
    words = ("scripts/compare_variants.py", "--out", measured, "--page", page, *arguments)
    return command(sys.executable, *words), page


def test_the_table_has_a_row_a_variant(measured):
    result, page = run(measured, "--only", "mean", "transf")
    assert result.returncode == 0, result.stderr
    text = page.read_text()
    assert "| mean of the frames | `network.sim_header=None` | 30.0 | 50.0 |" in text
    assert "| temporal head | `network.sim_header=Transf` | 85.5 | 76.2 |" in text


def test_an_unknown_variant_is_named(measured):
    result, _ = run(measured, "--only", "lstm")
    assert result.returncode == 2 and "no variant lstm; there are mean, transf" in result.stderr
