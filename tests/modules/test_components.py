"""The tables of components: each name leads to its class, an unknown one fails in the config, a new one is one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from clip import ClipModel
from modules.additions import TM
from modules.additions.addition import Addition
from modules.build import build_model
from modules.build_training import build_trainer
from modules.checkpoint_layout import load_video_weights
from modules.classifiers import CLASSIFIERS
from modules.classifiers.classifier import Classifier
from modules.classifiers.trained import TrainedClassifier
from modules.heads import HEADS
from modules.heads.head import Head
from modules.losses import LOSSES
from modules.losses.loss import Loss
from modules.scorers import SCORERS
from modules.scorers.scorer import Scorer
from tests.modules.tiny import clip_of, make_clips, make_config
from utils.config import dump_config, load_config
from utils.config_fields import Section, key
from utils.context import RunContext
from utils.errors import UserError
from utils.schema import Config

REPO = Path(__file__).parents[2]
TABLES = {
    "network.tm": (TM, "tsm"),
    "network.sim_header": (HEADS, "None"),
    "network.scorer": (SCORERS, "vcs"),
    "solver.loss_type": (LOSSES, "NCE"),
    "network.classifier": (CLASSIFIERS, "random"),
}


@pytest.mark.parametrize("kind", [Addition, Head, Loss, Classifier, Scorer, TrainedClassifier])
def test_every_line_names_a_class_of_its_kind(kind):
    assert kind.listed() and all(issubclass(found, kind) for found in kind.listed().values())


@pytest.mark.parametrize("key", TABLES)
def test_an_unknown_name_is_reported_with_all_other_errors(key):
    with pytest.raises(UserError) as error:
        load_config(None, [f"{key}=unheard_of", "solver.lr=-1"], "predict")
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    (line,) = [line for line in lines if key in line]
    assert "must be " in line and "not 'unheard_of'" in line
    assert all(repr(name) in line for name in TABLES[key][0])
    assert load_config(None, [f"{key}={TABLES[key][1]}"], "predict").config


def test_a_config_is_checked_without_pytorch():
    program = (
        "import sys; from utils.config import load_config; from utils.errors import UserError\n"
        "try: load_config(None, ['network.sim_header=unheard_of'], 'predict')\n"
        "except UserError as error: assert 'Transf' in str(error), error\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPO, check=True)


class LastFrame(Head):
    """A head as CONTRIBUTING.md says to add one: the last frame's embedding through a matrix."""

    class Settings(Section):
        scale: float = key(1.0, "factor of the embedding", "", gt=0)

    described = "the head of this test"
    mark = "last.weight"
    fades = ("last.weight",)

    def __init__(self, width: int, scale: float):
        super().__init__()
        self.scale = scale
        self.last = nn.Linear(width, width, bias=False)

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel) -> "LastFrame":
        return cls(clip_model.embed_dim, cls.settings(cfg).scale)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.scale * self.last(frames[:, -1].float())


def test_a_new_head_is_a_class_and_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(HEADS, "LastFrame", f"{__name__}.LastFrame")
    assert load_config(None, ["network.sim_header=LastFrame"], "predict").config.network.sim_header == "LastFrame"
    cfg = make_config(tmp_path, sim_header="LastFrame")
    model = build_model(cfg, clip_of(cfg))
    assert type(model.fusion_model) is LastFrame and not model.is_pretrained("fusion_model.last.weight")
    trainer = build_trainer(cfg, model, torch.randn(3, model.embed_dim), RunContext())
    batch = {"frames": make_clips(), "label": torch.tensor([0, 2]), "weight": torch.ones(2)}
    trainer.objective(model, batch).backward()
    assert model.fusion_model.last.weight.grad.any()
    raw = {"model_state_dict": {name: value.clone() for name, value in model.state_dict().items()}}
    load_video_weights(build_model(cfg, clip_of(cfg)), raw, "w.pt")
    for other in ("Transf", "None"):
        other_cfg = make_config(tmp_path, sim_header=other)
        with pytest.raises(UserError, match="w.pt: contains the head of this test; set network.sim_header to Last"):
            load_video_weights(build_model(other_cfg, clip_of(other_cfg)), raw, "w.pt")


def test_a_component_has_its_own_settings(tmp_path, monkeypatch):
    monkeypatch.setitem(HEADS, "LastFrame", f"{__name__}.LastFrame")
    path = tmp_path / "config.yaml"
    path.write_text("network:\n  sim_header: LastFrame\ncomponents:\n  LastFrame:\n    scale: 3.0\n")
    cfg = load_config(path, [], "predict").config
    assert LastFrame.settings(cfg).scale == 3.0
    assert LastFrame.settings(load_config(path, ["components.LastFrame.scale=4.0"], "predict").config).scale == 4.0
    assert LastFrame.settings(load_config(None, ["network.sim_header=LastFrame"], "predict").config).scale == 1.0
    (tmp_path / "saved.yaml").write_text(dump_config(cfg))
    assert load_config(tmp_path / "saved.yaml", [], "predict").config == cfg
    path.write_text(path.read_text().replace("3.0", "-1") + "    scales: 2\n  Absent: {x: 1}\n  Transf: {x: 1}\n")
    with pytest.raises(UserError) as error:
        load_config(path, ["solver.lr=-1"], "predict")
    faults = str(error.value)
    assert faults.startswith("5 errors")
    assert f"{path}:5: components.LastFrame.scale: must be greater than 0, not -1" in faults
    assert f"{path}:6: components.LastFrame.scales: unknown key of LastFrame" in faults
    assert f"{path}:7: components.Absent: no component has this name" in faults
    assert f"{path}:8: components.Transf.x: unknown key of Transf" in faults
