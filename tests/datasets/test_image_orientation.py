"""Rotated photos: pixels equal those that Pillow rotates by the EXIF orientation."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from datasets.image_decoding import decode_image, is_upright, plain_jpeg_size
from tests.datasets.helpers import picture


def photo(orientation: int) -> bytes:
    """JPEG bytes of a picture whose EXIF data ask for a turn or a mirror (1 to 8)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(picture(3, 32, 48).permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_rotated_upright(orientation):
    data = photo(orientation)
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    pixels = decode_image(data, "a.jpg")
    assert pixels.shape == expected.shape
    assert np.abs(pixels.numpy().astype(int) - expected).mean() < 1
    memory = []

    def target(height, width):
        memory.append(torch.empty((height, width, 3), dtype=torch.uint8))
        return memory[-1]

    assert decode_image(data, "a.jpg", target) is memory[0] and torch.equal(memory[0], pixels)
    assert is_upright(data) == (orientation == 1)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_missing_orientation_is_ignored(value):
    assert is_upright(photo(value))


def test_truncated_exif_data_is_ignored():
    data = photo(6)
    at = data.index(b"Exif\0\0") + 10
    assert is_upright(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])


def test_jpegs_of_rgb_are_not_for_decoders_on_the_device():
    """libjpeg takes three components for RGB by the Adobe segment or by their identifiers; other decoders may not."""
    content = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(content, "JPEG")
    jfif = content.getvalue()
    assert jfif[2:4] == b"\xff\xe0"
    plain = b"\xff\xd8" + jfif[20:]  # without the JFIF segment
    adobe = [b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]) + jfif[20:] for transform in (0, 1)]
    frame = plain.index(b"\xff\xc0")
    named = bytearray(plain)
    named[frame + 10 : frame + 19 : 3] = b"RGB"
    sizes = [plain_jpeg_size(bytes(data)) for data in (jfif, plain, *adobe, named)]
    assert sizes == [(30, 40), (30, 40), None, (30, 40), None]
