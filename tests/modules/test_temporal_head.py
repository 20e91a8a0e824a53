"""The temporal heads, against their formula written out."""

import math

import pytest
import torch

from modules.heads.frame_mean import FrameMean
from modules.heads.transf import TemporalTransformer, num_heads_for
from utils.schema import Config

WIDTH, NUM_HEADS = 32, 4


def plain_head(state: dict[str, torch.Tensor], x: torch.Tensor, num_layers: int) -> torch.Tensor:
    """The head's formula with matrices and a softmax only. x: (T, D) of one clip."""

    def norm(z, name):
        z = z - z.mean(-1, keepdim=True)
        return z / (z.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(z, name):
        return z @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    z = x + state["frame_position_embeddings.weight"][: len(x)]
    for i in range(num_layers):
        block = f"transformer.resblocks.{i}"
        normed = norm(z, f"{block}.ln_1")
        joint = normed @ state[f"{block}.attn.in_proj_weight"].T + state[f"{block}.attn.in_proj_bias"]
        heads = []
        for q, k, v in zip(*(part.chunk(NUM_HEADS, -1) for part in joint.chunk(3, -1))):
            heads.append((q @ k.T / math.sqrt(WIDTH // NUM_HEADS)).softmax(-1) @ v)
        z = z + linear(torch.cat(heads, -1), f"{block}.attn.out_proj")
        hidden = linear(norm(z, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        z = z + linear(hidden * torch.sigmoid(1.702 * hidden), f"{block}.mlp.c_proj")
    return (z + x).mean(0)


def test_transf_is_its_formula():
    torch.manual_seed(0)
    head = TemporalTransformer(WIDTH, NUM_HEADS, num_layers=3)
    state = {name: value + 0.1 * torch.randn_like(value) for name, value in head.state_dict().items()}
    head.load_state_dict(state)
    clips = torch.randn(2, 5, WIDTH)
    with torch.no_grad():
        found = head(clips)
    for clip, embedding in zip(clips, found):
        torch.testing.assert_close(embedding, plain_head(state, clip, 3), rtol=1e-4, atol=1e-5)


def test_initialisation():
    torch.manual_seed(0)
    head = TemporalTransformer(64, 2)
    assert len(head.transformer.resblocks) == 6
    for name, value in head.named_parameters():
        if name.endswith("in_proj_weight"):  # its own: xavier uniform over (3D, D)
            bound = math.sqrt(6 / (4 * 64))
            assert value.abs().max() <= bound and value.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        elif name.endswith("bias"):
            assert not value.any()
        elif ".ln_" in name:
            assert (value == 1).all()
        else:
            assert value.std().item() == pytest.approx(0.02, rel=0.05), name
    assert head.frame_position_embeddings.weight.shape == (77, 64)


def test_order_matters_to_transf_and_not_to_the_mean():
    torch.manual_seed(0)
    frames = torch.randn(1, 4, WIDTH)
    backwards = frames.flip(1)
    head = TemporalTransformer(WIDTH, NUM_HEADS)
    assert not torch.allclose(head(frames), head(backwards), atol=1e-4)
    torch.testing.assert_close(FrameMean()(frames), FrameMean()(backwards))


def test_positions_of_more_frames_than_the_table_has_rows_are_interpolated():
    head = TemporalTransformer(WIDTH, NUM_HEADS, num_layers=1)
    seen = []
    head.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    for num_frames in (77, 153):
        assert head(torch.zeros(1, num_frames, WIDTH)).shape == (1, WIDTH)
    torch.testing.assert_close(seen[0], head.frame_position_embeddings.weight)
    torch.testing.assert_close(seen[1][::2], seen[0])  # every second of 153 is a row of the table
    torch.testing.assert_close(seen[1][1::2], (seen[0][:-1] + seen[0][1:]) / 2)


@pytest.mark.parametrize(
    ("width", "text_width", "num_heads"),
    [(512, 512, 8), (768, 768, 12), (1024, 512, 8), (640, 640, 10), (768, 1152, 12), (100, 768, 1)],
)
def test_the_number_of_heads_follows_the_text_width(width, text_width, num_heads):
    assert num_heads_for(width, text_width) == num_heads


def test_normalized_frames_count_equally_whatever_their_norm():
    cfg = Config.model_validate({"components": {"None": {"normalized": True}}})
    frames, lengths = torch.randn(2, 4, 8), torch.tensor([1.0, 5, 0.1, 2])[:, None]
    expected = (frames / frames.norm(dim=-1, keepdim=True)).mean(dim=1)
    torch.testing.assert_close(FrameMean.build(cfg, None)(frames * lengths), expected)


@pytest.mark.parametrize(
    "head", [FrameMean(), TemporalTransformer(WIDTH, NUM_HEADS, num_layers=1)], ids=["mean", "transf"]
)
def test_halves_of_the_tower_are_averaged_in_float32(head):
    """A mean in bfloat16 has 8 bits, which under autocast would be the precision of the video embedding."""
    frames = torch.full((1, 8, WIDTH), 1.0, dtype=torch.bfloat16)
    frames[:, 0] = 1.0078125  # the next bfloat16; the mean of the eight lies between the two
    out = head(frames)
    assert out.dtype == torch.float32
    if isinstance(head, FrameMean):
        torch.testing.assert_close(out, torch.full((1, WIDTH), 1 + 0.0078125 / 8), rtol=0, atol=1e-7)
