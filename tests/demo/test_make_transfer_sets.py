"""demo/make_transfer_sets.py: held-out test sets and halves share no class with the training data."""

import pytest

from datasets.lists import read_labels
from demo import make_shapes_world, make_transfer_sets
from demo.make_transfer_sets import BASE_CLASSES, COLOURED_CLASSES, DRAWN_CLASSES, NOVEL_CLASSES
from demo.shapes_world import HELD_OUT_CLASSES, MOTIONS, SEEN_CLASSES, SHAPES
from tests.demo.test_shapes_world_cli import contents
from tests.reading import read_frame_list
from tests.tools.loading import run_tool

SMALL = ("--coloured_per_class", "1", "--drawn_per_class", "1")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """(WORLD, OUT), one clip of each class of each split."""
    root = tmp_path_factory.mktemp("transfer")
    splits = [f"--{split}_per_class=1" for split in ("train", "val", "heldout")]
    assert run_tool(make_shapes_world, str(root / "world"), *splits, "--workers", "1") == 0
    assert run_tool(make_transfer_sets, str(root / "world"), str(root / "sets"), *SMALL) == 0
    return root / "world", root / "sets"


def test_the_coloured_combinations_are_of_held_out_pairs():
    assert len({one.name for one in COLOURED_CLASSES}) == 24
    assert {one.pair for one in COLOURED_CLASSES} == set(HELD_OUT_CLASSES)
    assert {"an orange square moving left", "an orange square moving right"} <= {one.name for one in COLOURED_CLASSES}
    for left, right in zip(MOTIONS[:6:2], MOTIONS[1:6:2]):  # colour does not tell opposite motions apart
        colours = [{one.colour for one in COLOURED_CLASSES if one.pair.motion == motion} for motion in (left, right)]
        assert colours[0] == colours[1] and len(colours[0]) == 3


def test_base_and_novel_share_shapes_and_motions_but_no_class():
    assert sorted(BASE_CLASSES + NOVEL_CLASSES) == sorted(SEEN_CLASSES) and abs(len(BASE_CLASSES) - 16) <= 1
    for half in (BASE_CLASSES, NOVEL_CLASSES):
        assert {one.shape for one in half} == set(SHAPES) and {one.motion for one in half} == set(MOTIONS)
        for first, second in zip(MOTIONS[:6:2], MOTIONS[1:6:2]):  # opposite motions: the order of frames is asked for
            assert {one.shape for one in half if one.motion == first} == {o.shape for o in half if o.motion == second}


def test_lists_match_the_files(sets):
    world, out = sets
    for name, classes, root in (
        *(("coloured", COLOURED_CLASSES, out), ("drawn", DRAWN_CLASSES, out)),
        *(("base_train", BASE_CLASSES, world), ("base_val", BASE_CLASSES, world), ("novel_val", NOVEL_CLASSES, world)),
    ):
        names = read_labels(out / "lists" / f"{name.split('_')[0]}_labels.csv", len(classes))
        assert names == [one.name for one in classes]
        entries = read_frame_list(out / "lists" / f"{name}.txt", len(classes))
        assert [entry.label for entry in entries] == list(range(len(classes)))
        for entry in entries:
            assert len(list((root / "frames" / entry.path).iterdir())) == entry.num_frames
            pair = getattr(classes[entry.label], "pair", classes[entry.label])
            assert pair.name.split(" ", 1)[1].replace(" ", "_") in entry.path


def test_a_seed_gives_the_same_files_and_a_complete_folder_is_kept(sets, tmp_path):
    world, out = sets
    before = contents(out)
    assert run_tool(make_transfer_sets, str(world), str(tmp_path / "again"), *SMALL) == 0
    assert contents(tmp_path / "again") == before
    stamp = (out / "transfer.json").stat().st_mtime_ns
    assert run_tool(make_transfer_sets, str(world), str(out), *SMALL) == 0
    assert (out / "transfer.json").stat().st_mtime_ns == stamp


def test_mistakes_are_named(sets, tmp_path, capsys):
    world, _ = sets
    assert run_tool(make_transfer_sets, str(tmp_path), str(tmp_path / "out")) == 2
    assert "render it: python -m demo.make_shapes_world" in capsys.readouterr().err
    assert run_tool(make_transfer_sets, str(world), str(world)) == 2
    assert "was not made by this command" in capsys.readouterr().err and (world / "frames").exists()
    assert run_tool(make_transfer_sets, str(world), str(tmp_path / "out"), "--drawn_per_class", "0") == 2
    assert "--drawn_per_class 0: must be at least 1" in capsys.readouterr().err
