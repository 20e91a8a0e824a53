"""MoTE's head: initialisation, random draws, training, and testing on other classes."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engine.plan import estimate_memory
from modules.build import build_model, build_model_and_text, load_clip_model
from modules.build_training import build_trainer
from modules.checkpoint_layout import load_video_weights
from modules.embed import VideoTable, load_table, save_table
from modules.heads.mote import TEMPERATURES, TemporalMixture
from modules.heads.transf import TemporalTransformer
from modules.scorers.modulated import Modulated
from modules.scorers.scorer import scorer_of, scorer_state
from tests.modules.tiny import NAMES, clip_of, make_clips, make_config
from utils.context import RunContext
from utils.distributed import Process
from utils.errors import UserError

CPU = torch.device("cpu")
MOTE = {"sim_header": "MoTE", "scorer": "modulated", "solver_loss_type": "mixture", "head_layers": 2}


def spread(head: TemporalMixture) -> TemporalMixture:
    """The experts apart, as training leaves them."""
    torch.manual_seed(1)
    for block in head.resblocks:
        for expert in block.experts:
            for parameter in expert.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
    return head


def test_it_starts_as_the_temporal_head_for_any_draw():
    torch.manual_seed(0)
    plain = TemporalTransformer(64, 2, num_layers=2)
    torch.manual_seed(0)
    head = TemporalMixture(64, 2, num_layers=2, num_experts=4)
    frames = torch.randn(2, 4, 64)
    for mode in (True, False):
        head.train(mode).draw(np.random.default_rng(0))
        torch.testing.assert_close(head(frames), plain(frames))
    drawn, merged, difference = head.passes(frames)
    torch.testing.assert_close(drawn, merged)
    torch.testing.assert_close(difference, (drawn - frames).square().mean(dim=(1, 2)))


def test_draws_follow_the_probabilities_of_the_experts():
    head = TemporalMixture(64, 1, num_layers=1, num_experts=3)
    generator, counts, temperatures = np.random.default_rng(0), np.zeros(3), set()
    for _ in range(3000):
        head.draw(generator)
        ((expert, temperature),) = head.drawn
        counts[expert] += 1
        temperatures.add(temperature)
    expected = torch.tensor([1.0, 2.0, 3.0]).softmax(dim=0).numpy()
    np.testing.assert_allclose(counts / 3000, expected, atol=0.03)
    assert temperatures == set(TEMPERATURES)


def test_the_draws_of_a_step_are_the_same_in_all_processes(tmp_path):
    cfg = make_config(tmp_path, **MOTE)

    def drawn(rank, seed, consumed):
        model, text = build_model_and_text(cfg, NAMES, CPU)
        context = RunContext(Process(rank, 1, 0, CPU), "fp32")
        trainer = build_trainer(cfg.model_copy(update={"seed": seed}), model, text, context)
        trainer._draw_for_step(0, consumed)
        return model.fusion_model.drawn

    steps = [drawn(0, 5, consumed) for consumed in range(4)]
    assert steps == [drawn(1, 5, consumed) for consumed in range(4)]
    assert len({str(step) for step in steps}) == 4
    assert steps != [drawn(0, 6, consumed) for consumed in range(4)]


def test_every_expert_gets_a_gradient_in_every_step(tmp_path):
    cfg = make_config(tmp_path, **MOTE)
    model, text = build_model_and_text(cfg, NAMES, CPU)
    spread(model.fusion_model)
    trainer = build_trainer(cfg, model.train(), text, RunContext(Process(0, 1, 0, CPU), "fp32"))
    batch = {"frames": make_clips(), "label": torch.tensor([0, 2]), "weight": torch.ones(2)}
    trainer.objective(model, batch).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.fusion_model.resblocks[1].experts.parameters())


def test_the_plan_counts_both_passes(tmp_path):
    model, text = build_model_and_text(make_config(tmp_path, **MOTE), NAMES, CPU)
    both = estimate_memory(model, text, 2, 4, 32, "fp32").activations
    model.fusion_model.loss = None
    assert both > 1.1 * estimate_memory(model, text, 2, 4, 32, "fp32").activations


def test_head_and_loss_name_each_other(tmp_path):
    for changes in ({"sim_header": "MoTE"}, {"solver_loss_type": "mixture"}, {**MOTE, "scorer": "xclip"}):
        cfg = make_config(tmp_path, **changes)
        model, text = build_model_and_text(cfg, NAMES, CPU)
        with pytest.raises(UserError, match="MoTE|mixture"):
            build_trainer(cfg, model, text, RunContext(Process(0, 1, 0, CPU), "fp32"))


def test_modulation_is_one_for_trained_classes_and_small_for_unlike_ones():
    trained = F.normalize(torch.randn(7, 16), dim=-1)
    scorer = Modulated(Modulated.Settings(), trained).eval()
    mean = torch.randn(4, 16)
    torch.testing.assert_close(scorer.modulation(mean, 3 * trained), torch.ones(4), atol=1e-4, rtol=0)
    assert scorer.modulation(mean, torch.randn(9, 16)).max() < 0.1


def test_trained_classes_are_in_the_checkpoint_and_the_table(tmp_path):
    """Tested on two other classes, the model compares them with the three of its training."""
    cfg = make_config(tmp_path, **MOTE)
    trained = build_model(cfg, clip_of(cfg), NAMES, 5 * torch.randn(3, clip_of(cfg).embed_dim))
    other = torch.randn(2, trained.embed_dim)
    tested = build_model(cfg, load_clip_model(cfg), ["a", "b"], other)
    load_video_weights(tested, {"model_state_dict": trained.state_dict()}, "checkpoint")
    assert torch.equal(tested.scorer.trained_text, trained.scorer.trained_text)
    assert tested.scorer.trained_text.shape[0] == 3

    tested.eval()
    with torch.no_grad():
        rows = tested.video_features(make_clips())
        torch.testing.assert_close(rows.sum(dim=1), tested.encode_video(make_clips()))
        logits = tested.scorer(rows, other)
    recipe = "network: {scorer: modulated}"
    table = VideoTable(["x", "y"], np.zeros(2, dtype=np.int64), rows[:, None].numpy(), 1.0, recipe=recipe)
    table = table._replace(scorer_state=scorer_state(tested.scorer))
    save_table(tmp_path / "table.npz", table, other.numpy(), ["a", "b"])
    loaded, text, _ = load_table(tmp_path / "table.npz")
    found = scorer_of(loaded, "table", text).table_logits(loaded.embeddings, text)
    torch.testing.assert_close(torch.from_numpy(found), logits)

    # Without modulation the trained classes are left out; new classes to train on take their place.
    plain = build_model(make_config(tmp_path, **{**MOTE, "scorer": "cosine"}), load_clip_model(cfg), ["a", "b"], other)
    load_video_weights(plain, {"model_state_dict": trained.state_dict()}, "checkpoint")
    torch.testing.assert_close(plain.encode_video(make_clips()), tested.encode_video(make_clips()))
    start = build_model(cfg, load_clip_model(cfg), ["a", "b"], other)
    load_video_weights(start, {"model_state_dict": trained.state_dict()}, "checkpoint", new_classes=True)
    torch.testing.assert_close(start.scorer.trained_text, F.normalize(other, dim=-1))


def test_a_checkpoint_of_other_sizes_names_the_key_to_set(tmp_path):
    cfg = make_config(tmp_path, **MOTE)
    text = torch.randn(3, clip_of(cfg).embed_dim)
    state = {"model_state_dict": build_model(cfg, clip_of(cfg), NAMES, text).state_dict()}
    other = make_config(tmp_path, **{**MOTE, "head_layers": 3})
    with pytest.raises(UserError, match="2 layers of 4 experts"):
        load_video_weights(build_model(other, clip_of(cfg), NAMES, text), state, "checkpoint")
    plain = make_config(tmp_path, head_layers=2)
    with pytest.raises(UserError, match="contains a temporal head of experts; set network.sim_header to MoTE"):
        load_video_weights(build_model(plain, clip_of(cfg), NAMES, text), state, "checkpoint")
