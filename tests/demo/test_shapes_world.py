"""The demo data set: seeds, motions, the split, captions and weights."""

from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch.nn import functional

from demo import shapes_stills, shapes_world
from demo.shapes_world import HELD_OUT_CLASSES, MOTIONS, SEEN_CLASSES, SHAPES, ClipClass

WEIGHTS = Path(__file__).resolve().parents[2] / "clip" / "shapes_clip.pt"
MAX_WEIGHTS_BYTES = 10_000_000
MAX_TEXT_COSINE = 0.93  # measured: 0.908


def tracks(motion, count=20, num_frames=30):
    return [shapes_world.make_track(motion, num_frames, np.random.default_rng([7, i])) for i in range(count)]


# ---------------------------------------------------------------------------------------------- classes


def test_split_holds_out_a_fifth_and_leaves_every_part_in_training():
    seen, held_out = set(SEEN_CLASSES), set(HELD_OUT_CLASSES)
    assert len(seen) == 32
    assert len(held_out) == 8
    assert not seen & held_out
    assert seen | held_out == {ClipClass(s, m) for s in SHAPES for m in MOTIONS}
    assert set(Counter(c.motion for c in held_out).values()) == {1}
    assert set(Counter(c.shape for c in held_out).values()) <= {1, 2}
    assert {c.motion for c in seen} == set(MOTIONS)
    assert {c.shape for c in seen} == set(SHAPES)


def test_class_names_and_folders():
    clip_class = ClipClass("square", "moving left")
    assert clip_class.name == "a square moving left"
    assert clip_class.folder == "square_moving_left"


# ---------------------------------------------------------------------------------------------- clips


def test_clip_is_uint8_of_the_stated_size_and_length():
    lengths = set()
    for i in range(6):
        clip = shapes_world.render_clip(SEEN_CLASSES[5 * i], np.random.default_rng(i))
        assert clip.dtype == np.uint8
        assert clip.shape[1:] == (64, 80, 3)
        lengths.add(len(clip))
    assert all(25 <= n <= 60 for n in lengths)
    assert len(lengths) > 1


def test_same_seed_same_clip_and_other_seed_other_clip():
    first, again, other = (shapes_world.render_clip(SEEN_CLASSES[3], np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("moving left", "x", -1), ("moving right", "x", 1), ("moving up", "y", -1), ("moving down", "y", 1)],
)
def test_covered_pixels_move_as_the_name_says(motion, axis, sign):
    for track in tracks(motion):
        body, _ = shapes_world.coverage("star", track, 64, 64)
        place = np.tensordot(body, np.arange(64), axes=([2 if axis == "x" else 1], [0])).sum(axis=1)
        place /= body.sum(axis=(1, 2))
        assert sign * (place[-1] - place[0]) > 10
        assert (sign * np.diff(place[::5]) > 0).all()
        other = track.y if axis == "x" else track.x
        assert np.ptp(other) < 5


@pytest.mark.parametrize(("motion", "sign"), [("growing", 1), ("shrinking", -1)])
def test_covered_area_changes_as_the_name_says(motion, sign):
    for track in tracks(motion):
        area = shapes_world.coverage("cross", track, 64, 64)[0].sum(axis=(1, 2))
        assert max(area[-1] / area[0], area[0] / area[-1]) > 2.5
        assert (sign * np.diff(area[::5]) > 0).all()


def test_only_spinning_rotates_the_picture():
    for motion in MOTIONS:
        for track in tracks(motion):
            turned = np.ptp(track.angle)
            assert turned > np.pi if motion == "spinning" else turned < 0.5


def test_a_spinning_circle_can_be_seen_to_spin():
    track = tracks("spinning", 1)[0]
    _, ink = shapes_world.coverage("circle", track, 64, 64)
    columns = np.arange(64) - 31.5
    right = (ink.sum(axis=1) * columns).sum(axis=1) - ink.sum(axis=(1, 2)) * track.x
    down = (ink.sum(axis=2) * columns).sum(axis=1) - ink.sum(axis=(1, 2)) * track.y
    angle = np.unwrap(np.arctan2(right, -down))  # of the ink's centre: the outline is even, the mark is not
    assert np.abs((angle - angle[0]) - (track.angle - track.angle[0])).max() < 0.3


def test_only_flashing_appears_and_disappears():
    for motion in MOTIONS:
        for track in tracks(motion):
            if motion == "flashing":
                assert track.opacity.min() < 0.15
                assert track.opacity.max() > 0.8
                assert (np.abs(np.diff(track.opacity > 0.5)) > 0).sum() >= 2
            else:
                assert np.ptp(track.opacity) == 0


@pytest.mark.parametrize(
    ("one", "opposite"), [("moving left", "moving right"), ("moving up", "moving down"), ("growing", "shrinking")]
)
def test_opposite_motions_pass_the_same_positions(one, opposite):
    """The unordered set of frames does not distinguish the two, only their order."""
    for a, b in zip(tracks(one), tracks(opposite)):
        for name in ("x", "y", "radius"):
            np.testing.assert_allclose(np.sort(getattr(a, name)), np.sort(getattr(b, name)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("motion", MOTIONS)
def test_shape_stays_inside_the_central_square(motion):
    for track in tracks(motion):
        for shape in SHAPES:
            body, _ = shapes_world.coverage(shape, track, 64, 80)
            outside = body.sum() - body[:, :, 8:72].sum()
            wide, _ = shapes_world.coverage(shape, track, 128, 160)
            assert outside <= 0.01 * wide.sum()
            assert body.sum() >= 0.97 * wide.sum()


def test_shapes_have_similar_sizes():
    track = shapes_world.Track(*(np.array([v], dtype=np.float32) for v in (0, 0, 20, 0, 1)))
    areas = [float(shapes_world.coverage(shape, track, 64, 64)[0].sum()) / 20**2 for shape in SHAPES]
    assert all(1.2 < area < 2.7 for area in areas)


# ---------------------------------------------------------------------------------------------- stills


@pytest.fixture(scope="module")
def stills():
    return shapes_stills.render_stills(200, np.random.default_rng(0))


def test_stills_are_deterministic(stills):
    again = shapes_stills.render_stills(20, np.random.default_rng(0))
    assert again.captions == stills.captions[:20]
    assert np.array_equal(again.pictures, stills.pictures[:20])


def test_no_still_and_no_caption_shows_a_held_out_class(stills):
    held_out = {(c.shape, c.motion) for c in HELD_OUT_CLASSES}
    motions = [(*MOTIONS, None)[a[-1]] for a in stills.attributes]
    pairs = {(SHAPES[a[0]], motion) for a, motion in zip(stills.attributes, motions)}
    assert not pairs & held_out
    assert len({motion for motion in motions if motion}) == len(MOTIONS)
    for caption in stills.captions:
        assert not any(c.name[2:] in caption for c in HELD_OUT_CLASSES)


def test_every_caption_describes_its_own_picture(stills):
    true = shapes_stills.caption_is_true(stills.attributes, stills.mentioned)
    assert true.diagonal().all()
    assert 0 < true.mean() < 0.3
    for caption, attributes, mentioned in zip(stills.captions, stills.attributes, stills.mentioned):
        if mentioned[0]:
            assert SHAPES[attributes[0]] in caption
        if mentioned[-1]:
            assert MOTIONS[attributes[-1]] in caption


def test_caption_words():
    attributes = np.array([1, 1, 0, 0, 4, 7, 1, 8])
    named = np.array([True, True, True, True, True, True, False, False])
    caption = shapes_stills.write_caption(attributes, named, "a photo of {}.")
    assert caption == "a photo of a tiny orange square facing north west at the far left at the bottom."


# ---------------------------------------------------------------------------------------------- weights


@pytest.fixture(scope="module")
def weights():
    return torch.load(WEIGHTS, weights_only=True)


def tower_of(state):
    """open_clip's CLIP with sizes inferred from the weights, as in OpenAI's loader."""
    width, _, patch, _ = state["visual.conv1.weight"].shape
    depth = [sum(n.startswith(p) and n.endswith("mlp.c_fc.weight") for n in state) for p in ("visual.", "transformer.")]
    image_size = patch * int((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    text_width, embed_dim = state["text_projection"].shape
    model = CLIP(
        embed_dim,
        CLIPVisionCfg(layers=depth[0], width=width, head_width=64, patch_size=patch, image_size=image_size),
        CLIPTextCfg(context_length=77, vocab_size=49408, width=text_width, heads=text_width // 64, layers=depth[1]),
        quick_gelu=True,
    )
    model.load_state_dict(state, strict=True)
    return model.eval()


def test_weights_are_small_and_in_openai_layout(weights):
    assert WEIGHTS.stat().st_size <= MAX_WEIGHTS_BYTES
    assert all(value.dtype == torch.float16 for value in weights.values())
    assert weights["token_embedding.weight"].shape[0] == 49408
    assert weights["positional_embedding"].shape[0] == 77
    model = tower_of(weights)
    assert model.visual.image_size in (64, (64, 64))


def test_texts_of_different_classes_differ(weights):
    model = tower_of(weights)
    names = [c.name for c in SEEN_CLASSES + HELD_OUT_CLASSES]
    tokens = open_clip.get_tokenizer("ViT-B-32")([f"a video of {name}." for name in names])
    with torch.no_grad():
        text = functional.normalize(model.encode_text(tokens), dim=1)
    cosines = text @ text.T - 2 * torch.eye(len(names))
    assert cosines.max() < MAX_TEXT_COSINE


def test_image_tower_distinguishes_shapes_and_positions(weights):
    model = tower_of(weights)
    stills = shapes_stills.render_stills(200, np.random.default_rng(5), trail_share=0.0)
    pictures = torch.from_numpy(stills.pictures).permute(0, 3, 1, 2) / 255
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    with torch.no_grad():
        image = model.encode_image((pictures - mean) / std)
        for column, texts, floor in (
            (0, [f"a photo of a {shape}." for shape in SHAPES], 0.6),
            (3, [f"a photo of a shape {place}." for place in shapes_stills.COLUMNS], 0.6),
        ):
            text = functional.normalize(model.encode_text(tokenizer(texts)), dim=1)
            right = (image @ text.T).argmax(dim=1).numpy() == stills.attributes[:, column]
            assert right.mean() > floor
