"""The recipes of adapters have the published settings and scores."""

from pathlib import Path

import pytest

from utils.config import load_config

FOLDER = Path(__file__).parents[1] / "configs" / "tuning"
ST_ADAPTER = {"width": 384, "kernel": [3, 1, 1]}
AIM = {"ratio": 0.25, "mlp_scale": 0.5, "drop_path": 0.2}
PROMPTS = {"tokens": 10, "visual_depth": 12, "text_depth": 12}
BEFORE_MLP, BOTH = {"places": ["before_mlp"]}, {"places": ["before_attn", "before_mlp"]}
OF_SSV2 = {"mlp_scale": 0.7, "two_temporal": True}
BETAS = [0.9, 0.98]  # of ViFi-CLIP; the others have the defaults of the optimiser
# Adapter, settings, score, tower, frames, epochs, warm-up epochs, learning rate, clips per step on 8 GPUs, weight
# decay, betas.
# fmt: off
PUBLISHED = {
    "k400_st_adapter_vitb-16-f8":
        ("st_adapter", ST_ADAPTER | BEFORE_MLP, "82.2", "ViT-B/16", 8, 12, 2, 1e-3, 256, 0.01, None),
    "ssv2_st_adapter_vitb-16-f8":
        ("st_adapter", ST_ADAPTER | BOTH, "66.9", "ViT-B/16", 8, 50, 2, 1e-3, 256, 0.01, None),
    "k400_aim_vitb-16-f8": ("aim", AIM, "83.9", "ViT-B/16", 8, 30, 2.5, 3e-4, 64, 0.05, None),
    "k400_aim_vitl-14-f32": ("aim", AIM, "87.5", "ViT-L/14", 32, 30, 2.5, 3e-4, 64, 0.05, None),
    "ssv2_aim_vitb-16-f8": ("aim", AIM | OF_SSV2, "66.4", "ViT-B/16", 8, 50, 2.5, 3e-4, 64, 0.05, None),
    "diving48_aim_vitb-16-f32": ("aim", AIM, "88.9", "ViT-B/16", 32, 50, 2.5, 3e-4, 64, 0.05, None),
    "ucf_vifi_clip_prompts_shot16":
        ("deep_prompts", PROMPTS, "96.4", "ViT-B/16", 32, 50, 5, 8e-3, 64, 0.001, BETAS),
}
# fmt: on


def test_the_table_has_every_recipe():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_settings_are_the_published_ones(name):
    adapter, settings, score, *others = PUBLISHED[name]
    cfg = load_config(FOLDER / f"{name}.yaml", purpose="train").config
    network, data, solver = cfg.network, cfg.data, cfg.solver
    assert (network.adapter, cfg.components) == (adapter, {adapter: settings})
    found = [network.arch, data.num_frames, solver.epochs, solver.lr_warmup_step, solver.lr, 8 * data.batch_size]
    assert [*found, solver.weight_decay, solver.betas] == others
    assert f"# Score: published {score} % top-1" in (FOLDER / f"{name}.yaml").read_text()
