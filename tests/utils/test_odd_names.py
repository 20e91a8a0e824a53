"""utils/odd_names.py: texts that are not UTF-8."""

import os

import pytest

from utils.odd_names import is_utf8, printable


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (os.fsdecode(b"caf\xe9.mp4"), r"caf\xe9.mp4"),
        (os.fsdecode("视频".encode("gbk") + b".mp4"), r"\xca\xd3Ƶ.mp4"),  # two of its bytes are a letter in UTF-8
        ("a\ud800b", r"a\ud800b"),
    ],
)
def test_what_utf8_cannot_encode_is_escaped(text, escaped):
    assert not is_utf8(text) and is_utf8(escaped)
    assert printable(text) == escaped


def test_other_texts_stay():
    assert printable("café \\xe9\n视频") == "café \\xe9\n视频"
