"""`data.sets` in train.py: the recipe, two processes, and resuming within an epoch."""

import json
import shutil

import pytest
import yaml

from tests.commands.world import CLASSES, call, command, losses, records

RECIPE = "configs/several/k400_ssv2_vitb-16-f8.yaml"


@pytest.fixture(scope="module")
def options(world, tmp_path_factory):
    """Two sets: the world's list, and its last and first class, the latter under another name."""
    folder = tmp_path_factory.mktemp("sets")
    (folder / "labels.csv").write_text(f"id,name\n0,{CLASSES[2].upper()}\n1,juggling\n")
    for split in ("train", "val"):
        lines = (world.root / f"{split}_frames.txt").read_text().splitlines()
        chosen = [line[:-1] + {"2": "0", "0": "1"}[line[-1]] for line in lines if line[-1] != "1"]
        (folder / f"{split}_frames.txt").write_text("\n".join(chosen))
    frames = str(world.root / "frames")
    sets = [
        {"name": name, "weight": weight, "train_root": frames, "val_root": frames}
        | {f"{split}_list": str(root / f"{split}_frames.txt") for split in ("train", "val")}
        | {"label_list": str(root / "labels.csv")}
        for name, root, weight in (("one", world.root, 2.0), ("two", folder, 1.0))
    ]
    text = yaml.safe_dump(sets, default_flow_style=True, width=10**6).strip()
    return [
        f"data.sets={text}", f"network.arch={world.arch}", "data.input_size=32", "data.num_segments=4",
        "data.workers=0", "network.head_layers=1", "logging.tensorboard=false", "solver.epochs=1",
        "solver.lr_warmup_step=0", f"logging.cache_dir={world.root / 'cache'}",
    ]  # fmt: skip


def test_the_recipe_trains(options, tmp_path, capsys):
    run = [*options, f"logging.run_dir={tmp_path}", "data.batch_size=13"]
    assert call("train", "--config", RECIPE, *run, "--check") == 0
    assert "sets        17 of 15 one videos, 8 of 10 two videos" in capsys.readouterr().out
    assert call("train", "--config", RECIPE, *run) == 0
    assert len(losses(tmp_path)) == 2
    (scores,) = [record for record in records(tmp_path) if record["kind"] == "val"]
    assert scores["num_videos"] == 15 and scores["one_num_videos"] == 9 and scores["two_num_videos"] == 6
    assert scores["top1"] == pytest.approx((scores["one_top1"] + scores["two_top1"]) / 2)
    assert "epoch 1 validation: two: top-1" in capsys.readouterr().out
    # A set is tested with its own lists and classes.
    two = yaml.safe_load(options[0].removeprefix("data.sets="))[1]
    lists = [f"data.{key}={two[key]}" for key in ("val_root", "val_list", "label_list")]
    assert call("report", tmp_path) == 2
    one = yaml.safe_load(options[0].removeprefix("data.sets="))[0]
    command_of_first = f"data.val_root={one['val_root']} data.val_list={one['val_list']} data.label_list="
    error = capsys.readouterr().err
    assert command_of_first in error and "data.num_classes=3" in error
    assert call("test", "--config", tmp_path / "config.yaml", "--weights", tmp_path / "last_model.pt") == 2
    assert capsys.readouterr().err.endswith(
        "data.sets and data.val_list and data.label_list: the config has several data sets (one, two); choose one by "
        "data.val_root=, data.val_list=, data.label_list= and data.num_classes=\n"
    )
    test = ("--weights", tmp_path / "last_model.pt", *lists, "data.num_classes=2", "--out", tmp_path / "test")
    assert call("test", *test) == 0
    tested = json.loads((tmp_path / "test" / "summary.json").read_text())
    assert tested["num_videos"] == 6 and tested["top1"] == pytest.approx(scores["two_top1"])


def test_two_processes_and_resuming_train_like_one(options, tmp_path, capsys):
    joined = [*options, "data.label_space=joined"]
    one = [*joined, "data.batch_size=6", "solver.save_every=2", "solver.keep_last=4"]
    assert call("train", "--config", RECIPE, *one, f"logging.run_dir={tmp_path / 'one'}") == 0
    expected = losses(tmp_path / "one")
    assert len(expected) == 5
    two = ["sh", "scripts/run_train.sh", RECIPE, *joined, "data.batch_size=3", f"logging.run_dir={tmp_path / 'two'}"]
    found = command(*two, NPROC="2")
    assert found.returncode == 0, found.stderr
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-4, abs=1e-5)
    # Saves came after steps 2, 4 and 5.
    (tmp_path / "again").mkdir()
    shutil.copy(tmp_path / "one" / "last_model.2.pt", tmp_path / "again" / "last_model.pt")
    assert call("train", "--config", RECIPE, *one, f"logging.run_dir={tmp_path / 'again'}", "resume=auto") == 0
    assert losses(tmp_path / "again") == expected[2:]
    # The weights of the sets change the epochs, and the classes the loss.
    for old, new, message in (
        ("weight: 2.0", "weight: 3.0", "were one 2.0, two 1.0 in its run and are one 3.0, two 1.0 now"),
        ("label_space=joined", "label_space=apart", "data.label_space was joined in its run and is apart now"),
    ):
        other = [option.replace(old, new) for option in one]
        assert call("train", "--config", RECIPE, *other, f"logging.run_dir={tmp_path / 'again'}", "resume=auto") == 2
        assert message in capsys.readouterr().err
