"""Videos decoded by torchcodec on the device, here the CPU, have the frames of the loader processes."""

import importlib
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets import build, device_videos
from datasets.device_videos import decode_videos, fault_of
from datasets.frame_source import VideoFrames
from datasets.pyav_source import PyAVVideo
from datasets.segment import Segment
from tests.datasets.helpers import REAL_VIDEOS, VIDEOS_DIR, frame_config, needs, needs_real_videos, write_video
from utils.errors import UserError

CPU = torch.device("cpu")
LATER = {"pixels_on": "device", "decode_on": "device"}
B_FRAMES = {"bf": "3", "g": "9", "sc_threshold": "0"}
NUM_FRAMES = 30


@pytest.fixture(autouse=True)
def nothing_said():
    device_videos.decoded_on_cpu.clear()
    fault_of.cache_clear()
    yield
    fault_of.cache_clear()


def encoded(source, indices) -> VideoFrames | None:
    with source:
        found = source.encoded(np.array(indices), (VideoFrames,))
    assert found is None or isinstance(found[1], VideoFrames)
    return None if found is None else found[1]


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same frames: libswscale may convert colours by other instructions, and its versions differ."""
    assert found.shape == expected.shape and found.dtype == torch.uint8
    difference = (found.int() - expected.int()).abs()
    assert difference.float().mean() < 1 and difference.max() <= 8


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    write_video(folder / "v0", NUM_FRAMES, options=B_FRAMES, pans=True)
    return folder


def test_frames_are_those_of_the_loader_processes(tmp_path):
    needs("torchcodec")
    uneven = np.cumsum([1, 2, 1, 4] * 8)[:NUM_FRAMES].tolist()
    write_video(tmp_path / "a.mp4", NUM_FRAMES, options=B_FRAMES, pans=True)
    write_video(tmp_path / "b.mkv", NUM_FRAMES, options=B_FRAMES, times=uneven)
    write_video(tmp_path / "c.mp4", NUM_FRAMES, codec="libx265", options={"x265-params": "keyint=7:log-level=none"})
    indices = [29, 3, 8, 3, 0, 17]
    for name in ("a.mp4", "b.mkv", "c.mp4"):
        clip = encoded(PyAVVideo(tmp_path / name), indices)
        assert clip is not None and clip.size == (48, 64)
        assert_close(decode_videos([clip], CPU)[0], PyAVVideo(tmp_path / name).read(np.array(indices)))
    with Segment(PyAVVideo(tmp_path / "a.mp4"), 0.4, 1.0) as segment:
        expected = segment.read(np.array([5, 1]))
    clip = encoded(Segment(PyAVVideo(tmp_path / "a.mp4"), 0.4, 1.0), [5, 1])
    assert clip is not None
    assert_close(decode_videos([clip], CPU)[0], expected)
    assert not device_videos.decoded_on_cpu


@needs_real_videos
def test_frames_of_real_videos_are_those_of_the_loader_processes():
    needs("torchcodec")
    decoded = set()
    for name, num_frames in REAL_VIDEOS.items():
        indices = np.linspace(0, num_frames - 1, 4).astype(int)
        clip = encoded(PyAVVideo(VIDEOS_DIR / name), indices)
        if clip is not None:
            decoded.add(name)
            assert_close(decode_videos([clip], CPU)[0], PyAVVideo(VIDEOS_DIR / name).read(indices))
    assert decoded == set(REAL_VIDEOS) - {"mpeg4_part2.avi", "h264_10bits.mp4"} and not device_videos.decoded_on_cpu


def test_codecs_that_not_every_gpu_supports_are_decoded_by_the_loader_processes(tmp_path):
    write_video(tmp_path / "10 bits.mp4", 5, pix_fmt="yuv420p10le")
    write_video(tmp_path / "old codec.mp4", 5, codec="mpeg4")
    for path in tmp_path.iterdir():
        assert encoded(PyAVVideo(path), [0, 4]) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_decoded_on_the_cpu(tmp_path, workers):
    needs("torchcodec")
    (tmp_path / "frames").mkdir()
    for number in range(3):
        write_video(tmp_path / "frames" / f"v{number}", 30 + number, options=B_FRAMES)
    write_video(tmp_path / "frames" / "v3", 20, pix_fmt="yuv444p")
    batches = []
    for more in ({}, LATER | {"workers": workers}):
        cfg = frame_config(tmp_path, num_videos=4, modality="video", **more)
        (tmp_path / "list.txt").write_text("".join(f"v{number} {number % 3}\n" for number in range(4)))
        loaders = build.build_train_loader(cfg), build.build_eval_loader(cfg, views=build.Views(2, 3))
        loaders[0].start_epoch(1)
        batches.append([frames for loader in loaders for batch in loader.to(CPU) for frames in batch["frames"]])
        for loader in loaders:
            loader.close()
    for found, expected in zip(batches[1], batches[0], strict=True):
        assert_close(found, expected)


class FakeTorchCodec:
    """Returns grey frames one tick late."""

    cpu_fallback = "AV1 is not supported by this GPU"

    def __init__(self, path, *, stream_index, device, custom_frame_mappings):
        assert (stream_index, device) == (0, CPU) and '"key_frame": 1' in custom_frame_mappings

    def get_frames_at(self, indices):
        data = torch.full((len(indices), 3, 48, 64), 128, dtype=torch.uint8)
        return SimpleNamespace(data=data, pts_seconds=torch.full((len(indices),), 3.3, dtype=torch.float64))


def use(monkeypatch, decoder) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=decoder))


def test_wrong_frames_of_a_decoder_are_decoded_on_the_cpu_with_a_warning(videos, monkeypatch, caplog):
    use(monkeypatch, FakeTorchCodec)
    clip = encoded(PyAVVideo(videos / "v0"), [20, 4])
    assert clip is not None
    found = decode_videos([clip, clip], CPU)
    expected = PyAVVideo(videos / "v0").read(np.array([20, 4]))
    assert all(torch.equal(frames, expected) for frames in found)
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith(f"WARNING: data.decode_on: h264 videos, such as {videos / 'v0'}, are decoded")
    assert "frames at [3.3, 3.3] s instead of [0.16, 0.8] s" in caplog.messages[0]


def test_validation_and_tests_decode_in_the_loader_processes(tmp_path, videos, monkeypatch):
    """A decoder that conceals damage would score it."""
    monkeypatch.setattr("datasets.loader.kinds_decoded_on", lambda *_: (VideoFrames,))
    monkeypatch.setattr("datasets.loader.decode", lambda clips, _: [torch.zeros(4, 3, 48, 64)] * len(clips))
    cfg = frame_config(tmp_path, num_videos=0, modality="video", **LATER)
    (tmp_path / "list.txt").write_text("v0 0\n")
    damaged = bytearray((videos / "v0").read_bytes())
    with PyAVVideo(videos / "v0") as source:
        packet = next(source._video.file.packets(18))
    for position in range(packet.pos + packet.size // 2, packet.pos + packet.size):
        damaged[position] ^= 0xFF
    use(monkeypatch, FakeTorchCodec)
    in_training = encoded(PyAVVideo(videos / "v0", "val.txt:7"), [22])
    (videos / "v0").write_bytes(damaged)
    assert in_training is not None
    with pytest.raises(UserError, match="v0 .listed at val.txt:7.: could not be decoded"):
        decode_videos([in_training], CPU)  # after torchcodec returned other frames
    for views in (None, build.Views()):
        with pytest.raises(UserError, match="v0 .*could not be decoded"):
            list(build.build_eval_loader(cfg, views=views).to(CPU))


def without_cuda(*_, **__):
    raise RuntimeError("Unsupported device: cuda:0\nand a second line")


@pytest.mark.parametrize(
    ("decoder", "version", "reason"),
    [
        (without_cuda, "0.17.0+cu130", "Unsupported device: cuda:0"),
        (without_cuda, "0.16.0", "version 0.16.0 may return corrupted frames; install 0.17 or later"),
        (None, "0.17.0", "No module named 'torchcodec'"),
    ],
)
def test_without_a_decoder_for_the_device_the_loader_processes_decode(
    tmp_path, videos, monkeypatch, caplog, decoder, version, reason
):
    monkeypatch.setattr(device_videos, "version", lambda _: version)
    if decoder is None:
        monkeypatch.setitem(sys.modules, "torchcodec", None)
        monkeypatch.delitem(sys.modules, "torchcodec.decoders", raising=False)
        reason = "torchcodec"
    else:
        use(monkeypatch, decoder)
    (tmp_path / "list.txt").write_text("v0 0\n")
    caplog.set_level(logging.INFO)
    found = []
    for more in ({}, LATER):
        cfg = frame_config(tmp_path, num_videos=0, modality="video", **more)
        (tmp_path / "list.txt").write_text("v0 0\n")
        loader = build.build_train_loader(cfg).to(CPU)
        loader.start_epoch(0)
        found.append(next(iter(loader))["frames"][0])
        loader.close()
    assert torch.equal(found[1], found[0])
    assert len(caplog.messages) == 1 and reason in caplog.messages[0] and "second line" not in caplog.messages[0]
    assert caplog.messages[0].startswith("data.decode_on: video files are decoded by the loader processes, because")


def test_a_machine_without_nvcuvid_does_not_decode_in_the_training_process(monkeypatch, caplog):
    """torchcodec decodes on the CPU without an exception."""
    needs("torchcodec")
    real = importlib.import_module("torchcodec.decoders").VideoDecoder

    class WithoutNvcuvid(real):
        cpu_fallback = "[CUDA] Fallback to CPU: NVcuvid unavailable"

        def __init__(self, path, *, device, **options):
            super().__init__(path, device="cpu", **options)

    use(monkeypatch, WithoutNvcuvid)
    assert fault_of(torch.device("cuda")) == WithoutNvcuvid.cpu_fallback
    assert fault_of(CPU) == "" and not caplog.records


def test_a_video_that_the_gpu_does_not_support_gives_a_warning(videos, monkeypatch, caplog):
    clip = encoded(PyAVVideo(videos / "v0"), [20, 4])
    assert clip is not None
    frames = torch.zeros(2, 3, *clip.size, dtype=torch.uint8)
    monkeypatch.setattr(device_videos, "_by_torchcodec", lambda *_: (frames, FakeTorchCodec.cpu_fallback))
    assert decode_videos([clip], CPU)[0] is frames
    assert f"decoded on the CPU by this process ({FakeTorchCodec.cpu_fallback})" in caplog.messages[0]


class FakeStream:
    device = torch.device("cuda", 1)
    calls: list = []

    def synchronize(self):
        self.calls.append("synchronize")


def test_threads_decode_on_the_gpu_and_stream_of_the_caller(videos, monkeypatch):
    clip = encoded(PyAVVideo(videos / "v0"), [20, 4])
    assert clip is not None
    stream = FakeStream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: stream.calls.append(device))
    monkeypatch.setattr(torch.cuda, "set_stream", stream.calls.append)
    monkeypatch.setattr(device_videos, "_decode", lambda clip, device: stream.calls.append(clip))
    decode_videos([clip], stream.device)
    assert stream.calls == [stream.device, stream, clip, "synchronize"]
    for _ in range(device_videos.NUM_THREADS + 2):
        decode_videos([clip], stream.device)
    assert stream.calls.count(stream.device) <= device_videos.NUM_THREADS  # kept from batch to batch
