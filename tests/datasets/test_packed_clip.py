import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.entries import ListEntry
from datasets.image_decoding import decode_image
from datasets.packed_clip import PackedClip, is_packed_clip, write_packed_clip
from datasets.pyav_source import PyAVVideo
from datasets.readers import open_source
from tests.datasets.helpers import picture, write_video
from utils.errors import UserError
from utils.schema import DataConfig


def jpegs(num_frames: int, height: int = 48, width: int = 64) -> list[bytes]:
    encoded = []
    for seed in range(num_frames):
        buffer = io.BytesIO()
        Image.fromarray(picture(seed, height, width).permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return encoded


def packed(path, frames: list[bytes], step_ms: int = 40):
    assert write_packed_clip(path, ((data, step_ms * i) for i, data in enumerate(frames)), 64, 48) == len(frames)
    return path


def test_any_frame_equals_its_jpeg(tmp_path):
    frames = jpegs(12)
    path = packed(tmp_path / "a.mkv", frames)
    with open_source(DataConfig(modality="video"), tmp_path, ListEntry("a.mkv", None, 0, 3)) as source:
        assert isinstance(source, PackedClip)
        assert source.num_frames == 12
        clip = source.read(np.array([11, 0, 0, 5]))
    assert clip.shape == (4, 3, 48, 64) and clip.is_contiguous(memory_format=torch.channels_last)
    for frame, index in zip(clip, (11, 0, 0, 5)):
        assert torch.equal(frame.permute(1, 2, 0), decode_image(frames[index], ""))
    assert is_packed_clip(path)


@pytest.mark.parametrize("step_ms", [1, 40, 9000])
def test_other_players_can_open_it(tmp_path, monkeypatch, step_ms):
    """FFmpeg finds every frame, its time and its bytes, by playing and by seeking; also over many clusters."""
    monkeypatch.setattr("datasets.packed_clip._CLUSTER_BYTES", 9000)
    frames = jpegs(40)
    path = packed(tmp_path / "a.mkv", frames, step_ms)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("mjpeg", 64, 48)
        assert container.duration == 39 * step_ms * 1000
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert [bytes(packet) for packet in packets] == frames
        assert [packet.pts for packet in packets] == [i * step_ms for i in range(40)]
        assert all(packet.is_keyframe for packet in packets)
        container.seek(20 * step_ms, stream=stream)
        assert next(container.demux(stream)).pts == 20 * step_ms
    with PackedClip(path) as source, PyAVVideo(path) as video:
        assert source.num_frames == video.num_frames == 40
        indices = np.array([3, 39, 17])
        # FFmpeg decodes JPEG and converts its colours by other routines: a few levels, never another frame.
        assert (source.read(indices).int() - video.read(indices).int()).abs().float().mean() < 6


def test_only_requested_frames_are_read(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.mkv", jpegs(30))
    reads = []
    real = PackedClip._image
    monkeypatch.setattr(PackedClip, "_image", lambda self, index: reads.append(index) or real(self, index))
    with PackedClip(path) as source:
        source.read(np.array([29, 4, 4]))
    assert reads == [4, 29]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_clip_is_named(tmp_path, share):
    path = packed(tmp_path / "a.mkv", jpegs(12))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"a\.mkv \(listed at val\.txt:3\): the file is truncated"):
        open_source(DataConfig(modality="video"), tmp_path, ListEntry("a.mkv", None, 0, 3), "val.txt")


def test_an_unfinished_clip_is_refused(tmp_path):
    """As a run that was killed leaves it: the header has no sizes yet."""

    def frames():
        yield from ((data, 40 * i) for i, data in enumerate(jpegs(12)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_packed_clip(tmp_path / "a.mkv", frames(), 64, 48)
    with pytest.raises(UserError, match="truncated"):
        PackedClip(tmp_path / "a.mkv")


def test_corrupted_bytes_give_pixels_or_a_user_error(tmp_path):
    path = packed(tmp_path / "a.mkv", jpegs(5))
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    ends = np.r_[0:300, len(data) - 200 : len(data)]  # the header and the index
    errors = 0
    for _ in range(300):
        damaged = data.copy()
        damaged[rng.choice(ends, size=2)] = rng.integers(0, 256, 2)
        path.write_bytes(damaged.tobytes())
        if not is_packed_clip(path):
            continue
        try:
            with PackedClip(path) as source:
                assert source.read(np.arange(source.num_frames)).dtype == torch.uint8
        except UserError as error:
            errors += 1
            assert str(error).startswith(str(path))
    assert errors > 20


def test_a_corrupted_frame_is_named(tmp_path):
    path = packed(tmp_path / "a.mkv", [*jpegs(3), b"\xff\xd8 not a JPEG"])
    with PackedClip(path) as source:
        source.read(np.array([0, 2]))
        with pytest.raises(UserError, match=r"a\.mkv: frame 3: could not be decoded"):
            source.read(np.array([0, 3]))


def test_other_videos_are_not_packed_clips(tmp_path):
    write_video(tmp_path / "a.mkv", 3)
    write_video(tmp_path / "b.mkv", 3, codec="mjpeg", pix_fmt="yuvj420p")
    assert not is_packed_clip(tmp_path / "a.mkv")
    assert not is_packed_clip(tmp_path / "b.mkv")
    assert not is_packed_clip(tmp_path / "gone.mkv")
    assert not is_packed_clip(tmp_path)


def test_an_empty_clip_has_no_frames(tmp_path):
    packed(tmp_path / "a.mkv", [])
    with pytest.raises(UserError, match="no frames"):
        PackedClip(tmp_path / "a.mkv")
