"""error_messages.md: errors that `train.py --check` finds. It leaves no files."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commands.errors_page import expect, rows_of, tree
from tests.commands.world import call

CHECKS = rows_of("Checks before a run")


class Place(NamedTuple):
    """A run folder (of the world's config), a list of 54 lines of the same clips, and a folder for new files."""

    run: Path
    list: Path
    folder: Path


@pytest.fixture
def place(world, weights, tmp_path):
    lines = (world.root / "train_frames.txt").read_text().splitlines(keepends=True)
    (tmp_path / "list.txt").write_text("".join((lines * 4)[:54]))
    return Place(weights.parent, tmp_path / "list.txt", tmp_path)


def missing(*numbers: int) -> Callable[[Place], list[str]]:
    """Let the lines of these numbers name missing folders. 16 of 54 clips, evenly spaced, are decoded."""

    def damage(place: Place) -> list[str]:
        lines = place.list.read_text().splitlines(keepends=True)
        for number in numbers:
            lines[number - 1] = f"bad{number} 9 0\n"
        place.list.write_text("".join(lines))
        return [f"data.train_list={place.list}"]

    return damage


def a_file(place: Place) -> list[str]:
    (place.folder / "file").touch()
    return [f"logging.run_dir={place.folder / 'file'}"]


def own_checkpoint(place: Place) -> list[str]:
    shutil.copytree(place.run, place.folder / "own")
    return [f"logging.run_dir={place.folder / 'own'}", "resume=auto"]


def checkpoint(path: str) -> Callable[[Place], list[str]]:
    return lambda place: [f"resume={place.run / path}", f"logging.run_dir={place.folder / 'new'}"]


CASES: dict[str, Callable[[Place], list[str]]] = {
    "a clip is missing": missing(3),
    "clips are missing": missing(3, 6),
    "fewer than data.on_error=skip allows": lambda place: [
        *missing(3)(place), "data.on_error=skip", "data.max_skipped_share=0.1",
    ],
    "more than it allows": lambda place: [*missing(3)(place), "data.on_error=skip", "data.max_skipped_share=0.01"],
    "no checkpoint to resume": checkpoint("nowhere.pt"),
    "a checkpoint of another model": lambda place: [*checkpoint("last_model.pt")(place), "network.sim_header=None"],
    "a run that can go on": own_checkpoint,
    "run folder not writable": lambda place: ["logging.run_dir=/proc/foo"],
    "a file as run folder": a_file,
}  # fmt: skip


@pytest.mark.parametrize("name", list(CHECKS))
def test_checks(world, place, capsys, name):
    if name == "run folder not writable" and sys.platform != "linux":
        pytest.skip("there is no /proc")
    words = CASES[name](place)
    before = tree(place.folder)
    expect(CHECKS[name], capsys, place.folder, "train", "--config", world.config, "--check", *words)
    assert tree(place.folder) == before


def test_each_case_has_its_row():
    assert set(CHECKS) == set(CASES)


def test_checked_and_missing_files_are_reported(world, place, capsys):
    words = ["data.on_error=skip", "data.max_skipped_share=0.1", *missing(3)(place)]
    assert call("train", "--config", world.config, "--check", *words) == 0
    out = capsys.readouterr().out
    # 15 clips, each several times in the list, of which one is missing; 9 to validate on, all of which are decoded.
    assert "check passed: config, lists, labels, weights and run folder fit; 24 clips of the lists found, 25" in out
    warnings = [line for line in out.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2 and "listed more than once" in warnings[0]
    assert "bad3" in warnings[1] and "list.txt:3" in warnings[1]


def test_paths_of_windows_are_explained(world, place, capsys):
    text = place.list.read_text()
    place.list.write_text(text.replace("train_0_0", r"videos\train_0_0"))
    assert call("train", "--config", world.config, "--check", f"data.train_list={place.list}") == 2
    assert r"train_0_0 (listed at" in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert "no such folder (list paths are separated by /, not by backslashes)" in error
