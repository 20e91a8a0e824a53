"""Every recipe of another publication trains: two steps on tiny weights and frames, everything else as it says."""

import math
from pathlib import Path

import pytest
import yaml

from tests.commands.world import CLASSES, REPO, call, losses

RECIPES = [path for path in sorted((REPO / "configs" / "methods").glob("*.yaml")) if "# Train:" in path.read_text()]
FRAMES = 4


def scaled_down(recipe: Path, world, run_dir: Path) -> list[str]:
    """Overrides that take the tiny world's data and model, and leave the method as it is."""
    data = yaml.safe_load(world.config.read_text())["data"]
    places = ("train_root", "val_root", "val_list", "label_list", "image_tmpl")
    found = [f"data.{name}={data[name]}" for name in places if name in data]
    return [
        *found,
        *(f"data.train_list={run_dir / 'four.txt'}", "data.modality=RGB", "data.workers=0", "data.batch_size=2"),
        *(f"data.num_classes={len(CLASSES)}", f"data.num_segments={FRAMES}", "data.input_size=32"),
        *(f"network.arch={world.arch}", "solver.epochs=1", "solver.lr_warmup_step=0", "solver.precision=fp32"),
        *("solver.grad_accumulation_steps=1", f"logging.cache_dir={run_dir / 'cache'}", "logging.tensorboard=false"),
        f"logging.run_dir={run_dir}",
        "pretrain=null",
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_two_steps(recipe, world, tmp_path):
    lines = (world.root / "train_frames.txt").read_text().splitlines(keepends=True)
    (tmp_path / "four.txt").write_text("".join(lines[::4][:4]))
    assert call("train", "--config", recipe, *scaled_down(recipe, world, tmp_path)) == 0
    found = losses(tmp_path)
    assert len(found) == 2 and all(map(math.isfinite, found))
