"""Texts that are not UTF-8: file names may contain any bytes, which Python represents by surrogates."""

import re

ODD_NAMES = "surrogateescape"
"""How to decode and encode file names, as `errors` of `open`."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE_0 = 0xDC00  # represents the byte 0 (PEP 383)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode a text; one that was typed in another encoding contains surrogates."""
    return _SURROGATE.search(text) is None


def printable(text: str) -> str:
    r"""Escape what UTF-8 cannot encode: bytes of a file name as `\xe9`, other surrogates as `\ud800`."""
    return _SURROGATE.sub(_escaped, text)


def _escaped(surrogate: re.Match[str]) -> str:
    code = ord(surrogate[0])
    return f"\\x{code - _BYTE_0:02x}" if _BYTE_0 <= code <= _BYTE_0 + 0xFF else f"\\u{code:04x}"
