"""Operations of a training step: nothing is computed twice, and the fast implementations are used."""

import pytest
import torch
from torch.nn import functional as F

from modules import build_training
from modules.build import build_model
from modules.build_training import build_trainer
from tests.modules.tiny import clip_of, make_clips, make_config
from utils.context import RunContext
from utils.distributed import Process

CPU = torch.device("cpu")


def count_calls(monkeypatch, owner, name):
    calls, original = [], getattr(owner, name)

    def counted(*arguments, **named):
        calls.append(named)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize("changes", [{}, {"tm": "tokenshift"}, {"joint_st": True, "sim_header": "None"}])
def test_all_attention_is_fused(tmp_path, monkeypatch, changes):
    cfg = make_config(tmp_path, **changes)
    model = build_model(cfg, clip_of(cfg)).train()
    calls = count_calls(monkeypatch, F, "scaled_dot_product_attention")
    model.encode_video(make_clips())
    num_blocks = len(model.visual.transformer.resblocks)
    assert len(calls) == num_blocks + (0 if changes.get("joint_st") else cfg.network.head_layers)


@pytest.mark.parametrize("recompute", [False, True])
def test_blocks_are_recomputed_only_if_configured(tmp_path, recompute):
    cfg = make_config(tmp_path, solver_activation_checkpointing=recompute)
    model = build_model(cfg, clip_of(cfg)).train()
    seen = []
    for block in model.visual.transformer.resblocks:
        block.ln_1.register_forward_hook(lambda *_: seen.append(1))
    model.encode_video(make_clips()).sum().backward()
    assert len(seen) == (1 + recompute) * len(model.visual.transformer.resblocks)


def test_the_optimiser_is_one_kernel_and_ddp_sends_from_its_buckets(tmp_path, monkeypatch):
    cfg = make_config(tmp_path)
    model = build_model(cfg, clip_of(cfg))
    wrapped = []
    monkeypatch.setattr(build_training, "DistributedDataParallel", lambda m, **named: wrapped.append(named) or m)
    text = torch.randn(3, model.embed_dim)
    trainer = build_trainer(cfg, model, text, RunContext(Process(0, 2, 0, CPU)))
    assert all(group["fused"] for group in trainer.optimizer.param_groups)
    assert wrapped[0]["gradient_as_bucket_view"] and wrapped[0]["static_graph"]
