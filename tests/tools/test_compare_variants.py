"""tools/compare_variants.py: the tables of docs/methods.md and docs/tuning.md, without the long runs."""

import re

import pytest

from demo import make_shapes_world, make_transfer_sets
from tests.commands.world import REPO
from tests.tools.loading import load_tool, run_tool
from utils.cli import run_command
from utils.errors import UserError

tool = load_tool("compare_variants")
comparison = load_tool("comparison")
METHODS_PAGE = (REPO / "docs" / "methods.md").read_text(encoding="utf-8")
TUNING_PAGE = (REPO / "docs" / "tuning.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's folder with one clip of each class."""
    root = tmp_path_factory.mktemp("demo")
    splits = [f"--{split}_per_class=1" for split in ("train", "val", "heldout")]
    assert run_tool(make_shapes_world, str(root / "world"), *splits, "--workers", "1") == 0
    sets = [str(root / "world"), str(root / "transfer"), "--coloured_per_class", "1", "--drawn_per_class", "1"]
    assert run_tool(make_transfer_sets, *sets) == 0
    return root


def run(demo, *words):
    small = ("--demo", str(demo), "--out", str(demo / "out"), "--epochs", "1", "--shots", "1")
    return run_command(tool.main, tool.parse_arguments([*small, "--seeds", "1", "--frames", "2", *words]))


def test_a_method_is_trained_tested_and_not_run_again(demo, capsys, monkeypatch):
    """With bitfit, which is a row of both tables."""
    assert run(demo, "--only", "bitfit") == 0
    printed = capsys.readouterr().out
    number = r"\d+\.\d"
    assert re.search(rf"^\| `bitfit` \| {number} \| {number} \| {number} \| {number} \| 3,585 \|$", printed, re.M)
    row = re.search(rf"^\| `bitfit` \| {number} \| {number} \| 3,585 \| 0\.\d\d \| (\d+) \| \d+ \|$", printed, re.M)
    assert 10 < int(row[1]) < 100  # MB, of the step only: Python with its libraries takes 800 MB
    monkeypatch.setattr(tool, "run", None)
    assert run(demo, "--only", "bitfit") == 0
    assert capsys.readouterr().out == printed
    assert run(demo, "--only", "bitfit", "--epochs", "2") == 2
    assert "was created with other settings" in capsys.readouterr().err


def test_a_command_that_fails_is_named_with_its_last_line():
    with pytest.raises(UserError, match=r"train\.py --config missing\.yaml failed: error: .*missing\.yaml"):
        comparison.run("train.py", "--config", "missing.yaml")


def test_a_command_whose_process_dies_is_named(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text("import os\nmain = None\nparse_arguments = lambda words: os._exit(9)\n")
    with pytest.raises(UserError, match=r"dies\.py .*failed: its process ended early"):
        comparison.run(str(script))


def test_a_row_has_the_mean_and_the_deviation_of_the_seeds():
    seeds = [
        {"seen": 10.0, "held_out": 20.0, "drawn": 5.0, "base": 30.0, "novel": 60.0, "trained": 1234},
        {"seen": 12.0, "held_out": 20.0, "drawn": 5.0, "base": 0.0, "novel": 0.0, "trained": 1234},
    ]
    assert tool.methods_row("A", seeds) == "| A | 11.0±1.0 | 20.0±0.0 | 5.0±0.0 | 20.0±20.0 | 1,234 |"
    assert tool.methods_row("A", seeds[:1]) == "| A | 10.0 | 20.0 | 5.0 | 40.0 | 1,234 |"
    assert tool.methods_row("probe", [{"seen": 7.0, "trained": 5}]) == "| probe | 7.0 | – | – | – | 5 |"


def test_the_pages_keep_what_is_above_their_tables(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Words.\n\n{tool.MARK}old\n")
    comparison.write_after(page, tool.MARK, f"{tool.MARK}new\n")
    assert page.read_text() == f"Words.\n\n{tool.MARK}new\n"


def test_an_unknown_method_is_named(capsys):
    with pytest.raises(SystemExit):
        tool.parse_arguments(["--only", "lstm"])
    assert "--only: invalid choice: 'lstm' (choose from" in capsys.readouterr().err


def test_the_pages_have_a_row_for_each_method():
    for table, page in (("methods", METHODS_PAGE), ("tuning", TUNING_PAGE)):
        rows = re.findall(r"^\| ([^|]+) \| [\d–]", page.split(tool.MARK)[1], re.M)
        assert rows == [
            method.title if table == "methods" else method.title.removeprefix("Text4Vis: ")
            for method in tool.METHODS.values()
            if table in method.tables
        ]


def test_each_recipe_of_the_pages_exists():
    links = re.findall(r"\]\((\.\./configs/[^)]+)\)", METHODS_PAGE)
    assert len(links) > 10
    missing = [link for link in links if not (REPO / "docs" / link).is_file()]
    assert not missing
