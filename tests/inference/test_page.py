"""The result as HTML, and the text that becomes class names; without gradio."""

import numpy as np
import pytest
import torch

from inference.page import SessionTurns, result_html, split_names
from inference.timeline import VideoPrediction
from utils.errors import UserError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", None),
        (" \n ,", None),
        ("cooking, riding  a bike", ["cooking", "riding a bike"]),
        ("salt, pepper\n riding a bike \n\n", ["salt, pepper", "riding a bike"]),
    ],
)
def test_class_names_of_a_text(text, names):
    assert split_names(text) == names


def prediction(rows, names):
    rows = np.array(rows, dtype=np.float32)
    spans = np.stack([np.arange(len(rows)), np.arange(len(rows)) + 1], axis=1).astype(float)
    clip = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    return VideoPrediction("clip.mp4", spans, rows, names, clips=tuple((n, clip) for n in range(len(rows))))


def test_one_clip_has_bars_and_frames_and_no_timeline():
    page = result_html(prediction([[0.25, 0.75]], ["a", "b"]))
    assert '<p class="verdict">b</p>' in page and page.index("75.0%") < page.index("25.0%")
    assert page.count("<img") == 4 and "Timeline" not in page and 'src="data:image/jpeg' in page


def test_windows_make_a_timeline_of_segments():
    page = result_html(prediction([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]], ["a", "b"]))
    assert page.count('<i style="flex:') == 2 and "0:00.0 - 0:02.0" in page and page.count("<img") == 12


def test_names_are_escaped():
    page = result_html(prediction([[1.0, 0.0], [0.0, 1.0]], ["<script>alert(1)</script>", '"><b>']))
    assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page


def test_a_session_has_one_turn_at_a_time():
    turns = SessionTurns()
    with turns.take("a"), turns.take("b"), pytest.raises(UserError, match="not done yet"), turns.take("a"):
        pass
    with pytest.raises(ValueError), turns.take("a"):
        raise ValueError
    with turns.take("a"):
        pass
