import numpy as np
import pytest
import torch
from PIL import Image

from datasets import transforms
from datasets.augmentations.grayscale import Grayscale
from datasets.augmentations.randaug import RandAug
from datasets.transforms import EvalTransform, Resize, TrainTransform, make_views
from tests.datasets.helpers import picture
from utils.schema import Config


def clip(num_frames: int = 3, height: int = 48, width: int = 64) -> torch.Tensor:
    """(1, T, 3, height, width) uint8 over channels-last memory."""
    frames = torch.stack([picture(seed, height, width) for seed in range(num_frames)])
    return frames.contiguous(memory_format=torch.channels_last)[None]


def as_images(frames: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]


def largest_difference(frames: torch.Tensor, images: list[Image.Image]) -> int:
    return max(int(np.abs(f.permute(1, 2, 0).numpy().astype(int) - np.array(i)).max()) for f, i in zip(frames, images))


def plain(**how) -> TrainTransform:
    return TrainTransform(**{"resize": Resize(40), "input_size": 32, "flip_prob": 0, **how})


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (40, 40), (100, 37)])
def test_resize_is_the_antialiased_bicubic_of_pil(size):
    frames = clip(2, *size)[0]
    short = min(size)
    expected = [
        image.resize((size[1] * 30 // short, size[0] * 30 // short), Image.BICUBIC) for image in as_images(frames)
    ]
    assert largest_difference(Resize(30)(frames), expected) <= 2
    expected = [image.resize((50, 20), Image.BICUBIC) for image in as_images(frames)]
    assert largest_difference(Resize((20, 50), "squash")(frames), expected) <= 2
    assert Resize(short)(frames).data_ptr() == frames.data_ptr()


def test_training_crop_is_the_antialiased_bilinear_of_pil_on_the_resized_frame():
    frames = clip(2, 96, 128)
    box = transforms.random_resized_box(40, 53, (0.08, 1.0), np.random.default_rng(3))
    done, label = plain()(frames, 5, np.random.default_rng(3))
    assert done.shape == (2, 3, 32, 32) and done.dtype == torch.uint8 and label == 5
    assert done.is_contiguous(memory_format=torch.channels_last)
    top, left, height, width = box
    expected = [
        image.resize((53, 40), Image.BICUBIC)
        .crop((left, top, left + width, top + height))
        .resize((32, 32), Image.BILINEAR)
        for image in as_images(frames[0])
    ]
    assert largest_difference(done, expected) <= 2


def test_random_resized_box_has_the_published_distribution():
    rng = np.random.default_rng(0)
    boxes = np.array([transforms.random_resized_box(1000, 1000, (0.08, 1.0), rng) for _ in range(4000)], dtype=float)
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 1000).all() and (left + width <= 1000).all()
    ratio = width / height
    assert ratio.min() > 0.74 and ratio.max() < 1.35
    # Uniform in 3/4..4/3, and its inverse with probability 1/2: P(w > h) is 1/2 by symmetry.
    assert abs((ratio > 1).mean() - 0.5) < 0.03
    # A box of up to 3/4 of the image always fits; above, the tries that do not fit thin the areas out.
    area = height * width / 1e6
    assert area.min() < 0.1 and area.max() > 0.9
    small = area[area < 0.7]
    assert abs((small < 0.39).mean() - 0.5) < 0.03
    # The place is uniform: on average in the middle.
    assert abs((left / (1000 - width + 1e-9))[width < 900].mean() - 0.5) < 0.03


def test_area_range_is_kept():
    rng = np.random.default_rng(0)
    areas = [np.prod(transforms.random_resized_box(400, 400, (0.3, 0.4), rng)[2:]) / 160000 for _ in range(300)]
    assert min(areas) > 0.29 and max(areas) < 0.41


def test_ten_tries_then_a_plain_random_crop():
    assert transforms.random_resized_box(8, 400, (0.9, 1.0), np.random.default_rng(0)) is None
    frames = clip(2, 32, 400)
    rng = np.random.default_rng(0)
    whole = Resize(32)(frames[0])
    seen = set()
    for _ in range(30):
        crop, _ = plain(resize=Resize(32), area_range=(0.9, 1.0))(frames, 0, rng)
        matches = [left for left in range(whole.shape[-1] - 31) if torch.equal(crop, whole[..., left : left + 32])]
        assert matches
        seen.add(matches[0])
    assert len(seen) > 10


def test_one_set_of_draws_for_the_whole_clip():
    frames = clip(1)[:, [0, 0, 0]]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        done, _ = TrainTransform(Resize(40), 32, augmentations=(RandAug(2, 9), Grayscale(0.5)))(frames, 0, rng)
        assert torch.equal(done[0], done[1]) and torch.equal(done[0], done[2])


def test_the_generator_alone_decides():
    transform = TrainTransform(Resize(40), 32, augmentations=(RandAug(2, 15), Grayscale(0.2)))
    torch.manual_seed(0)
    first, _ = transform(clip(), 0, np.random.default_rng(1))
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    again, _ = transform(clip(), 0, np.random.default_rng(1))
    other, _ = transform(clip(), 0, np.random.default_rng(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(0)
    assert torch.equal(torch.random.get_rng_state(), state), "RandAugment must put torch's generator back"


def test_flip():
    straight, _ = plain()(clip(), 0, np.random.default_rng(1))
    flipped, label = plain(flip_prob=1)(clip(), 86, np.random.default_rng(1))
    assert torch.equal(flipped, straight.flip(-1))
    assert label == 86
    rng = np.random.default_rng(0)
    pairs = {0: 1}
    share = np.mean([plain(flip_prob=0.5, flip_pairs=pairs)(clip(1), 0, rng)[1] for _ in range(400)])
    assert abs(share - 0.5) < 0.08


@pytest.mark.parametrize(
    ("label", "mirrored"), [(86, 87), (87, 86), (93, 94), (94, 93), (166, 167), (167, 166), (5, 5)]
)
def test_flip_swaps_the_labels_of_something_something(label, mirrored):
    pairs = {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
    assert plain(flip_prob=1, flip_pairs=pairs)(clip(), label, np.random.default_rng(0))[1] == mirrored
    assert plain(flip_prob=0, flip_pairs=pairs)(clip(), label, np.random.default_rng(0))[1] == label


def test_grayscale_is_mode_l_of_pil():
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 40, 40), dtype=np.uint8))
    gray = Grayscale(1.0).apply(frames)
    assert gray.shape == frames.shape and gray.is_contiguous(memory_format=torch.channels_last)
    for frame, image in zip(gray, as_images(frames)):
        for channel in frame:
            assert np.array_equal(channel.numpy(), np.array(image.convert("L")))
    done, _ = plain(augmentations=(Grayscale(1.0),))(clip(), 0, np.random.default_rng(0))
    assert torch.equal(done[:, 0], done[:, 1])
    rng = np.random.default_rng(0)
    shares = [torch.equal(*plain(augmentations=(Grayscale(0.2),))(clip(1), 0, rng)[0][0, :2]) for _ in range(400)]
    assert abs(np.mean(shares) - 0.2) < 0.06


def test_randaug_comes_after_the_crop_and_is_off_by_default():
    assert RandAug.of(Config()) is None
    without, _ = plain()(clip(), 0, np.random.default_rng(1))
    randaug = RandAug(2, 20)
    augmented, _ = plain(augmentations=(randaug,))(clip(), 0, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    plain()._draw_crop(40, 53, rng)
    rng.random()  # of the flip
    expected = without
    for drawn in randaug.draw(32, rng):
        expected = randaug.apply(expected, drawn)
    assert torch.equal(augmented, expected) and not torch.equal(augmented, without)


def test_multi_scale_boxes():
    rng = np.random.default_rng(0)
    boxes = {transforms.multi_scale_box(240, 320, 224, rng) for _ in range(20000)}
    sides = [240, 210, 180, 158]
    allowed = {(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1}
    assert {box[2:] for box in boxes} == allowed
    for size in allowed:
        places = {box[:2] for box in boxes if box[2:] == size}
        y, x = (240 - size[0]) // 4, (320 - size[1]) // 4
        grid = {(0, 0), (0, 2), (0, 4), (2, 0), (2, 2), (2, 4), (4, 0), (4, 2), (4, 4), (1, 1), (1, 3), (3, 1), (3, 3)}
        assert places == {(i * y, j * x) for i, j in grid}
    assert {box[2] for box in (transforms.multi_scale_box(256, 256, 223, rng) for _ in range(300))} == {
        256,
        223,
        192,
        168,
    }


def test_something_something_crop():
    transform = plain(resize=Resize((36, 48), "squash"), multi_scale=True)
    done, _ = transform(clip(2, 60, 60), 0, np.random.default_rng(0))
    assert done.shape == (2, 3, 32, 32)


def test_evaluation_of_one_crop_and_of_several():
    frames = torch.stack([clip()[0], clip()[0].flip(0)])
    one, label = EvalTransform(Resize(40), 32)(frames, 7, np.random.default_rng(0))
    assert one.shape == (2, 3, 3, 32, 32) and label == 7
    several, _ = EvalTransform(Resize(40), 32, num_crops=3)(frames, 7, np.random.default_rng(0))
    assert several.shape == (2, 3, 3, 40, 53)
    assert torch.equal(make_views(several, 1, 32), one)
    assert torch.equal(make_views(one, 1, 32), one)


@pytest.mark.parametrize("crops", [1, 3, 5, 10])
def test_views_of_several_clips(crops):
    frames = torch.arange(2 * 3 * 3 * 40 * 53).reshape(2, 3, 3, 40, 53)
    views = make_views(frames, crops, 32)
    assert views.shape == (2 * crops, 3, 3, 32, 32)
    for number, clip_frames in enumerate(frames):
        part = views[number * crops : (number + 1) * crops]
        assert torch.equal(part, make_views(clip_frames[None], crops, 32))
    left_x, step_x, step_y = 0, (53 - 32) // 4, (40 - 32) // 4
    if crops == 3:
        assert torch.equal(views[0], frames[0][..., 2 * step_y : 2 * step_y + 32, left_x : left_x + 32])
        assert torch.equal(views[1], frames[0][..., 2 * step_y : 2 * step_y + 32, 4 * step_x : 4 * step_x + 32])
    if crops == 10:
        assert torch.equal(views[1], views[0].flip(-1))
        assert torch.equal(views[8], frames[0][..., 2 * step_y : 2 * step_y + 32, 2 * step_x : 2 * step_x + 32])


def test_views_refuse_what_does_not_fit():
    with pytest.raises(AssertionError):
        make_views(torch.zeros(1, 1, 3, 20, 40), 1, 32)
    with pytest.raises(AssertionError):
        make_views(torch.zeros(1, 1, 3, 40, 40), 4, 32)
