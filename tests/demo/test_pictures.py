"""The demo's pictures, from frames and predictions that are made here."""

import numpy as np
import pytest
from PIL import Image

from demo.pictures import animate, draw_method, draw_summary, pick_clips
from demo.shapes_world import MOTIONS
from tests.datasets.helpers import write_frames


@pytest.fixture
def rows(tmp_path):
    made = []
    for number, motion in enumerate(MOTIONS):
        name, other = f"a {('star', 'circle')[number % 2]} {motion}", f"a cross {motion}"
        is_right = number > 1
        best = [name, other, "a square spinning"] if is_right else [other, name, "a square spinning"]
        row = {"path": f"clip{number}", "class": name, "correct": str(int(is_right))}
        row |= {f"top{rank + 1}": best[rank] for rank in range(3)}
        made.append(row | {"prob1": f"{0.9 - 0.05 * number:.2f}", "prob2": "0.05", "prob3": "0.001"})
        write_frames(tmp_path / "frames" / row["path"], 9, height=64, width=80)
    return made


def test_shown_clips_differ_and_the_last_is_the_most_confident_mistake(rows):
    picks = pick_clips(rows)
    assert len({row["path"] for row in picks}) == len(picks) == 5
    assert [row["correct"] for row in picks] == ["1", "1", "1", "1", "0"]
    assert picks[-1]["path"] == "clip0"


def test_the_summary_is_a_picture_of_its_size(rows, tmp_path):
    accuracy = dict.fromkeys(MOTIONS, 50.0)
    by_motion = {"Transf": accuracy, "None": dict.fromkeys(MOTIONS, 10.0)}
    draw_summary(tmp_path / "demo.png", tmp_path / "frames", rows, by_motion, (50.0, 10.0))
    with Image.open(tmp_path / "demo.png") as image:
        assert image.size == (1400, 812)
        assert len(np.unique(np.asarray(image.convert("L")))) > 50


def test_the_animation_plays_every_frame_and_stays_small(rows, tmp_path):
    animate(tmp_path / "demo.webp", tmp_path / "frames", rows)
    with Image.open(tmp_path / "demo.webp") as image:
        assert image.n_frames == 5 * 9 and image.info["loop"] == 0
    assert (tmp_path / "demo.webp").stat().st_size < 500_000


def test_the_diagram_is_a_picture(tmp_path):
    draw_method(tmp_path / "method.png")
    with Image.open(tmp_path / "method.png") as image:
        assert image.size == (1400, 520)
