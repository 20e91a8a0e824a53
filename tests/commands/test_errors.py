"""error_messages.md: config, lists, labels. Each row has a case here, and each case a row there."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.commands.errors_page import expect, rows_of
from tests.commands.world import NUM_TRAIN, World, command

CONFIG, LISTS, LABELS = rows_of("Config"), rows_of("Lists"), rows_of("Labels")
Case = Callable[[World, Path], Sequence[object]]  # -> arguments of train.py after --config


def config_file(text: str, *words: str) -> Case:
    def arguments(world, folder):
        (folder / "mine.yaml").write_text(text)
        return ["--config", folder / "mine.yaml", *words]

    return arguments


def overrides(*words: str) -> Case:
    return lambda world, folder: list(words)


def unknown_key_in_the_file(world, folder):
    (folder / "mine.yaml").write_text("optimiser: adam\n" + world.config.read_text())
    return ["--config", folder / "mine.yaml"]


CONFIG_CASES = {
    "unknown key": overrides("data.num_clases=3"),
    "unknown key in the file": unknown_key_in_the_file,
    "wrong type": overrides("solver.epochs=many"),
    "out of range": overrides("solver.lr=-1"),
    "no such choice": overrides("solver.optim=adamm"),
    "missing config": lambda world, folder: ["--config", folder / "nowhere.yaml"],
    "contradictory keys": overrides("resume=auto", "pretrain=a.pt"),
    "not YAML": config_file("data: [1, 2\n"),
    "not text": lambda world, folder: ["--config", world.arch],
    "empty": config_file(""),
    "key given twice": config_file("seed: 1\nseed: 2\n"),
    "override without a value": overrides("solver.lr"),
    "infinite": overrides("solver.lr=.inf"),
    "dotted key in the file": config_file(
        "solver.lr: 0.1\n", "data.train_list=t", "data.val_list=v", "data.label_list=l"
    ),
    "warm-up as long as the training": overrides("solver.lr_warmup_step=1"),
    "class embeddings cannot be kept": overrides("logging.cache_dir=/proc/cache"),
    "frame embeddings cannot be kept": overrides(
        "logging.cache_dir=/proc/cache", "data.cached_draws=1", "network.fix_video=true"
    ),
    "GPU's precision on a CPU": overrides("solver.precision=fp16"),
    "linspace of a window": overrides("data.frame_rule=linspace", "data.dense=true"),
    "no such architecture": overrides("network.arch=ViT-B/99"),
}


def train_list(*lines: str | bytes, **options: str) -> Case:
    """A list of three valid lines, followed by `lines`."""

    def arguments(world, folder):
        good = "".join((world.root / "train_frames.txt").read_text().splitlines(keepends=True)[::NUM_TRAIN])
        data = [line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines]
        (folder / "list.txt").write_bytes(good.encode() + b"".join(data))
        return [f"data.train_list={folder / 'list.txt'}", *(f"data.{k}={v}" for k, v in options.items())]

    return arguments


def rewritten_list(rewrite: Callable[[str], bytes]) -> Case:
    def arguments(world, folder):
        (folder / "list.txt").write_bytes(rewrite((world.root / "train_frames.txt").read_text()))
        return [f"data.train_list={folder / 'list.txt'}"]

    return arguments


def spaces_in_paths(world, folder):
    root = folder / "my frames"
    root.mkdir()
    lines = (world.root / "train_frames.txt").read_text().splitlines()
    for line in lines:
        name = line.split()[0]
        (root / name.replace("_", " ")).symlink_to(world.root / "frames" / name)
    text = "".join(f"{' '.join(line.split()[0].split('_'))} {' '.join(line.split()[1:])}\n" for line in lines)
    (folder / "my list.txt").write_text(text)
    return [f"data.train_list={folder / 'my list.txt'}", f"data.train_root={root}"]


def frame_list_as_videos(world, folder):
    return [f"data.train_list={world.root / 'train_frames.txt'}", "data.modality=video"]


LIST_CASES = {
    "missing list": overrides("data.train_list=nowhere.txt"),
    "no list given": overrides("data.train_list=null"),
    "a folder in its place": lambda world, folder: [f"data.train_list={world.root}"],
    "empty list": rewritten_list(lambda text: b"\n\n"),
    "2 columns where 3 are needed": train_list("train_0_0 0"),
    "1 column where 3 are needed": train_list("train_0_0"),
    "3 columns where 2 are needed": frame_list_as_videos,
    "number of frames is not a number": train_list("train_0_0 nine 0"),
    "number of frames is 0": train_list("train_0_0 0 0"),
    "number of frames is 0, and the folder is empty": train_list("absent 0 0"),
    "negative number of frames": train_list("train_0_0 -1 0"),
    "label is not a number": train_list("train_0_0 9 biking"),
    "label outside 0..K-1": train_list("train_0_0 9 3"),
    "comment": train_list("# my clips"),
    "not UTF-8": train_list(b"caf\xe9 9 0\n"),
    "NUL byte": train_list("tr\0ain 9 0"),
    "absolute path": train_list("/etc 9 0"),
    "path that leaves its root": train_list("../frames/train_0_0 9 0"),
    "all entries too short": rewritten_list(lambda text: b"train_0_0 7 0\n"),
    "line ends of Windows (CRLF)": rewritten_list(lambda text: text.replace("\n", "\r\n").encode()),
    "byte order mark": rewritten_list(lambda text: b"\xef\xbb\xbf" + text.encode()),
    "spaces in paths": spaces_in_paths,
}


def labels(text: str, *words: str) -> Case:
    def arguments(world, folder):
        (folder / "names.csv").write_text(text)
        return [f"data.label_list={folder / 'names.csv'}", *words]

    return arguments


LABEL_CASES = {
    "missing label list": overrides("data.label_list=nowhere.csv"),
    "empty label list": labels(""),
    "wrong header": labels("name,id\na,0\n"),
    "gap": labels("id,name\n0,a\n2,b\n3,c\n", "data.num_classes=4"),
    "duplicate": labels("id,name\n0,a\n1,b\n1,c\n"),
    "fewer classes than K": labels("id,name\n0,a\n1,b\n"),
    "more classes than K": labels("id,name\n0,a\n1,b\n2,c\n3,d\n"),
    "two classes of one name": labels("id,name\n0,run\n1,jump\n2, Run\n"),
    "empty name": labels("id,name\n0,a\n1,\n2,c\n"),
    "comma in a name without quotes": labels("id,name\n0,a\n1,b, or c\n2,c\n"),
}


@pytest.mark.parametrize(
    ("outcome", "case"),
    [
        pytest.param(rows[name], cases.get(name), id=name)
        for rows, cases in ((CONFIG, CONFIG_CASES), (LISTS, LIST_CASES), (LABELS, LABEL_CASES))
        for name in rows
    ],
)
def test_row(world, tmp_path, capsys, outcome, case):
    inputs, run_dir = tmp_path / "inputs", tmp_path / "run"
    inputs.mkdir()
    words = case(world, inputs)
    if "--config" not in words:
        words = ["--config", world.config, f"logging.run_dir={run_dir}", *words]
    expect(outcome, capsys, run_dir, "train", *words)


def test_each_case_has_its_row():
    for rows, cases in ((CONFIG, CONFIG_CASES), (LISTS, LIST_CASES), (LABELS, LABEL_CASES)):
        assert set(rows) == set(cases)


def test_several_errors_are_reported_together(world, tmp_path):
    """In a separate process, which must not import PyTorch before."""
    words = ("solver.lr=-1", "data.num_clases=3", f"logging.run_dir={tmp_path / 'run'}")
    result = command(sys.executable, "train.py", "--config", world.config, *words)
    lines = result.stderr.splitlines()
    assert result.returncode == 2 and lines[0] == "error: 2 errors in the config:" and len(lines) == 3, lines
    assert not (tmp_path / "run").exists() and result.stdout == ""


def test_debug_shows_the_traceback(world):
    result = command(sys.executable, "train.py", "--config", "nowhere.yaml", "--debug")
    assert result.returncode == 1 and "Traceback" in result.stderr and "UserError" in result.stderr
