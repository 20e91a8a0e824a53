"""Checks of an uploaded file by its header."""

from fractions import Fraction

import av
import numpy as np
import pytest

from inference.frame_streams import measure_seconds
from inference.upload import Limits, check_upload
from tests.datasets.helpers import write_video
from utils.errors import UserError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("upload") / "clip.mp4"
    write_video(path, 10, size=(36, 48))
    return path


def test_a_video_within_the_limits_is_accepted(video):
    check_upload(video, Limits())
    check_upload(video, Limits(max_pixels=36 * 48))


@pytest.mark.parametrize(
    ("limits", "part"),
    [
        (Limits(max_megabytes=1e-4), "more than 0.0001; shorten or compress it"),
        (Limits(max_seconds=0.1), "longer than 0.1 s; shorten it"),
        (Limits(max_pixels=36 * 48 - 1), "its frames have 48x36 pixels"),
    ],
)
def test_a_video_over_a_limit_is_refused(video, limits, part):
    with pytest.raises(UserError, match="^clip.mp4: ") as caught:
        check_upload(video, limits)
    assert part in str(caught.value) and str(video.parent) not in str(caught.value)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording as browsers make it: WebM with neither duration nor index."""
    path = tmp_path_factory.mktemp("camera") / "whole.webm"
    with av.open(str(path), "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 36, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((36, 48, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


CLUSTER = b"\x1f\x43\xb6\x75"  # the element that begins the frames


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        (lambda data, frames: b"", "is empty; upload it again, or record for at least a second"),
        (lambda data, frames: data[:4], "or record for at least a second"),
        (lambda data, frames: data[: frames - 8], "or record for at least a second"),
        (lambda data, frames: data[frames:], "or record for at least a second"),
        (
            lambda data, frames: data[: frames + 12],
            "its video stream has no frames; copy it again, or record for longer",
        ),
        (lambda data, frames: data, None),
    ],
    ids=["empty", "four bytes", "only a header", "no header", "no frame", "whole"],
)
def test_recordings_that_ended_too_soon(recording, tmp_path, part, fault):
    data = recording.read_bytes()
    path = tmp_path / "video.webm"
    path.write_bytes(part(data, data.index(CLUSTER)))
    if fault is None:
        check_upload(path, Limits())
        assert measure_seconds(str(path)) == Fraction(1, 5)
        return
    with pytest.raises(UserError, match="video.webm: ") as caught:
        check_upload(path, Limits())
        measure_seconds(str(path))
    assert fault in str(caught.value)


def test_two_hours_by_the_header_are_refused(tmp_path):
    """Two frames, two hours apart: some kilobytes."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 48, 36, "yuv420p"
        for time in (0, 7200):
            frame = av.VideoFrame.from_ndarray(np.zeros((36, 48, 3), dtype=np.uint8), format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError, match="long.mp4: lasts 2 h, longer than 10 min"):
        check_upload(path, Limits())


def test_huge_frames_are_refused(tmp_path):
    path = tmp_path / "huge.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8192, 8192, "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((8192, 8192), dtype=np.uint8), format="gray")
        container.mux(stream.encode(frame))
    with pytest.raises(UserError, match="8192x8192 pixels"):
        check_upload(path, Limits())


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("notes.txt", b"hello", "unsupported file type"),
        ("notes.mp4", b"hello\n" * 100, "is corrupted or not a video"),
        ("empty.mp4", b"", "is empty; upload it again"),
        ("picture.mp4", b"\x89PNG\r\n\x1a\n" + bytes(100), "corrupted or not a video"),
        (
            "list.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n",
            "corrupted or not a video",
        ),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "corrupted or not a video"),
    ],
)
def test_files_that_are_not_videos_are_refused(tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        check_upload(tmp_path / name, Limits())
    message = str(caught.value)
    assert message.startswith(name) and part in message and "passwd" not in message


def test_a_missing_upload(tmp_path):
    with pytest.raises(UserError, match="x.mp4: is no longer available"):
        check_upload(tmp_path / "x.mp4", Limits())
