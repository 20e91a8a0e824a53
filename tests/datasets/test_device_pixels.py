"""Pixels computed on the device, here the CPU, are bit-equal to those of the loader processes."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.io import encode_jpeg

from datasets import build
from datasets.augmentations.augmentation import Operation
from datasets.augmentations.color_jitter import ColorJitter
from datasets.augmentations.erasing import Erasing
from datasets.augmentations.grayscale import Grayscale
from datasets.augmentations.randaug import RandAug
from datasets.device_decoding import decode, kinds_decoded_on
from datasets.device_pixels import _augment, eval_pixels, train_pixels
from datasets.exact_resize import Axis, resize
from datasets.frame_source import Jpegs
from datasets.lookahead import make_ahead
from datasets.transforms import EvalTransform, Resize, TrainTransform
from datasets.video_dataset import SampleKey
from tests.datasets.helpers import frame_config, needs, picture, write_frames
from utils.config import load_config
from utils.data_sections import ColorJitterConfig
from utils.errors import UserError

DEVICE = {"pixels_on": "device"}
ALL = {
    "randaug": {"N": 2, "M": 20},
    "color_jitter": {"prob": 0.7},
    "erasing": {"prob": 0.7},
    "grayscale": 0.4,
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("resizer", ["torch", "pillow"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(22, 30), (44, 59), (45, 60), (90, 17), (9, 121)])
def test_a_resize_is_bit_equal_to_the_cpus(resizer, interpolation, size):
    frames = noise(2, 1, 3, 44, 60)
    frames[1] = (frames[1] > 127).to(torch.uint8) * 255  # overshoots at every edge
    found = resize(frames, [Axis(0, 44, size[0])], [Axis(0, 60, size[1])], size, interpolation, resizer)
    assert torch.equal(found, Resize(size, "squash", interpolation, resizer)(frames))


@pytest.mark.parametrize(("precision", "dtype"), [("highest", torch.float32), ("high", torch.float64)])
@pytest.mark.parametrize(("interpolation", "resizer"), [("bilinear", "torch"), ("bicubic", "pillow")])
def test_strong_downscaling_is_exact_in_float32(monkeypatch, precision, dtype, interpolation, resizer):
    """Of up to 240 pixels a sum, which needs 30 bits; in float64 where PyTorch may multiply in TF32."""
    factors, matmul = set(), torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda a, b: factors.update({a.dtype, b.dtype}) or matmul(a, b))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    frames = noise(1, 2, 3, 300, 420)
    frames[:, 1] = 254 + (frames[:, 1] > 127).to(torch.uint8)  # large sums that differ in their last bits
    found = resize(frames, [Axis(0, 300, 5)], [Axis(0, 420, 7)], (5, 7), interpolation, resizer)
    assert torch.equal(found, Resize((5, 7), "squash", interpolation, resizer)(frames)) and factors == {dtype}


def test_units_of_weights_do_not_depend_on_inexact_functions_of_a_gpu(monkeypatch):
    for name in ("log2", "exp2"):
        monkeypatch.setattr(torch, name, None)
        monkeypatch.setattr(torch.Tensor, name, None)
    frames = noise(1, 1, 3, 20, 30)
    for size in ((20, 30), (7, 41)):
        found = resize(frames, [Axis(0, 20, size[0])], [Axis(0, 30, size[1])], size, "bilinear", "torch")
        assert torch.equal(found, Resize(size, "squash", "bilinear", "torch")(frames))


def test_boxes_corners_and_mirrors_of_a_resize():
    frames = noise(2, 1, 3, 40, 50)
    rows = [Axis(3, 30, 16), Axis(0, 40, 20, 3)]
    columns = [Axis(5, 20, 16, 0, True), Axis(10, 40, 33, 9)]
    found = resize(frames, rows, columns, (16, 16), "bilinear", "torch")

    def part(clip: int, top: int, left: int, height: int, width: int, size: tuple[int, int]) -> torch.Tensor:
        box = frames[clip, :, :, top : top + height, left : left + width]
        return F.interpolate(box, size, mode="bilinear", antialias=True)[0]

    assert torch.equal(found[0, 0], part(0, 3, 5, 30, 20, (16, 16)).flip(-1))
    assert torch.equal(found[1, 0], part(1, 0, 10, 40, 40, (20, 33))[:, 3:19, 9:25])


def test_every_operation_is_the_same_for_clips_together_and_one_by_one():
    randaug, jitter = RandAug(4, 17), ColorJitter(ColorJitterConfig(prob=1.0))
    drawn = {one for seed in range(60) for one in randaug.draw(40, np.random.default_rng(seed))}
    assert len({name for name, _ in drawn}) == 14  # all of RandAugment's, and both signs
    operations = [Operation(randaug, one) for one in sorted(drawn)]
    operations += [Operation(jitter, one) for seed in range(3) for one in jitter.draw(40, np.random.default_rng(seed))]
    for operation in [*operations, Operation(Grayscale(1.0), None)]:
        clips = torch.stack([noise(2, 3, 40, 40, seed=1), noise(2, 3, 40, 40, seed=2), noise(2, 3, 40, 40, seed=3)])
        first, last = (operation.augmentation.apply(clips[place], operation.drawn) for place in (0, 2))
        expected = torch.stack([first, clips[1], last])
        _augment(clips, [(operation,), (), (operation,)])
        assert torch.equal(clips, expected), operation


def frames_of(seed: int, height: int, width: int) -> torch.Tensor:
    """(2,C,H,W) over channels-last memory."""
    frames = torch.stack([picture(2 * seed, height, width), picture(2 * seed + 1, height, width)])
    return frames.contiguous(memory_format=torch.channels_last)


SIZES = [(48, 64), (64, 48), (48, 64), (30, 30), (20, 90), (200, 130)]


@pytest.mark.parametrize(
    "how",
    [
        {"resize": Resize(40)},
        {"resize": Resize(40, "shortest", "bicubic", "pillow")},
        {"resize": Resize((36, 50), "squash"), "multi_scale": True},
        {"resize": Resize(34, "longest"), "area_range": (0.9, 1.0)},
        {"resize": Resize(32), "augmentations": (RandAug(2, 25), Grayscale(0.5))},
        {
            "resize": Resize(40),
            "augmentations": (ColorJitter(ColorJitterConfig(prob=1.0)), Grayscale(0.2), Erasing(0.8, (0.02, 0.33))),
        },
    ],
)
def test_training_clips_of_several_sizes_are_those_of_the_transform(how):
    transform, rng = TrainTransform(**{"input_size": 32, **how}), np.random.default_rng(0)
    clips = [frames_of(seed, *size) for seed, size in enumerate(3 * SIZES)]
    draws = [transform.draw((clip.shape[-2], clip.shape[-1]), 0, rng)[0] for clip in clips]
    assert {draw.is_flipped for draw in draws} == {True, False}
    expected = torch.stack([transform.apply(clip, draw) for clip, draw in zip(clips, draws)])
    found = train_pixels(clips, draws, transform)
    assert torch.equal(found, expected)
    assert found.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("first", [Resize(40), Resize(34, "longest", "bilinear", "pillow"), Resize(32, "squash")])
def test_evaluation_clips_are_those_of_the_transform(first, crops):
    transform = EvalTransform(first, 32, crops)
    videos = [frames_of(seed, *size)[:, None] for seed, size in enumerate(SIZES)]  # two clips of one frame
    found = eval_pixels(videos, transform)
    for made, video in zip(found, videos):
        expected, _ = transform(video, 0, np.random.default_rng(0))
        assert torch.equal(made, expected) and made.stride(-3) == 1


def batches_of(cfg) -> list[dict]:
    loader = build.build_train_loader(cfg).to(torch.device("cpu"))
    loader.start_epoch(1)
    batches = list(loader)
    loader.close()
    return batches


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", [DEVICE, DEVICE | {"decode_on": "device"}])
def test_batches_of_training_are_the_same(tmp_path, workers, where):
    write_frames(tmp_path / "frames" / "v3", 10, height=50, width=40)  # of another size than the rest
    expected = batches_of(frame_config(tmp_path, num_videos=4, **ALL))
    found = batches_of(frame_config(tmp_path, num_videos=4, workers=workers, **ALL, **where))
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_batches_of_a_test_are_the_same_with_an_unreadable_video_among_them(tmp_path):
    cfgs = [frame_config(tmp_path), frame_config(tmp_path, workers=1, **DEVICE, decode_on="device")]
    (tmp_path / "frames" / "v2" / "img_00001.jpg").unlink()
    for views in (build.Views(2, 3), build.Views()):
        loaders = [build.build_eval_loader(cfg, views=views, allow_missing=True) for cfg in cfgs]
        for one, other in zip(*loaders, strict=True):
            for found, expected in zip(one["frames"], other["frames"], strict=True):
                assert (found is None) == (expected is None)
                assert found is None or torch.equal(found, expected)
        loaders[1].close()


def test_batches_finished_by_workers_are_prefetched_as_well(tmp_path):
    cfg = frame_config(tmp_path, workers=1)
    expected, loader = batches_of(cfg), build.build_train_loader(cfg)
    loader._makes_pixels = True  # as on a GPU, which the batches are copied to ahead
    packed = loader._packed()  # and PyTorch up to 2.9 makes lists of the tuples in a batch that it pins
    loader._packed = lambda: (batch._replace(shapes=[list(shape) for shape in batch.shapes]) for batch in packed)
    loader.start_epoch(1)
    for one, other in zip(loader, expected, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
        assert one["frames"].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    loader.close()


def test_png_frames_are_decoded_by_the_loader_processes(tmp_path):
    write_frames(tmp_path / "frames" / "v0", 10, height=36, width=44, png=True)
    names = {"image_tmpl": "img_{:05d}.png", "num_videos": 1}
    expected = batches_of(frame_config(tmp_path, **names))
    found = batches_of(frame_config(tmp_path, **names, **DEVICE, decode_on="device"))
    assert torch.equal(found[0]["frames"], expected[0]["frames"])


def test_a_corrupted_jpeg_is_named_when_it_is_decoded(tmp_path):
    cfg = frame_config(tmp_path, **DEVICE, decode_on="device")
    for frame in (tmp_path / "frames" / "v1").iterdir():
        frame.write_bytes(frame.read_bytes()[:-300])
    with pytest.raises(UserError, match=r"v1/img_000.*\(listed at .*corrupted"):
        batches_of(cfg)


@pytest.mark.parametrize("keys", [["pixels_on=cpu"], ["pixels_on=device", "data.on_error=skip"]])
def test_decoding_on_the_device_needs_its_pixels_and_no_replacements(keys):
    with pytest.raises(UserError, match="data.decode_on.*set pixels_on to device and on_error to raise"):
        load_config(None, ["data.decode_on=device", f"data.{keys[0]}", *keys[1:]], "predict")
    load_config(None, ["data.decode_on=device", "data.pixels_on=device"], "predict")


def test_a_device_that_cannot_decode_is_a_one_line_error(monkeypatch):
    def refuse(*_):
        raise RuntimeError("not compiled with nvJPEG support\nmore")

    monkeypatch.setattr("torchvision.io.decode_jpeg", refuse)
    with pytest.raises(UserError, match=r"^data.decode_on: .* on cuda \(not compiled with nvJPEG support\); set it to"):
        kinds_decoded_on(torch.device("cuda"), False)


def test_loader_processes_hand_over_frames_of_the_stored_size(tmp_path):
    loader = build.build_train_loader(frame_config(tmp_path, **DEVICE))
    packed = next(loader._packed())
    stored = [loader.dataset.stored(SampleKey(0, index))["frames"] for index in packed.numbers[0].tolist()]
    assert packed.shapes == [tuple(clip.movedim(-3, -1).shape) for clip in stored if clip is not None]
    loader.close()


def jpeg_clip() -> tuple[torch.Tensor, Jpegs]:
    data = encode_jpeg(noise(3, 16, 16))
    assert isinstance(data, torch.Tensor)
    return data, Jpegs([len(data)], ["a.jpg"], [0, 0], (16, 16))


def test_torchcodec_decodes_jpegs_where_torchvision_does_not(monkeypatch):
    needs("torchcodec")
    cpu = torch.device("cpu")
    (expected,) = decode([jpeg_clip()], cpu)
    monkeypatch.delattr("torchvision.io.decode_jpeg")
    (found,) = decode([jpeg_clip()], cpu)
    assert torch.equal(found, expected) and found.shape == (2, 3, 16, 16)
    assert kinds_decoded_on(cpu, False) == (Jpegs,)


def test_jpegs_are_decoded_after_the_work_that_reads_the_memory_of_earlier_ones(monkeypatch):
    calls = []
    stream = SimpleNamespace(synchronize=lambda: calls.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    images = [torch.zeros(3, 16, 16)]
    monkeypatch.setattr("torchvision.io.decode_jpeg", lambda *_: calls.append("decode") or images)
    decode([jpeg_clip()], torch.device("cuda", 1))
    assert calls == ["synchronize", "decode"]


def test_pixels_are_computed_one_batch_ahead():
    made: list[int] = []

    def make(number: int) -> torch.Tensor:
        made.append(number)
        return torch.full((2,), number)

    pairs = make_ahead(iter(range(3)), make, torch.device("cpu"))
    number, pixels = next(pairs)
    assert number == 0 and torch.equal(pixels, torch.zeros(2))
    pairs.close()  # waits for the thread
    assert made == [0, 1]
    found = list(make_ahead(iter(range(3)), make, torch.device("cpu")))
    assert [(number, int(pixels[0])) for number, pixels in found] == [(0, 0), (1, 1), (2, 2)]


def test_a_batch_is_returned_before_the_error_of_the_next_one():
    def items():
        yield 0
        yield 1
        raise UserError("v2.jpg is damaged")

    pairs, found = make_ahead(items(), torch.tensor, torch.device("cpu")), []
    with pytest.raises(UserError, match="v2.jpg is damaged"):
        found.extend(number for number, _ in pairs)
    pairs = make_ahead(items(), torch.tensor, torch.device("cpu"))
    assert [next(pairs)[0], next(pairs)[0]] == [0, 1]


class FakeStream:
    """A stream of GPU 1 that writes down what it is asked for, in order, with the thread that asks."""

    device = torch.device("cuda", 1)

    def __init__(self, name: str, calls: list[tuple[str, ...]]):
        self.name, self.calls = name, calls

    def call(self, *what: str) -> None:
        self.calls.append((threading.current_thread().name.partition("_")[0], self.name, *what))

    def record_event(self) -> str:
        self.call("record")
        return f"event {sum('record' in call for call in self.calls)}"

    def wait_event(self, event: str) -> None:
        self.call("wait", event)


class FakePixels(NamedTuple):
    number: int
    calls: list[tuple[str, ...]]

    def record_stream(self, stream: FakeStream) -> None:
        stream.call("keep", str(self.number))


def test_the_training_stream_waits_for_pixels_and_keeps_their_memory(monkeypatch):
    """Batches are prepared on a side stream of their GPU; the training stream waits for its event before reading."""
    calls: list[tuple[str, ...]] = []
    training, side, active = FakeStream("training", calls), FakeStream("side", calls), threading.local()

    @contextmanager
    def stream_context(stream: FakeStream):
        active.stream = stream
        yield
        active.stream = training

    def make(number: int) -> list[FakePixels]:
        active.stream.call("make", str(number))
        return [FakePixels(number, calls)]

    monkeypatch.setattr("datasets.lookahead._stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "stream", stream_context)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: training)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: side.call("device", str(device)))
    assert [number for number, _ in make_ahead(range(2), make, FakeStream.device)] == [0, 1]
    of_thread = [call[1:] for call in calls if call[0] == "pixels"]
    assert of_thread == [
        ("side", "device", "cuda:1"),
        ("side", "make", "0"),
        ("side", "record"),
        ("side", "make", "1"),
        ("side", "record"),
    ]
    assert [call[1:] for call in calls if call[0] == "MainThread"] == [
        ("training", "wait", "event 1"),
        ("training", "keep", "0"),
        ("training", "wait", "event 2"),
        ("training", "keep", "1"),
    ]


def test_an_error_in_prefetching_is_raised_with_its_batch():
    def make(number: int) -> torch.Tensor:
        if number == 1:
            raise UserError("v1.jpg is damaged")
        return torch.zeros(1)

    pairs = make_ahead(iter(range(2)), make, torch.device("cpu"))
    assert next(pairs)[0] == 0
    with pytest.raises(UserError, match="v1.jpg is damaged"):
        next(pairs)
