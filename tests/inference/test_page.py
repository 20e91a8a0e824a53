"""The result as HTML, and parsing of typed class names; without gradio."""

import base64
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inference.page import FAILED, SessionTurns, _answering, _uploaded_names
from inference.page_html import error_html, history_html, result_html
from inference.timeline import VideoPrediction
from modules.attribution import ShownClip
from utils.errors import UserError


def answer(rows, names, threshold=0.0, is_lit=True):
    rows = np.array(rows, dtype=np.float32)
    spans = np.stack([np.arange(len(rows)), np.arange(len(rows)) + 1], axis=1).astype(float)
    clip = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    shown = ShownClip(clip, torch.tensor([0.5, -2.0, 0.0, 1.0]), clip if is_lit else None)
    clips = tuple((number, shown) for number in range(len(rows)))
    return VideoPrediction("clip.mp4", spans, rows, names, threshold, clips)


def test_one_clip_has_bars_and_frames_and_no_timeline():
    page = result_html(answer([[0.25, 0.75]], ["a", "b"]))
    assert '<p class="verdict">b</p>' in page and page.index("75.0%") < page.index("25.0%")
    assert page.count("<img") == 8 and "Timeline" not in page and 'src="data:image/jpeg' in page
    assert result_html(answer([[0.25, 0.75]], ["a", "b"], is_lit=False)).count("<img") == 4
    assert "unknown: no class" in result_html(answer([[0.25, 0.75]], ["a", "b"], threshold=0.8))


def test_each_frame_has_a_bar_for_its_contribution():
    page = result_html(answer([[0.25, 0.75]], ["a", "b"]))
    found = re.findall(r'<i class="(\w+)" style="--share:([\d.]+)"></i><small>([^<]+)</small>', page)
    assert found[:2] == [("for", "0.250", "+0.5"), ("against", "1.000", "\u22122.0")]
    assert found[2:] == [("against", "0.000", "0.0"), ("for", "0.500", "+1.0")]


def test_a_result_is_saved_as_json_and_picture():
    page = result_html(answer([[0.25, 0.75]], ["a", "b"]))
    (content,) = re.findall(r'download="clip.json" href="data:application/json;base64,([^"]+)"', page)
    assert json.loads(base64.b64decode(content))["top"][0]["class"] == "b"
    assert 'data-picture="clip.png"' in page and "image/png" not in page  # drawn when it is used


def test_windows_make_a_timeline_of_segments():
    page = result_html(answer([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]], ["a", "b"]))
    assert page.count("flex:") == 2 and "0:00.0 - 0:02.0" in page and page.count("<img") == 24
    assert page.count('data-start="2.000"') == 3  # the block, the row and the strip of the second segment


def test_names_are_escaped():
    page = result_html(answer([[1.0, 0.0], [0.0, 1.0]], ["<script>alert(1)</script>", '"><b>']))
    assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page


def test_errors_and_the_history_are_escaped():
    assert "<b>" not in error_html("<b>.mp4: is damaged") and 'role="alert"' in error_html("x")
    page = history_html([("1.mp4", "a", 0.5), ("<b>.mp4", "c", 1.0)])
    assert "<b>" not in page and page.index("100%") < page.index("50%") and history_html([]) == ""


def test_a_bug_shows_one_lasting_line_and_is_logged(caplog):
    def predict(*arguments):
        raise RuntimeError("CUDA error in /srv/secret")

    request = SimpleNamespace(session_hash="a")
    ask = _answering(SimpleNamespace(Request=object), predict)
    shown, history, _ = ask("/srv/clip.mp4", [], 0, 0.0, [], request)
    assert shown == error_html(FAILED) and history == [] and "CUDA error" in caplog.text
    shown, _, _ = ask("/srv/clip.mp4", [], 0, 0.0, [], request)
    assert shown == error_html(FAILED)  # the turn was given back


@pytest.mark.parametrize(("typed", "names"), [([], None), ([" ", ""], None), (["run", "a, b"], ["run", "a, b"])])
def test_without_typed_names_the_classes_are_the_models_own(typed, names):
    passed = []

    def predict(video, names, *_):
        passed.append(names)
        raise UserError("enough")

    ask = _answering(SimpleNamespace(Request=object), predict)
    ask("clip.mp4", typed, 0, 0.0, [], SimpleNamespace(session_hash="a"))
    assert passed == [names]


def test_an_uploaded_list_of_names(tmp_path):
    (tmp_path / "names.txt").write_text(" riding  a bike\n\nsalt, pepper\n")
    assert _uploaded_names(None, str(tmp_path / "names.txt")) == ["riding a bike", "salt, pepper"]


def test_a_session_has_one_turn_at_a_time():
    turns = SessionTurns()
    with turns.take("a"), turns.take("b"), pytest.raises(UserError, match="still being processed"), turns.take("a"):
        pass
    with pytest.raises(ValueError), turns.take("a"):
        raise ValueError
    with turns.take("a"):
        pass
