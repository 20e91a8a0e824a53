"""Access to the blocks of an image tower of any library does not change its outputs unless something is added."""

import pytest
import torch

from modules.tower_blocks import EVA, POOLED_VIT, RESNET, TIMM_VIT, VIT, ImageTower, TowerBlock, tower_blocks
from tests.clip.tiny import RESNET as RESNET_SIZES
from tests.clip.tiny import make_clip
from tests.modules.tiny_towers import DEPTH, DIM, SIZE, TOWERS, WIDTH, tiny_tower

FACTS = {  # kind, prefix tokens, whether there is a class token
    "CLIP": (VIT, 1, True),
    "CLIP with layer scale": (VIT, 1, True),
    "CLIPA": (POOLED_VIT, 1, True),
    "CoCa": (POOLED_VIT, 1, True),
    "SigLIP": (TIMM_VIT, 0, False),
    "DFN": (TIMM_VIT, 1, True),
    "registers": (TIMM_VIT, 3, True),
    "PE-Core": (EVA, 1, True),
    "PE-Core G": (EVA, 0, False),
    "EVA-02": (EVA, 1, True),
    "EVA-02-E": (EVA, 1, True),
}


def images(seed: int = 1) -> torch.Tensor:
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_computes_and_is_named_the_same(name):
    visual = tiny_tower(name)
    names = {key: value.clone() for key, value in visual.state_dict().items()}
    expected = visual(images())
    tower = ImageTower(visual)
    assert (tower.kind, tower.num_prefix_tokens, tower.has_class_token) == FACTS[name]
    assert (tower.width, tower.grid, expected.shape) == (WIDTH, (4, 4), (3, DIM))
    assert len(tower.blocks) == DEPTH and all(isinstance(block, TowerBlock) for block in tower.blocks)
    assert tower.visual is visual and ImageTower(visual).blocks == tower.blocks  # taken over once
    torch.testing.assert_close(visual(images()), expected)
    state = visual.state_dict()
    assert set(state) == set(names) and all(torch.equal(state[key], value) for key, value in names.items())


@pytest.mark.parametrize("name", TOWERS)
def test_hooks_at_each_place_get_all_tokens(name):
    visual = tiny_tower(name)
    expected = visual(images())
    tower, seen = ImageTower(visual), []

    def note(place):
        return lambda x: (seen.append((place, tuple(x.shape))), x)[1]

    tower.before_norm_pre(note("embeddings"))
    block = tower.blocks[1]
    for place in ("before_attention", "after_attention", "before_mlp", "after_mlp"):
        getattr(block, place).append(note(place))
    block.beside_mlp.append(lambda z: note("beside_mlp")(torch.zeros_like(z)))
    torch.testing.assert_close(visual(images()), expected)
    shape = (3, tower.num_prefix_tokens + 16, WIDTH)
    assert tower.patches == slice(tower.num_prefix_tokens, shape[1])
    places = ("embeddings", "before_attention", "after_attention", "before_mlp", "beside_mlp", "after_mlp")
    assert seen == [(place, shape) for place in places]
    for place in places[1:]:
        getattr(block, place)[:] = [torch.cos]
        assert not torch.allclose(visual(images()), expected, atol=1e-4)
        getattr(block, place).clear()


@pytest.mark.parametrize("name", TOWERS)
def test_tokens_after_the_patches_are_attended_to(name):
    """Also where positions are rotary, of which there are as many as patches."""
    visual = tiny_tower(name)
    expected = visual(images())
    blocks = ImageTower(visual).blocks
    seen = []

    def drop(x):
        seen.append(x.shape[1])
        return x[:, :-1]

    blocks[0].before_attention.append(lambda x: torch.cat([x, x[:, :1]], dim=1))
    blocks[-1].after_mlp.append(drop)
    assert not torch.equal(visual(images()), expected)
    assert seen == [ImageTower(visual).patches.stop + 1]


@pytest.mark.parametrize("name", TOWERS)
def test_gradients_are_the_same_with_checkpointing(name):
    gradients = []
    for checkpointing in (False, True):
        visual = tiny_tower(name)
        ImageTower(visual).blocks[0].before_mlp.append(torch.sin)
        visual.set_grad_checkpointing(checkpointing)
        visual(images()).square().sum().backward()
        gradients.append([p.grad for p in visual.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for own, other in zip(*gradients):
        torch.testing.assert_close(own, other)


def test_the_librarys_stochastic_depth_is_kept():
    visual = tiny_tower("DFN")
    rates = [block.drop_path2.drop_prob for block in ImageTower(visual).blocks[1:]]
    assert rates == pytest.approx([0.05, 0.1])


def test_a_text_tower_keeps_its_mask():
    model = make_clip()
    tokens = torch.randint(1, 400, (2, 77))
    expected = model.encode_text(tokens)
    blocks = tower_blocks(model.transformer.resblocks)
    assert len(blocks) == 2
    torch.testing.assert_close(model.encode_text(tokens), expected)


def test_a_resnet_has_no_blocks():
    assert ImageTower(make_clip(RESNET_SIZES).visual).kind == RESNET
