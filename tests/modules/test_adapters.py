"""Adapters start as the pretrained model on a tower of each family, and only their parameters are trained."""

import copy
import re

import pytest
import torch

from modules.adapters import ADAPTERS
from modules.adapters.adapter import Adapter
from modules.adapters.lora import Lora
from modules.adapters.st_adapter import SpatioTemporalAdapter
from modules.build import build_model
from modules.build_training import compile_model
from modules.tower_blocks import ImageTower
from tests.clip.tiny import VIT
from tests.modules.tiny import NAMES, clip_of, make_clips, make_config
from tests.modules.tiny_towers import TOWERS, tiny_tower, with_tower
from utils.errors import UserError

SETTINGS = {
    "st_adapter": {"width": 6},
    "aim": {},
    "deep_prompts": {"tokens": 3, "visual_depth": 2, "text_depth": 0},
    "lora": {"rank": 2},
    "bitfit": {},
}


def config(folder, adapter, settings=None, **changes):
    cfg = make_config(folder, adapter=adapter, sim_header="None", **changes)
    own = SETTINGS[adapter] | (settings or {}) if adapter else {}
    return cfg.model_copy(update={"components": {adapter: own} if own else {}})


def built(folder, adapter, tower=None, settings=None, **changes):
    cfg = config(folder, adapter, settings, **changes)
    clip_model = clip_of(cfg)
    return build_model(cfg, with_tower(clip_model, tower) if tower else clip_model, NAMES).eval()


def embed(model, clips=None):
    with torch.no_grad():
        return model.encode_frames(make_clips() if clips is None else clips)


def moved(model):
    """The model with every parameter that trains away from its start."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.ndim:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("adapter", sorted(set(ADAPTERS) - {"deep_prompts"}))
@pytest.mark.parametrize("tower", TOWERS)
def test_it_starts_as_the_pretrained_model(tmp_path, tower, adapter):
    plain, model = built(tmp_path, None, tower), built(tmp_path, adapter, tower)
    torch.testing.assert_close(embed(model), embed(plain), rtol=1e-5, atol=1e-5)
    own = plain.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items() if name in own)
    assert set(own) <= set(model.state_dict())
    assert not torch.allclose(embed(moved(model)), embed(plain), atol=1e-3)


@pytest.mark.parametrize("tower", TOWERS)
def test_learned_tokens_are_attended_to_and_not_pooled(tmp_path, tower):
    """They start at random, as published: not as CLIP."""
    plain, model = built(tmp_path, None, tower), built(tmp_path, "deep_prompts", tower)
    assert embed(model).shape == embed(plain).shape
    assert not torch.allclose(embed(model), embed(plain), atol=1e-6)
    prompts = model.visual.deep_prompts
    x = torch.randn(2, 17, 32)
    assert torch.equal(prompts.drop(prompts.replace(1, prompts.append(x))), x)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("tower", ["CLIP", "SigLIP", "EVA-02"])
def test_only_the_adapter_trains(tmp_path, tower, adapter):
    """Every trained parameter has a gradient, which DDP requires, also with checkpointing."""
    gradients = []
    for checkpointing in (False, True):
        model = moved(built(tmp_path, adapter, tower, solver_activation_checkpointing=checkpointing)).train()
        model(make_clips(), torch.ones(3, model.embed_dim)).sum().backward()
        trains = {name for name, p in model.visual.named_parameters() if p.requires_grad}
        assert trains and model.tower_trains
        assert {name for name, p in model.visual.named_parameters() if p.grad is not None} == trains
        if adapter == "bitfit":
            assert all("norm" in name or "ln_" in name or name.endswith("bias") for name in trains)
            assert all(model.is_pretrained(f"visual.{name}") for name in trains)
        else:
            names = {name for name, _ in model.visual.named_parameters()}
            added = {name for name in names if not model.is_pretrained(f"visual.{name}")}
            last_norm = {name for name in names if adapter == "aim" and re.match(r"(ln_post|trunk\.norm)\.", name)}
            assert trains == added | last_norm and (len(last_norm) == 2 or adapter != "aim")
        gradients.append({name: p.grad for name, p in model.visual.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_nothing_of_clip_trains_in_a_frozen_tower(tmp_path, adapter):
    model = built(tmp_path, adapter, fix_video=True)
    names = {n for n, p in model.visual.named_parameters() if p.requires_grad}
    assert all(not model.is_pretrained(f"visual.{n}") for n in names) and bool(names) == (adapter != "bitfit")


@pytest.mark.parametrize("adapter", ["st_adapter", "aim"])
def test_frames_of_one_clip_meet_and_clips_do_not(tmp_path, adapter):
    model = moved(built(tmp_path, adapter))
    clips = make_clips()
    changed = clips.clone()
    changed[0, 1] = 255 - changed[0, 1]
    differs = (embed(model, clips) - embed(model, changed)).abs().amax(-1) > 1e-5
    assert differs[0].all() and not differs[1].any()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_half_precision_is_close_to_float32(tmp_path, adapter):
    model = moved(built(tmp_path, adapter, tower="PE-Core"))
    expected = embed(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = embed(model).float()
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.parametrize("tower", TOWERS)
def test_lora_merges_into_clips_own_weights(tmp_path, tower):
    plain, model = built(tmp_path, None, tower), moved(built(tmp_path, "lora", tower))
    expected = embed(model)
    assert not torch.allclose(expected, embed(plain), atol=1e-3)
    Lora.merge(copy.deepcopy(model).visual)  # leaves the original alone
    torch.testing.assert_close(embed(model), expected)
    Lora.merge(model.visual)
    assert set(model.state_dict()) == set(plain.state_dict())
    torch.testing.assert_close(embed(model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tower", "adapter"), [("CLIP", "lora"), *(("PE-Core", adapter) for adapter in ADAPTERS)])
def test_the_tower_is_traced_as_one_graph(tmp_path, tower, adapter):
    """As `solver.compile` and export.py trace it."""
    model = moved(built(tmp_path, adapter, tower))
    expected = embed(model)
    model.visual.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(embed(model), expected, rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize("adapter", [None, *ADAPTERS])
def test_blocks_share_their_compiled_code(tmp_path, adapter, monkeypatch):
    """The first may have code of its own, where its input has no gradient, or no learned tokens to replace."""
    graphs = []
    compile_module = torch.nn.Module.compile

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_module(module, backend=count))
    torch.compiler.reset()
    model = moved(built(tmp_path, adapter, vision=VIT | {"layers": 5})).train()
    names, clips = set(model.state_dict()), make_clips()
    compile_model(model, torch.device("cpu"))
    model.fusion_model.forward = lambda frames: frames.mean(dim=1)  # is not what is counted
    for _ in range(2):
        model(clips, torch.ones(3, model.embed_dim)).sum().backward()
    torch.compiler.reset()
    assert set(model.state_dict()) == names
    # PyTorch 2.7 compiles each block whose hooks are methods of a module of its own: slower, but correct.
    shares = torch.__version__ >= "2.8" or adapter not in ("aim", "lora")
    assert 1 <= len(graphs) <= (3 + (adapter == "deep_prompts") if shares else 6)


def test_parts_of_lora(tmp_path):
    model = built(tmp_path, "lora", settings={"parts": ["query", "out"]})
    block = model.visual.transformer.resblocks[0]
    assert set(block.lora.changes) == {"query", "out"}
    moved(model)
    before = block.attn.in_proj_weight.clone()
    Lora.merge(model.visual)
    differs = (block.attn.in_proj_weight != before).any(dim=1)
    assert differs[:64].all() and not differs[64:].any()


def test_places_and_depth_of_st_adapter(tmp_path):
    model = built(tmp_path, "st_adapter", settings={"last": 2, "places": ["before_mlp"]})
    names = {name.split(".st_adapter.")[0][-1] for name, _ in model.visual.named_parameters() if ".st_adapter." in name}
    assert names == {"1", "2"}
    with pytest.raises(UserError, match="kernel: must be three odd numbers, such as"):
        built(tmp_path, "st_adapter", settings={"kernel": [2, 1, 1]})


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_the_convolution_over_time_is_pytorchs(kernel):
    tower = ImageTower(tiny_tower("CLIP"))
    module = moved(SpatioTemporalAdapter(tower, 6, [kernel, 1, 1]).double())
    hidden = torch.randn(2, 3, 16, 6, dtype=torch.double, requires_grad=True)
    found, expected = module._convolve(hidden), module.conv(hidden.permute(0, 3, 1, 2)[..., None])
    expected = expected[..., 0].permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected)
    wanted, weights = [hidden, *module.conv.parameters()], torch.randn_like(expected)
    gradients = (torch.autograd.grad((out * weights).sum(), wanted) for out in (found, expected))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("adapter", ["st_adapter", "aim"])
def test_settings_without_a_patch_grid_are_refused(tmp_path, adapter):
    for changes in ({"joint_st": True}, {"patch_dropout": 0.5}):
        with pytest.raises(
            UserError, match=f"network.adapter: {adapter}: cannot be combined with network.{next(iter(changes))}"
        ):
            built(tmp_path, adapter, **changes)


def test_stochastic_depth_of_aim(tmp_path):
    """Of what is new, in training, and the more the later the block: CLIP's own branches always count."""
    model = moved(built(tmp_path, "aim", settings={"drop_path": 0.6}))
    plain, blocks = embed(model), model.visual.transformer.resblocks
    assert [block.aim.drop_path.drop_prob for block in blocks] == pytest.approx([0, 0.3, 0.6])
    assert all(isinstance(block.drop_path, torch.nn.Identity) for block in blocks)
    assert not torch.allclose(embed(model.train()), plain, atol=1e-4)
    torch.testing.assert_close(embed(model.eval()), plain)


def test_a_time_embedding_for_other_frames_is_an_error(tmp_path):
    with pytest.raises(UserError, match="aim: the time embedding has 4 frames, but the clips have 5"):
        embed(built(tmp_path, "aim"), make_clips(frames=5))


def test_learned_tokens_of_the_text_tower(tmp_path):
    model = built(tmp_path, "deep_prompts", settings={"text_depth": 2}).train()
    classifier = model.classifier
    assert classifier.prompts.shape == (2, 3, 64) and not any(p.requires_grad for p in model.text.parameters())
    whole = model.class_embeddings()
    torch.testing.assert_close(model.class_embeddings(torch.tensor([2, 0])), whole[[2, 0]])
    whole.square().sum().backward()
    assert all(classifier.prompts.grad[depth].abs().sum() > 0 for depth in range(2))
    with torch.no_grad():
        classifier.prompts[1] += torch.randn(3, 64)
    cfg = config(tmp_path, "deep_prompts", {"text_depth": 2})
    others = classifier.of_classes(cfg, clip_of(cfg), NAMES[::-1])
    assert not torch.allclose(model.class_embeddings(), whole, atol=1e-4)  # each depth counts
    torch.testing.assert_close(others(model.text), model.class_embeddings().flip(0))


def test_learned_tokens_exclude_other_training_of_the_text_tower(tmp_path):
    with pytest.raises(UserError, match="needs a single prompt and a frozen text tower"):
        built(tmp_path, "deep_prompts", settings={"text_depth": 2}, fix_text=False)


def test_every_adapter_implements_the_interface():
    assert all(issubclass(found, Adapter) for found in Adapter.listed().values())
