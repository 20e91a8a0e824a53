"""The recipes of adapters: published settings, and three steps of each on tiny weights."""

from pathlib import Path

import pytest
import torch

from modules.build import build_model, build_text, load_clip_model
from modules.build_training import build_trainer
from tests.clip.tiny import save_state
from tests.modules.tiny import NAMES, make_clips
from utils.config import load_config
from utils.context import RunContext

FOLDER = Path(__file__).parents[1] / "configs" / "tuning"
# Adapter, frames, epochs, rate, clips of a step on 8 GPUs, weight decay.
PUBLISHED = {
    "k400_st_adapter_vitb-16-f8": ("st_adapter", 8, 12, 1e-3, 256, 0.01),
    "ssv2_st_adapter_vitb-16-f8": ("st_adapter", 8, 50, 1e-3, 256, 0.01),
    "k400_aim_vitb-16-f8": ("aim", 8, 30, 3e-4, 64, 0.05),
    "k400_aim_vitl-14-f32": ("aim", 32, 30, 3e-4, 64, 0.05),
    "ssv2_aim_vitb-16-f8": ("aim", 8, 50, 3e-4, 64, 0.05),
    "diving48_aim_vitb-16-f32": ("aim", 32, 50, 3e-4, 64, 0.05),
    "ucf_vifi_clip_prompts_shot16": ("deep_prompts", 32, 50, 8e-3, 64, 0.001),
}


def test_the_table_has_every_recipe():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_settings_are_the_published_ones(name):
    cfg = load_config(FOLDER / f"{name}.yaml", purpose="train").config
    found = (cfg.network.adapter, cfg.data.num_frames, cfg.solver.epochs, cfg.solver.lr)
    assert (*found, 8 * cfg.data.batch_size, cfg.solver.weight_decay) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_steps_on_tiny_weights(tmp_path, name):
    arch = save_state(tmp_path / "clip.pt")
    smaller = [
        f"network.arch={arch}",
        "data.input_size=32",
        "data.num_segments=2",
        "data.num_classes=3",
        "pretrain=null",
    ]
    smaller += [f"logging.cache_dir={tmp_path / 'cache'}", "solver.lr_warmup_step=0"]
    cfg = load_config(FOLDER / f"{name}.yaml", smaller, purpose="train").config
    clip_model = load_clip_model(cfg)
    text = build_text(cfg, clip_model, NAMES)
    model = build_model(cfg, clip_model, NAMES, text)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trainer = build_trainer(cfg, model, text if model.classifier is None else None, RunContext())
    batch = {"frames": make_clips(frames=2), "label": torch.tensor([0, 2]), "weight": torch.ones(2)}
    for _ in range(3):  # in a chain of two projections that start at zero, the first one's input moves in the third
        model.train()
        trainer.objective(model, batch).backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    # After the last attention no patch reaches the class token: that adapter's gradient is zero, as published.
    last = "resblocks.2.st_adapter.before_mlp"
    trains = {n for n, p in model.named_parameters() if p.requires_grad and last not in n}
    assert trains == {n for n in changed if last not in n}
    assert not any(model.is_pretrained(n) and n.startswith("visual.") for n in changed)
