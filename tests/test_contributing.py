"""The examples of CONTRIBUTING.md in a copy of the repository: added, trained, loaded and reported."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from modules.losses import LOSSES
from tests.commands.world import REPO
from utils.checkpoint import load_checkpoint
from utils.config import load_config
from utils.schema import Config

PAGE = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = [code.split("\n", 1) for _, code in re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)]
LINES = {head.split()[2]: (head.split()[4].rstrip(","), text) for head, text in BLOCKS if head.startswith("# in ")}
FILES = {head.removeprefix("# "): text for head, text in BLOCKS if not head.startswith("# in ")}

# Components without an example on the page: table, its folder, new file, class.
MORE = (
    ("ADAPTERS", "modules/adapters", "ends", "Ends", """
from modules.adapters.adapter import Adapter


class Ends(Adapter):
    setting = "network.adapter: ends"
    tunes = r"^visual\\.ln_"

    @classmethod
    def add(cls, tower, cfg):
        pass
"""),
    ("SCORERS", "modules/scorers", "nearness", "Nearness", """
import torch

from modules.scorers.scorer import Scorer


class Nearness(Scorer):
    def forward(self, videos, classes, scale=100.0):
        return -scale * torch.cdist(videos.float(), classes.float())
"""),
    ("PROBES", "modules/probes", "largest", "Largest", """
from torch import nn

from modules.probes.probe import Probe


class Largest(Probe):
    def __init__(self, width, num_classes):
        super().__init__()
        self.classifier = nn.Linear(width, num_classes)

    @classmethod
    def build(cls, cfg, width, num_classes):
        return cls(width, num_classes)

    def forward(self, tokens):
        return self.classifier(tokens.amax(dim=1))
"""),
)  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the repository with the files and table lines of the page."""
    root = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not name.startswith(("docs/", "tests/golden/")) and (REPO / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, root / name)
    for name, text in FILES.items():
        (root / name).write_text(text)
    lines = {**LINES}
    for table, folder, name, kind, text in MORE:
        (root / folder / f"{name}.py").write_text(text)
        lines[table] = (f"{folder}/__init__.py", f'    "{name}": "{folder.replace("/", ".")}.{name}.{kind}",\n')
    for table, (name, text) in lines.items():
        imports, line = re.fullmatch(r"((?:from .*\n)*)(.*\n)", text).groups()
        source, count = re.subn(
            rf"^({table}\b.* = [{{\[]\n)", rf"{imports}\g<1>{line}", (root / name).read_text(), flags=re.M
        )
        assert count == 1, table
        (root / name).write_text(source)
    return root


def run(copy: Path, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=copy,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_names_existing_files():
    assert [Path(name).suffix for name in FILES].count(".py") == len(FILES) - 1
    assert list(LINES) == ["HEADS", "TM", "LOSSES", "CLASSIFIERS", "AUGMENTATIONS", "READERS", "RUN_SECTIONS"]
    assert all((REPO / name).parent.is_dir() for name in FILES)


def test_its_files_pass_the_linter(copy):
    files = [name for name in FILES if name.endswith(".py")]
    run(copy, "-m", "ruff", "check", *files)
    run(copy, "-m", "ruff", "format", "--check", *files)


def test_its_test_passes(copy):
    run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", next(name for name in FILES if name.startswith("tests/")))


def test_its_loss_takes_soft_labels(monkeypatch):
    monkeypatch.setitem(LOSSES, "focal", "modules.losses.focal.Focal")
    names = {"__name__": "modules.losses.focal"}
    exec(FILES["modules/losses/focal.py"], names)
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 4, 3])

    def loss(labels: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
        cfg = Config(components={"focal": {"gamma": gamma}})
        batch = {"frames": logits, "label": labels, "weight": torch.tensor([1.0, 1.0, 0.0, 1.0])}
        return names["Focal"](cfg, world_size=2)(lambda frames, text: frames, batch)

    soft = F.one_hot(labels, 5).float()
    torch.testing.assert_close(loss(soft), loss(labels))
    soft = 0.8 * soft + 0.04
    cross_entropy = F.cross_entropy(logits[[0, 1, 3]], soft[[0, 1, 3]], reduction="sum")
    torch.testing.assert_close(loss(soft, gamma=0.0), 2 * cross_entropy)


def test_its_components_train_and_report(copy, world, tmp_path):
    shipped = load_config(REPO / "configs/shapes/transf.yaml").config
    config = next(name for name in FILES if name.endswith(".yaml"))
    data = load_config(world.video_config).config.data
    keys = ("modality", "train_root", "train_list", "val_root", "val_list", "label_list", "num_classes")
    files = [f"data.{key}={getattr(data, key)}" for key in keys]
    for key in ("train_list", "label_list", "num_classes"):
        assert f"{key}: {getattr(shipped.data, key)}" in FILES[config]
    added = ["network.tm=echo", "solver.loss_type=focal", "components.focal.gamma=1.5", "data.decoder=whole"]
    added += ["network.classifier=letters", "components.reverse.prob=0.5", "data.mixup.mixup=0.8"]
    added += [f"network.{key}={name}" for key, (_, _, name, *_) in zip(("adapter", "scorer"), MORE)]
    small = ["data.workers=0", "data.batch_size=4", "solver.epochs=1", "logging.tensorboard=false"]
    folder = tmp_path / "run"
    out = run(copy, "train.py", "--config", config, *files, *added, *small, f"logging.run_dir={folder}")
    assert "echo, ends, sim_header AttentionPool" in out
    share = load_checkpoint(folder / "last_model.pt")["model_state_dict"]
    assert any(name.endswith("over_time.share") and value.any() for name, value in share.items())
    run(copy, "test.py", "--weights", folder / "last_model.pt", "data.workers=0")
    run(copy, "report.py", folder, "--no_frames")
    assert "Least confident predictions" in (folder / "report.html").read_text(encoding="utf-8")
    probe = ["--probes", "largest", "--epochs", "1", "--lrs", "1e-3", "--weight_decays", "0.1"]
    run(copy, "test_frozen.py", "--config", config, *files, *small[:2], *probe, "--out", tmp_path / "frozen")
    assert json.loads((tmp_path / "frozen/summary.json").read_text())["best"].keys() == {"largest"}
