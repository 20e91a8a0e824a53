import gc
import os

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange

from datasets.entries import ListEntry
from datasets.pyav_source import PyAVVideo
from datasets.readers import open_source
from datasets.sampling import train_uniform
from datasets.video_decoder import VideoDecoder
from tests.datasets.helpers import REAL_VIDEOS, VIDEOS_DIR, full_decode, needs, needs_real_videos, remux, write_video
from utils.errors import UserError
from utils.schema import DataConfig

DECODERS = ["pyav", "decord", "torchcodec"]


def opened(path, decoder: str = "pyav"):
    entry = ListEntry(path.name, None, 0, 7)
    return open_source(DataConfig(modality="video", decoder=decoder), path.parent, entry, "val.txt")


def assert_frames(source, indices, reference: np.ndarray) -> None:
    frames = source.read(np.asarray(indices))
    assert frames.dtype == torch.uint8
    assert frames.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(frames.permute(0, 2, 3, 1).numpy(), reference[indices])


@needs_real_videos
@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_clips_equal_a_full_sequential_decode(name):
    reference = full_decode(VIDEOS_DIR / name)
    num_frames = len(reference)
    assert num_frames == REAL_VIDEOS[name]
    rng = np.random.default_rng(0)
    with opened(VIDEOS_DIR / name) as source:
        assert source.num_frames == num_frames
        assert_frames(source, np.arange(num_frames), reference)
        assert_frames(source, [num_frames - 1], reference)
        assert_frames(source, [0], reference)
        # Every start once: the jumps to keyframes and the frames just before and after them.
        for index in range(0, num_frames, max(1, num_frames // 10)):
            assert_frames(source, [index], reference)
        for _ in range(3):
            assert_frames(source, rng.integers(num_frames, size=8), reference)
    for _ in range(10):  # as for training clips: options set before the first packet may persist
        with opened(VIDEOS_DIR / name) as source:
            assert_frames(source, train_uniform(num_frames, 8, rng), reference)


@needs_real_videos
def test_jumps_land_on_every_keyframe_of_a_real_clip():
    path = VIDEOS_DIR / "arm_wrestling.mp4"
    reference = full_decode(path)
    with opened(path) as source:
        for keyframe in (187, 230, 268):
            around = np.arange(keyframe - 2, keyframe + 3)
            assert_frames(source, around, reference)
            assert_frames(source, around[3:], reference)


@needs_real_videos
def test_a_jump_decodes_less_than_the_whole_clip(monkeypatch):
    with opened(VIDEOS_DIR / "arm_wrestling.mp4") as source:
        decoded = []
        monkeypatch.setattr(source._video, "_check", decoded.append)
        source.read(np.array([10, 270]))
    assert len(decoded) < 40


@needs_real_videos
def test_the_corrupted_clip_is_named():
    with pytest.raises(UserError) as error, opened(VIDEOS_DIR / "corrupted.mp4") as source:
        source.read(np.linspace(0, source.num_frames - 1, 8).astype(int))
    assert "corrupted.mp4 (listed at val.txt:7): " in str(error.value)
    assert "\n" not in str(error.value)


@needs_real_videos
@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "mpeg4_part2.avi", "av1_video.mkv"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.9])
def test_truncated_clips_are_named(tmp_path, name, share):
    data = (VIDEOS_DIR / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=name), opened(path) as source:
        source.read(np.arange(source.num_frames))


@needs_real_videos
def test_a_truncated_mp4_with_its_index_in_front(tmp_path):
    """Also where the cut lies in another stream's packets, or between packets."""
    path = tmp_path / "front.mp4"
    remux(VIDEOS_DIR / "two_streams_audio.mp4", path, all_streams=True, container_options={"movflags": "faststart"})
    with opened(path) as source:
        assert source.num_frames == len(full_decode(path))
    data = path.read_bytes()
    for share in np.linspace(0.1, 0.999, 12):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UserError, match=r"front\.mp4"), opened(path):
            pass


@needs_real_videos
def test_corrupted_bytes_never_lose_frames_silently(tmp_path):
    data = np.frombuffer((VIDEOS_DIR / "h264_10bits.mp4").read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.mp4"
    errors = 0
    for _ in range(40):
        damaged = data.copy()
        damaged[rng.integers(len(data), size=4)] ^= np.uint8(1 << rng.integers(8))
        path.write_bytes(damaged.tobytes())
        try:
            with opened(path) as source:
                frames = source.read(np.arange(source.num_frames))
                assert len(frames) == source.num_frames
        except UserError as error:
            errors += 1
            assert "damaged.mp4" in str(error)
    assert errors > 20


ENCODINGS = {
    "closed_gop.mp4": {"options": {"g": "12", "bf": "3"}},
    "open_gop.mp4": {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}},
    "open_gop_adaptive.mp4": {"options": {"x264-params": "open-gop=1:keyint=12:bframes=3"}, "pans": True},
    "open_gop_adaptive.mkv": {"options": {"x264-params": "open-gop=1:keyint=12:bframes=3"}, "pans": True},
    "intra_refresh.mp4": {"options": {"g": "10", "x264-params": "intra-refresh=1:keyint=10:bframes=0"}},
    "pyramid.mkv": {"options": {"x264-params": "keyint=15:bframes=7:b-adapt=0:b-pyramid=normal:ref=5"}},
    "h264.avi": {"options": {"g": "12", "bf": "2"}},
    "h264.ts": {"options": {"g": "12", "bf": "2"}},
    "b_frames.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "b_frames.mp4": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "one_frame.mp4": {"num_frames": 1},
    "one_frame.avi": {"num_frames": 1, "codec": "mpeg4"},
    "odd_size.mp4": {"size": (50, 70), "pix_fmt": "yuv444p"},
    "mjpeg.mkv": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "irregular.mkv": {"times": [i * i // 7 + i for i in range(40)]},
    "gray.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"}},
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20", "cpu-used": "8"},
    },
    "hevc.mkv": {"codec": "libx265", "options": {"x265-params": "keyint=12:open-gop=1:bframes=3:log-level=none"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"g": "12", "preset": "10"}, "size": (64, 64)},
    "av1.mp4": {"codec": "libsvtav1", "options": {"g": "12", "preset": "10"}, "size": (64, 64)},
}


@pytest.fixture
def ordinary_priority():
    """SVT-AV1, run by root, leaves the process, and all that it starts later, at the highest real-time priority."""
    yield
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.usefixtures("ordinary_priority")
@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_equal_a_full_sequential_decode(tmp_path, name):
    path = tmp_path / name
    how = {"num_frames": 40, **ENCODINGS[name]}
    try:
        write_video(path, **how)
    except av.error.EncoderNotFoundError:
        pytest.skip(f"this PyAV has no encoder {how['codec']}")
    reference = full_decode(path)
    assert len(reference) == how["num_frames"]
    with opened(path) as source:
        assert source.num_frames == len(reference)
        assert_frames(source, np.arange(len(reference)), reference)
        for index in range(len(reference)):
            assert_frames(source, [index], reference)
        for step in (5, 9, 13):
            assert_frames(source, np.arange(2 if len(reference) > 2 else 0, len(reference), step), reference)
    rng = np.random.default_rng(0)
    for _ in range(10):
        with opened(path) as source:
            assert_frames(source, train_uniform(len(reference), 4, rng), reference)


def test_the_decoder_is_opened_with_its_options(tmp_path, monkeypatch):
    """One thread, errors at corruption, no absurd sizes; options set after opening would have no effect."""
    path, damaged_path = tmp_path / "a.mp4", tmp_path / "damaged.mp4"
    write_video(path, 20, codec="mpeg4", options={"g": "10"})
    damaged = bytearray(path.read_bytes())
    with opened(path) as source:
        decoder = source._video._decoder
        assert decoder.is_open and decoder.thread_count == 1
        packet = next(source._video.file.packets(7))
        for position in range(packet.pos + packet.size // 2, packet.pos + packet.size):
            damaged[position] ^= 0xFF
    damaged_path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"damaged\.mp4 .*could not be decoded"), opened(damaged_path) as source:
        source.read(np.array([7, 15]))
    with pytest.raises(UserError, match=r"a\.mp4: a frame has 64x48 pixels, more than the limit of 3071"):
        VideoDecoder(path, max_pixels=48 * 64 - 1)


@pytest.mark.parametrize(("max_kept_bytes", "decodes"), [(2**20, 1), (0, 2)])
def test_a_container_without_times_is_decoded_once_while_its_frames_are_few(
    tmp_path, monkeypatch, max_kept_bytes, decodes
):
    path = tmp_path / "b_frames.avi"
    write_video(path, num_frames=12, codec="mpeg4", options={"g": "6", "bf": "2"})
    reference, starts, decode = full_decode(path), [], VideoDecoder._decode_all
    monkeypatch.setattr("datasets.video_decoder._MAX_KEPT_BYTES", max_kept_bytes)
    monkeypatch.setattr(VideoDecoder, "_decode_all", lambda video: starts.append(video) or decode(video))
    with opened(path) as source:
        assert_frames(source, [0, 3, 11, 3], reference)
    assert len(starts) == decodes


@pytest.mark.parametrize("first_packet", [13, 14, 18])
def test_a_stream_cut_out_of_the_middle(tmp_path, first_packet):
    """It starts inside an open group of pictures, so frames that refer to missing frames may or may not be decoded."""
    write_video(tmp_path / "whole.mp4", 40, **ENCODINGS["open_gop.mp4"])
    path = tmp_path / "cut.mkv"
    remux(tmp_path / "whole.mp4", path, first_packet=first_packet)
    try:
        with opened(path) as source:
            frames = source.read(np.arange(source.num_frames))
    except UserError as error:
        assert "cut.mkv" in str(error)
    else:
        assert np.array_equal(frames.permute(0, 2, 3, 1).numpy(), full_decode(path))


def test_an_edit_list_hides_frames(tmp_path):
    """Packets whose frames are not shown are not counted, since the decoder drops these frames."""
    write_video(tmp_path / "whole.mp4", 40, options={"g": "12", "bf": "2"})
    path = tmp_path / "edited.mp4"
    data = bytearray((tmp_path / "whole.mp4").read_bytes())
    media_time = data.index(b"elst") + 4 + 4 + 4 + 4  # type, version and flags, count, segment duration
    value = int.from_bytes(data[media_time : media_time + 4], "big")
    data[media_time : media_time + 4] = (value + 5 * 512).to_bytes(4, "big")
    path.write_bytes(data)
    reference = full_decode(path)
    assert len(reference) == 35
    with opened(path) as source:
        assert source.num_frames == 35
        for index in range(35):
            assert_frames(source, [index], reference)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_rotated_upright(tmp_path, decoder, degrees):
    """As phones store them: rotated, with the rotation in the track header."""
    needs(decoder)
    path = tmp_path / "sideways.mp4"
    write_video(path, 4, size=(64, 96))
    stored = full_decode(path)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version 0: times, ids, duration, then layers and volume
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]  # counter-clockwise
    turn = [cos << 16, -sin << 16, 0, sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turn)
    path.write_bytes(data)
    upright = np.rot90(stored, degrees // 90, axes=(1, 2))
    with opened(path, decoder) as source:
        frames = source.read(np.array([0, 3, 1])).permute(0, 2, 3, 1).numpy()
    assert frames.shape == upright[[0, 3, 1]].shape
    assert np.abs(frames.astype(int) - upright[[0, 3, 1]]).mean() < (1e-9 if decoder == "pyav" else 2)


def test_audio_only_empty_and_other_files(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"sound\.mp4 .*no video stream"):
        opened(path)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    for name in ("empty.mp4", "text.mp4"):
        with pytest.raises(UserError, match=f"{name} .listed at val.txt:7.: could not be decoded"):
            opened(tmp_path / name)


def test_a_folder_instead_of_a_video(tmp_path):
    with pytest.raises(UserError, match="is a folder; for folders of frames set data.modality"):
        opened(tmp_path)


def test_a_name_is_never_treated_as_a_url(tmp_path, monkeypatch):
    write_video(tmp_path / "concat:a|b.mp4", 3)
    monkeypatch.chdir(tmp_path)
    entry = ListEntry("concat:a|b.mp4", None, 0, 7)
    with open_source(DataConfig(modality="video"), "", entry) as source:
        assert source.num_frames == 3
    with pytest.raises(UserError, match="no such file"):
        open_source(DataConfig(modality="video"), "", ListEntry("http://127.0.0.1:9/a.mp4", None, 0, 7))


LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # ITU-R BT.709, BT.601, BT.2020 (ISO/IEC 23091-2)


@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("colour_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_colours_are_converted_by_the_matrix_and_range_of_the_stream(tmp_path, matrix, colour_range):
    """Expected values: ITU-R BT.709, item 3; luma coefficients of red and blue."""
    colour, (of_red, of_blue) = np.array([200, 40, 90]), LUMA[matrix]
    luma = np.array([of_red, 1 - of_red - of_blue, of_blue]) @ colour
    blue, red = (colour[2] - luma) / (2 - 2 * of_blue), (colour[0] - luma) / (2 - 2 * of_red)
    black, scales = (16, (219 / 255, 224 / 255)) if colour_range == ColorRange.MPEG else (0, (1, 1))
    levels = black + scales[0] * luma, 128 + scales[1] * blue, 128 + scales[1] * red
    planes = [np.full((rows, 64), round(level), np.uint8) for rows, level in zip((48, 12, 12), levels)]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.concatenate(planes), "yuv420p")))
        container.mux(stream.encode(None))
    with opened(tmp_path / "a.mp4") as source:
        assert np.abs(source.read(np.array([0]))[0].permute(1, 2, 0).numpy() - colour).max() <= 3


def test_a_change_of_size_within_a_video(tmp_path):
    for name, size in (("a.ts", (48, 64)), ("b.ts", (64, 96))):
        write_video(tmp_path / name, 10, size=size)
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with opened(path) as source:
        for indices in ([0, 5], [0, source.num_frames - 1], [source.num_frames - 1]):
            assert source.read(np.array(indices)).shape == (len(indices), 3, 48, 64)


def test_a_video_stream_without_frames(tmp_path):
    path = tmp_path / "none.mkv"
    write_video(tmp_path / "whole.mkv", 5)
    remux(tmp_path / "whole.mkv", path, first_packet=99)
    with pytest.raises(UserError, match="no frame|could not be decoded"):
        opened(path)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_missing_file(tmp_path, decoder):
    needs(decoder)
    with pytest.raises(UserError, match=r"gone\.mp4 \(listed at val\.txt:7\): no such file"):
        opened(tmp_path / "gone.mp4", decoder)


def test_files_are_closed(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, 5)
    source = PyAVVideo(path)
    source.read(np.array([1]))
    source.close()
    assert source._video.file._containers == [] and source._video.file._kept == []
    source.close()


def test_frames_are_freed_without_garbage_collection(tmp_path):
    write_video(tmp_path / "clip.mp4", 10)
    gc.collect()
    gc.disable()
    try:
        with opened(tmp_path / "clip.mp4") as source:
            source.read(np.arange(8))
        del source
        assert av.VideoFrame not in map(type, gc.get_objects())
    finally:
        gc.enable()


@needs_real_videos
@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_optional_decoders_give_the_same_frames(decoder):
    needs(decoder)
    path = VIDEOS_DIR / "cleaning_pool.mp4"
    with opened(path) as ours, opened(path, decoder) as theirs:
        assert theirs.num_frames == ours.num_frames
        frames = theirs.read(indices := np.array([290, 3, 3, 120]))
        assert frames.shape == (4, 3, 256, 340) and frames.dtype == torch.uint8
        assert frames.is_contiguous(memory_format=torch.channels_last)
        difference = (frames.int() - ours.read(indices).int()).abs().float()
    assert difference.mean() < 2  # colours are converted differently, by a level or two
