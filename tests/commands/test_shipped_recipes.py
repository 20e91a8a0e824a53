"""Every shipped recipe trains for two steps on tiny weights and frames, with everything else unchanged."""

import math
from pathlib import Path

import pytest
import yaml

from tests.commands.world import CLASSES, REPO, call, losses
from utils.config import load_config

CONFIGS = REPO / "configs"
RECIPES = [path for path in sorted(CONFIGS.glob("*/*.yaml")) if "# Train:" in path.read_text()]
FRAMES = 4


def scaled_down(recipe: Path, world, folder: Path) -> list[str]:
    """Overrides for the tiny data and model, which do not change the method."""
    data = yaml.safe_load(world.config.read_text())["data"]
    found = [
        *(f"data.{name}={data[name]}" for name in ("train_root", "val_root", "label_list")),
        "data.image_tmpl=img_{:05d}.jpg",
        *(f"data.train_list={folder / 'four.txt'}", f"data.val_list={folder / 'four.txt'}", "data.modality=RGB"),
        *("data.dataset=tiny", "data.workers=0", "data.batch_size=2", f"data.num_classes={len(CLASSES)}"),
        *(f"data.num_segments={FRAMES}", "data.input_size=32", f"network.arch={world.arch}", "network.head_layers=1"),
        *("solver.epochs=1", "solver.lr_warmup_step=0", "solver.precision=fp32", "solver.grad_accumulation_steps=1"),
        *(f"logging.cache_dir={folder / 'cache'}", "logging.tensorboard=false", "logging.eval_freq=1", "pretrain=null"),
    ]
    sets = yaml.safe_load(recipe.read_text())["data"].get("sets")
    if sets is None:
        return found
    one = {name: data[name] for name in ("train_root", "label_list")}
    one |= {"train_list": str(folder / "two.txt"), "val_root": data["train_root"], "val_list": str(folder / "two.txt")}
    found = [word for word in found if word.split("=")[0].split(".")[-1] not in (*one, "num_classes")]
    return [*found, "data.sets=" + yaml.safe_dump([{**each, **one} for each in sets], default_flow_style=True)]


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """A folder with lists of a few clips, and of the runs so far."""
    found = tmp_path_factory.mktemp("recipes")
    lines = (world.root / "train_frames.txt").read_text().splitlines(keepends=True)
    (found / "four.txt").write_text("".join(lines[::4][:4]))
    (found / "two.txt").write_text("".join(lines[:2]))
    return found


@pytest.fixture(scope="module")
def runs():
    """Losses of a run by its config, since recipes of several sizes are the same after scaling down."""
    return {}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_two_steps(recipe, world, folder, runs):
    words = scaled_down(recipe, world, folder)
    config = load_config(recipe, words, purpose="train").config.model_dump_json()
    if config not in runs:
        run_dir = folder / recipe.stem
        assert call("train", "--config", recipe, *words, f"logging.run_dir={run_dir}") == 0
        runs[config] = losses(run_dir)
    assert len(runs[config]) == 2 and all(map(math.isfinite, runs[config]))
