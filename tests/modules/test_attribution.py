"""Attribution to frames and regions equals its definition for every kind of tower and head."""

import pytest
import torch

from modules.attribution import ShownClip, drop_one_frame, relevance_maps, spotlight
from modules.build import build_model
from tests.clip.tiny import RESNET
from tests.modules.tiny import clip_of, make_clips, make_config

T = 4


def model_of(tmp_path, **changes):
    cfg = make_config(tmp_path, **changes)
    torch.manual_seed(0)
    return build_model(cfg, clip_of(cfg)).eval()


def by_definition(model, clip, text, label):
    """The log-odds with and without each frame, one whole clip at a time."""

    def log_odds(frames):
        video = model.encode_video(frames[None])
        cosine = torch.nn.functional.normalize(video, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T
        share = (100 * cosine.double()).softmax(dim=-1)[0, label]
        return torch.logit(share)

    found = []
    for t in range(len(clip)):
        dropped = clip.clone()
        dropped[t] = clip[t - 1] if t else clip[1]
        found.append(log_odds(clip) - log_odds(dropped))
    return torch.stack(found).float()


@pytest.mark.parametrize(
    "changes",
    [{}, {"sim_header": "None"}, {"tm": "tsm"}, {"tm": "tokent1d"}, {"sim_header": "None", "joint_st": True}],
    ids=str,
)
@torch.no_grad()
def test_it_equals_its_definition(tmp_path, changes):
    model = model_of(tmp_path, **changes)
    clip = make_clips(1, T)[0]
    text = model.encode_video(make_clips(3, T, seed=1))
    text = text + 0.3 * torch.randn(text.shape, generator=torch.Generator().manual_seed(2)) * text.std()
    found = drop_one_frame(model, clip, text, 1, clips_per_forward=2)
    assert found.shape == (T,) and found.dtype == torch.float32 and (found.abs() > 1e-4).any()
    torch.testing.assert_close(found, by_definition(model, clip, text, 1), rtol=1e-2, atol=2e-3)


@torch.no_grad()
def test_the_frame_that_decides_the_class_has_the_highest_bar(tmp_path):
    """Four frames alike and one of its own kind; the text of the class is that frame's direction."""
    model = model_of(tmp_path, sim_header="None")
    plain, special = make_clips(1, 1, seed=1)[0], make_clips(1, 1, seed=2)[0]
    clip = torch.cat([plain, plain, special, plain])
    a, b = (model.encode_frames(f[None])[0, 0] for f in (plain, special))
    found = drop_one_frame(model, clip, torch.stack([a, b]), label=1)
    assert found.argmax() == 2 and found[2] > 0 and found[:2].abs().max() < 1e-3


@torch.no_grad()
def test_one_frame_or_one_class_has_no_attribution(tmp_path):
    model = model_of(tmp_path)
    text = torch.randn(3, model.embed_dim)
    assert drop_one_frame(model, make_clips(1, 1)[0], text, 0).tolist() == [0.0]
    assert drop_one_frame(model, make_clips(1, T)[0], text[:1], 0).tolist() == [0.0] * T


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tm": "tsm"},
        {"sim_header": "None", "joint_st": True},
        {"solver_activation_checkpointing": True},
        {"vision": RESNET},
    ],
    ids=str,
)
def test_scaling_a_patch_changes_the_score_as_the_map_predicts(tmp_path, changes):
    """The definition by finite differences: the activations of a patch times 1 + e."""
    model = model_of(tmp_path, **changes)
    size = (changes.get("vision") or {}).get("image_size", 32)
    clips = make_clips(2, T, size)
    text = model.encode_video(make_clips(3, T, size, seed=1)).detach()
    labels = torch.tensor([2, 0])
    maps = relevance_maps(model, clips, text, labels)
    assert maps.shape[:2] == (2, T) and maps.shape[2] == maps.shape[3] > 1 and not maps.requires_grad
    is_joint, is_vit = changes.get("joint_st"), "vision" not in changes
    grid = maps.shape[2]

    @torch.no_grad()
    def score(t, row, column, factor):
        def scale(activations):
            activations = activations.clone()
            if is_joint:
                activations[:, 1 + (t * grid + row) * grid + column] *= factor
            elif is_vit:
                activations.unflatten(0, (2, T))[:, t, 1 + row * grid + column] *= factor
            else:
                activations.unflatten(0, (2, T))[:, t, :, row, column] *= factor
            return activations

        if is_vit:
            hook = model.visual.transformer.resblocks[-1].register_forward_pre_hook(lambda _, a: (scale(a[0]), *a[1:]))
        else:
            hook = model.visual.layer4.register_forward_hook(lambda _, a, output: scale(output))
        video = model.encode_video(clips).double()
        hook.remove()
        cosines = torch.nn.functional.normalize(video, dim=-1) @ torch.nn.functional.normalize(text.double(), dim=-1).T
        return cosines[torch.arange(2), labels] - cosines.mean(dim=1)

    for place in ((0, 0, 0), (T - 1, grid - 1, 0), (1, 0, grid - 1)):
        slope = (score(*place, 1.01) - score(*place, 0.99)) / 0.02
        torch.testing.assert_close(maps[(slice(None), *place)].double(), slope, rtol=0.02, atol=2e-5)


def test_regions_that_support_the_class_stay_and_the_rest_is_dimmed():
    clips = torch.full((2, 1, 3, 8, 8), 200, dtype=torch.uint8)
    clips[:, :, 0] = 255
    maps = torch.tensor([[[[-1.0, 0.5], [0.0, 0.0]]], [[[-1.0, -1.0], [-1.0, -1.0]]]])
    lit = spotlight(clips, maps)
    assert lit.shape == clips.shape and lit.dtype == torch.uint8
    assert lit[0, 0, :, 0, 7].tolist() == [255, 200, 200]  # the largest is as it was
    dimmed = lit[0, 0, :, 7, 0].int()
    assert dimmed.max() < 100 and dimmed.max() - dimmed.min() <= 2  # dark and grey
    assert (lit[1] < 100).all()  # nothing speaks for the class


@pytest.mark.parametrize(
    ("contributions", "bars"),
    [
        ((1.04, -2.08, -0.02), [(0.5, "+1.0"), (-1.0, "\u22122.1"), (-0.0096, "0.0")]),
        ((0.2, -0.04, 0.004), [(1.0, "+0.20"), (-0.2, "\u22120.04"), (0.02, "0.00")]),
        ((0.004, -0.002), [(1.0, "+0.004"), (-0.5, "\u22120.002")]),
        ((1e-6, -1e-7), [(0.001, "0.000"), (-0.0001, "0.000")]),
    ],
)
def test_bars_are_labelled_with_the_decimals_of_the_largest(contributions, bars):
    found = ShownClip(torch.zeros(len(bars), 3, 2, 2, dtype=torch.uint8), torch.tensor(contributions)).bars()
    assert [text for _, text in found] == [text for _, text in bars]
    assert [share for share, _ in found] == pytest.approx([share for share, _ in bars], abs=1e-4)
