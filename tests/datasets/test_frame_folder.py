import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import write_png

from datasets import frame_folder, frame_source, image_decoding
from datasets.entries import ListEntry
from datasets.frame_folder import FrameFolder
from datasets.readers import open_source
from tests.datasets.helpers import decode_image_file, picture, write_frames
from utils.errors import UserError
from utils.schema import DataConfig


def opened(tmp_path: Path, num_frames: int, **how):
    entry = ListEntry("v", num_frames, 0, 12)
    return open_source(DataConfig(**how), tmp_path, entry, "train.txt")


def close_to(image: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((image.int() - other.int()).abs().float().mean() < 6)


@pytest.mark.parametrize("png", [False, True])
def test_frames_in_any_order_channels_last(tmp_path, png):
    write_frames(tmp_path / "v", 5, png=png)
    with opened(tmp_path, 5, image_tmpl="img_{:05d}.png" if png else "img_{:05d}.jpg") as source:
        assert source.num_frames == 5
        frames = source.read(np.array([3, 0, 0, 4]))
    assert frames.shape == (4, 3, 48, 64)
    assert frames.dtype == torch.uint8
    assert frames.is_contiguous(memory_format=torch.channels_last)
    for frame, index in zip(frames, [3, 0, 0, 4]):
        assert torch.equal(frame, picture(index)) if png else close_to(frame, picture(index))


def test_number_of_the_first_frame(tmp_path):
    write_frames(tmp_path / "v", 3, first=0)
    assert close_to(opened(tmp_path, 3, index_bias=0).read(np.array([2]))[0], picture(2))


def as_rgb(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("mode", "extension"),
    [
        ("L", "jpg"),
        ("CMYK", "jpg"),
        ("RGB", "jpg"),
        ("P", "png"),
        ("L", "png"),
        ("LA", "png"),
        ("RGBA", "png"),
        ("1", "png"),
    ],
)
def test_colour_modes_become_rgb(tmp_path, mode, extension):
    image = Image.fromarray(picture(0).permute(1, 2, 0).numpy()).convert("RGB" if mode == "RGB" else mode)
    path = tmp_path / f"a.{extension}"
    image.save(path)
    decoded = decode_image_file(path).permute(2, 0, 1)
    assert decoded.shape == (3, 48, 64) and decoded.dtype == torch.uint8
    assert close_to(decoded, as_rgb(Image.open(path)))


def test_sixteen_bit_png(tmp_path):
    values = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    Image.fromarray(values).save(tmp_path / "a.png")
    decoded = decode_image_file(tmp_path / "a.png").permute(2, 0, 1)
    assert decoded.dtype == torch.uint8
    assert np.array_equal(decoded[0].numpy(), values >> 8)
    assert torch.equal(decoded[0], decoded[2])


def test_the_format_is_detected_from_the_content(tmp_path):
    write_png(picture(0), str(tmp_path / "a.jpg"))
    assert torch.equal(decode_image_file(tmp_path / "a.jpg").permute(2, 0, 1), picture(0))


def test_a_missing_frame_names_its_line_in_the_list(tmp_path):
    write_frames(tmp_path / "v", 5)
    with pytest.raises(UserError) as error:
        opened(tmp_path, 9).read(np.array([2, 7]))
    assert "img_00008.jpg (listed at train.txt:12): no such frame" in str(error.value)
    assert "gives 9 frames" in str(error.value)


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"v \(listed at train.txt:12\): no such folder"):
        opened(tmp_path, 9).read(np.array([2]))


def test_a_video_instead_of_a_folder(tmp_path):
    (tmp_path / "v").write_bytes(b"video")
    with pytest.raises(UserError, match="is a file, not a folder of frames; for video files set data.modality"):
        opened(tmp_path, 9).read(np.array([2]))


@pytest.mark.parametrize("png", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.95])
def test_truncated_images_name_the_file(tmp_path, share, png):
    write_frames(tmp_path / "v", 2, png=png, height=240, width=320)
    path = next((tmp_path / "v").glob("img_00001.*"))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError) as error:
        opened(tmp_path, 2, image_tmpl=f"img_{{:05d}}{path.suffix}").read(np.array([0, 1]))
    assert str(error.value).startswith(f"{path} (listed at train.txt:12): ")
    assert "\n" not in str(error.value)


def test_not_an_image_or_a_folder(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(UserError, match="neither a JPEG nor a PNG"):
        decode_image_file(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    with pytest.raises(UserError, match=r"b\.jpg: is not a file, but a folder"):
        decode_image_file(tmp_path / "b.jpg")
    with pytest.raises(UserError, match="no such file"):
        decode_image_file(tmp_path / "c.jpg")


def test_a_pipe_is_not_waited_for(tmp_path):
    write_frames(tmp_path / "v", 2)
    (tmp_path / "v" / "img_00002.jpg").unlink()
    os.mkfifo(tmp_path / "v" / "img_00002.jpg")
    with (
        opened(tmp_path, 2) as source,
        pytest.raises(UserError, match=r"img_00002.jpg .*: is not a file, but a folder, a pipe"),
    ):
        source.read(np.array([1]))


def test_files_are_read_in_groups(tmp_path, monkeypatch):
    """Few encoded frames of a long clip are in memory."""
    write_frames(tmp_path / "v", 35)
    waiting, most = 0, 0
    read, decode = frame_folder._read_file, frame_source.decode_image

    def count_read(*args):
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return read(*args)

    def count_decoded(*args):
        nonlocal waiting
        waiting -= 1
        return decode(*args)

    monkeypatch.setattr(frame_folder, "_read_file", count_read)
    monkeypatch.setattr(frame_source, "decode_image", count_decoded)
    with opened(tmp_path, 35) as source:
        clip = source.read(np.arange(35))
        assert (waiting, most) == (0, 16)
        assert all(torch.equal(clip[index], source.read(np.array([index]))[0]) for index in (0, 15, 16, 34))


def test_sizes_must_not_differ_within_a_clip(tmp_path):
    write_frames(tmp_path / "v", 2)
    write_frames(tmp_path / "w", 3, height=32, width=64)
    (tmp_path / "w" / "img_00003.jpg").rename(tmp_path / "v" / "img_00003.jpg")
    source = FrameFolder(tmp_path / "v", 3, "img_{:05d}.jpg")
    with pytest.raises(UserError, match="frame img_00003.jpg is 64x32, but other frames of the clip are 64x48"):
        source.read(np.array([0, 2]))


@pytest.mark.parametrize("size", [20, 300])
def test_missing_pixels_are_an_error(tmp_path, size):
    """libjpeg fills in missing pixels and prints a warning; a test would use the frame."""
    pytest.importorskip("simplejpeg")
    write_frames(tmp_path / "v", 1, height=240, width=320)
    path = tmp_path / "v" / "img_00001.jpg"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"img_00001.jpg: could not be decoded \(.*\); the file is corrupted"):
        decode_image_file(path)


def test_corrupted_bytes_give_pixels_or_a_user_error(tmp_path):
    write_frames(tmp_path / "v", 1)
    path = tmp_path / "v" / "img_00001.jpg"
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = data.copy()
        damaged[rng.integers(len(data), size=3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            assert decode_image_file(path).dtype == torch.uint8
        except UserError as error:
            assert str(error).startswith(str(path))


@pytest.mark.parametrize(("height", "width"), [(65500, 65500), (0, 64)])
@pytest.mark.parametrize("png", [False, True])
def test_an_absurd_size_is_refused_before_memory_is_allocated(tmp_path, png, height, width):
    write_frames(tmp_path / "v", 1, png=png)
    path = next((tmp_path / "v").iterdir())
    data = bytearray(path.read_bytes())
    if png:
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    else:
        frame_header = data.index(b"\xff\xc0")
        data[frame_header + 5 : frame_header + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"declares 65500x65500 pixels" if height else "no frame header"):
        decode_image_file(path)


def test_the_deprecation_of_torchvisions_decoders_is_silent(tmp_path):
    write_frames(tmp_path / "v", 1)
    code = (
        "import sys; from datasets.image_decoding import decode_image; decode_image(open(sys.argv[1], 'rb').read(), '')"
    )
    command = [sys.executable, "-W", "default::DeprecationWarning", "-c", code]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, tmp_path / "v" / "img_00001.jpg"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    assert "TorchVision" not in done.stderr


@pytest.mark.parametrize("case", ["RGB.jpg", "CMYK.jpg", "L.jpg", "P.png", "RGBA.png"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_every_decoder_gives_the_same_pixels(tmp_path, monkeypatch, case, subsampling):
    """Clips must not depend on the installed decoder: simplejpeg, otherwise torchvision, otherwise Pillow."""
    path = tmp_path / case
    image = Image.fromarray(picture(0).permute(1, 2, 0).numpy()).convert(path.stem)
    image.save(path, **({"subsampling": subsampling} if path.suffix == ".jpg" else {}))
    pixels = [decode_image_file(path)]
    for absent, value in (("simplejpeg", None), ("_HAS_TORCHVISION_DECODER", False)):
        monkeypatch.setattr(image_decoding, absent, value)
        pixels.append(decode_image_file(path))
    for other in pixels[1:]:
        assert other.dtype == torch.uint8 and other.shape == (48, 64, 3)
        assert (other.int() - pixels[0].int()).abs().max() <= (2 if case == "CMYK.jpg" else 0)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UserError, match=f"{case}: could not be decoded"):
        decode_image_file(path)


def test_a_jpeg_is_decoded_by_simplejpeg_where_it_is_installed(tmp_path, monkeypatch):
    simplejpeg = pytest.importorskip("simplejpeg")
    write_frames(tmp_path / "v", 4)
    calls = []
    real = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: calls.append(k["buffer"]) or real(*a, **k))
    frames = opened(tmp_path, 4).read(np.array([2, 0, 2]))
    # Straight into the clip's memory, each distinct frame once, at its first place.
    begin, frame_bytes = frames.data_ptr(), 48 * 64 * 3
    assert [buffer.ctypes.data - begin for buffer in calls] == [frame_bytes, 0]
    assert torch.equal(frames[0], frames[2])


def test_sixteen_bit_png_after_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr(image_decoding, "_HAS_TORCHVISION_DECODER", False)
    test_sixteen_bit_png(tmp_path)
