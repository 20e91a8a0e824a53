"""Contradictions among the keys of the text side, found before any model is built."""

import pytest

from utils.config import load_config
from utils.errors import UserError


def load(tmp_path, *overrides):
    path = tmp_path / "config.yaml"
    path.write_text("data: {train_list: t, val_list: v, label_list: l}\n")
    return load_config(path, list(overrides)).config


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (("network.classifier=lda",), "network.classifier and network.classifier_file: this classifier is read"),
        (("network.classifier=file",), "set classifier_file to its .npz file"),
        (("network.fix_text=false", "network.prompt_set=action16"), "uses one prompt per class"),
        (("network.fix_text=false", "network.classifier=random"), "set classifier to clip_text"),
        (("network.context_tokens=4", "network.classifier=orthogonal"), "a learned context replaces the prompt"),
        (("network.context_tokens=4", "network.prompt_set=x.yaml"), "prompt_set to null"),
        (("network.context_init=a video of",), "set context_tokens to its length"),
        (("network.context_per_class=true",), "set context_tokens to its length"),
        (("network.train_classifier=true", "solver.loss_type=NCE"), "need loss_type CE"),
        (("network.train_classifier=true", "network.fix_text=false"), "set fix_text to true"),
        (("network.train_classifier=true", "network.context_tokens=4"), "context_tokens to 0"),
        (("network.context_tokens=65",), "network.context_tokens: must be"),
        (("network.patch_dropout=0.5", "network.tm=tsm"), "tsm shifts a patch's channels"),
        (("data.cached_draws=1",), "set network.fix_video to true"),
        (("network.adapter=bitfit", "network.fix_video=true"), "which fix_video freezes; set fix_video to false"),
        (("network.adapter=lora", "solver.interpolated_loss=0.5"), "which an adapter freezes; set interpolated_loss"),
        (("network.head_layers=0",), "network.head_layers: must be"),
        (("solver.optim=sgd", "solver.betas=[0.9, 0.9]"), "sgd has momentum"),
        (("solver.betas=[0.9, 1.0]",), "at least 0 and below 1"),
        (("solver.loss_type=BCE",), "multi_label and solver.loss_type: lists with several labels"),
        (("solver.distill=2.0", "solver.loss_type=NCE"), "beside loss_type CE"),
    ],
)
def test_refused(tmp_path, overrides, part):
    with pytest.raises(UserError) as error:
        load(tmp_path, *overrides)
    assert part in str(error.value), error.value


@pytest.mark.parametrize(
    "overrides",
    [
        ("network.classifier=lda", "network.classifier_file=c.npz", "network.train_classifier=true"),
        ("network.fix_text=false", "solver.loss_type=DS"),
        ("network.context_tokens=4", "network.fix_text=false", "solver.loss_type=NCE"),
        ("network.classifier=random", "solver.loss_type=NCE"),  # frozen rows in place of the texts
        ("network.prompt_set=action28", "solver.loss_type=NCE"),
    ],
)
def test_accepted(tmp_path, overrides):
    load(tmp_path, *overrides)
