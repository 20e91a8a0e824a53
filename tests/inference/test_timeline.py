"""Predictions: top classes, segments, tables, JSON and pictures."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from inference import pictures
from inference.pictures import draw_strips, draw_timeline
from inference.timeline import VideoPrediction, clock, csv_header
from modules.attribution import ShownClip

NAMES = ["riding a bike", "cooking", "swimming"]


def prediction(best: list[int], threshold: float = 0.0, probability: float = 0.8, **values) -> VideoPrediction:
    """Windows of 4 s every 2 s, each with one leading class."""
    rows = np.full((len(best), 3), (1 - probability) / 2)
    rows[np.arange(len(best)), best] = probability
    starts = 2.0 * np.arange(len(best))
    return VideoPrediction("film.mp4", np.stack([starts, starts + 4], axis=1), rows, NAMES, threshold, **values)


def test_segments_partition_the_video_and_merge_neighbours():
    segments = prediction([0, 0, 1, 1, 1, 0]).segments
    assert [(s.start, s.end, s.class_name) for s in segments] == [
        (0, 5, "riding a bike"), (5, 11, "cooking"), (11, 14, "riding a bike"),
    ]  # fmt: skip
    assert segments[0].probability == pytest.approx(0.8)


def test_a_last_window_that_overlaps_more_still_has_its_own_share():
    p = VideoPrediction("a", np.array([[0.0, 4], [4, 8], [6, 10]]), np.full((3, 3), 1 / 3), NAMES)
    assert p.shares().tolist() == [[0, 4], [4, 7], [7, 10]]


def test_below_the_threshold_is_unknown():
    p = prediction([0, 1], threshold=0.9)
    assert [s.class_name for s in p.segments] == ["unknown"]
    assert p.verdict() == ("unknown", pytest.approx(0.45))  # the mean over both windows
    assert "unknown (best class below 0.9)" in str(p)
    assert prediction([0, 1], threshold=0.8).verdict(0) == ("riding a bike", 0.8)


def test_top_is_sorted_and_weighted_by_time():
    p = prediction([0, 0, 2])
    assert [name for name, _ in p.top(2)] == ["riding a bike", "swimming"]
    assert sum(value for _, value in p.top(3)) == pytest.approx(1)
    assert p.top(1, window=2)[0][0] == "swimming"


def test_json_and_csv_have_the_documented_contents():
    p = prediction([0, 2])
    content = json.loads(json.dumps(p.to_dict(2)))
    assert list(content) == ["video", "class", "probability", "top", "segments", "windows"]
    assert content["segments"] == [
        {"start": 0.0, "end": 3.0, "class": "riding a bike", "probability": 0.8},
        {"start": 3.0, "end": 6.0, "class": "swimming", "probability": 0.8},
    ]
    assert content["windows"][1] == {"start": 2.0, "end": 6.0, "class": "swimming", "probability": 0.8}
    assert len(content["top"]) == 2
    header = csv_header(len(NAMES), 5)
    assert ",".join(header) == "video,start,end,class,top1,prob1,top2,prob2,top3,prob3"
    assert all(len(row) == len(header) for row in p.rows(5))
    assert p.rows(5)[1][:6] == ["film.mp4", "2.000", "6.000", "swimming", "swimming", "0.800000"]


def test_one_window_needs_no_table_of_segments():
    text = str(prediction([1]))
    assert text.splitlines()[0] == "film.mp4" and "from" not in text
    assert "from" in str(prediction([1, 1]))


def test_clock():
    assert [clock(s) for s in (0, 59.96, 61.25, 3723.4)] == ["0:00.0", "1:00.0", "1:01.2", "1:02:03.4"]


@pytest.mark.parametrize("num_windows", [1, 2, 40])
def test_pictures_of_any_length(tmp_path, num_windows):
    clips = tuple((i, ShownClip(torch.zeros(5, 3, 16, 16, dtype=torch.uint8))) for i in range(min(12, num_windows)))
    p = prediction([i % 3 for i in range(num_windows)], clips=clips)
    draw_strips(tmp_path / "a" / "strip.png", p)
    draw_timeline(tmp_path / "timeline.png", p)
    for path in (tmp_path / "a" / "strip.png", tmp_path / "timeline.png"):
        with Image.open(path) as image:
            image.load()
            assert image.width > 1200


def test_a_strip_shows_the_pixels_of_the_model(tmp_path):
    clip = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    clip[0, 0], clip[1, 2] = 255, 255  # a red frame, then a blue one
    draw_strips(tmp_path / "strip.png", prediction([0], clips=((0, ShownClip(clip)),)))
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB")).reshape(-1, 3).tolist()
    assert [255, 0, 0] in pixels and [0, 0, 255] in pixels


def test_bars_show_the_contribution_of_each_frame(tmp_path):
    """Blue up where a frame supports the class, orange down where it does not; none without contributions."""
    clip, found = torch.zeros(2, 3, 16, 16, dtype=torch.uint8), []
    for contributions in (None, torch.tensor([2.0, 1.0]), torch.tensor([2.0, -1.0])):
        clips = ((0, ShownClip(clip, contributions)),)
        draw_strips(tmp_path / "strip.png", prediction([0], clips=clips))
        pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"))[:, :280]  # left of the classes
        found.append([int((pixels == colour).all(axis=2).sum()) for colour in ([26, 98, 180], [177, 72, 11])])
    assert found[0] == [0, 0] and found[1][1] == 0 and found[2][0] > found[2][1] > 0
    assert found[1][0] == pytest.approx(found[2][0] + found[2][1], rel=0.1)


def test_names_with_formula_signs_are_drawn(tmp_path):
    p = VideoPrediction("$a_b.mp4", np.array([[0.0, 1], [1, 2]]), np.eye(2), ["$x$ 5", "under_score$"])
    draw_timeline(tmp_path / "timeline.png", p)
    assert (tmp_path / "timeline.png").exists()


def test_characters_without_a_glyph_are_reported_once(tmp_path, caplog):
    pictures._warn_missing_characters.cache_clear()
    p = VideoPrediction("a.mp4", np.array([[0.0, 1], [1, 2]]), np.eye(2), ["跑步", "running \N{RUNNER}"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("one.png", "two.png"):
            draw_timeline(tmp_path / name, p)
    assert caplog.text.count("the font lacks characters") == 1 and len(caplog.records) == 1


def test_a_strip_has_at_most_20_bars(tmp_path):
    heights = []
    for num_classes in (20, 400):
        rows = np.full((1, num_classes), 1 / num_classes)
        clips = ((0, ShownClip(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))),)
        p = VideoPrediction("a", np.array([[0.0, 1]]), rows, [f"c{i}" for i in range(num_classes)], 0.0, clips)
        draw_strips(tmp_path / "strip.png", p, k=400)
        heights.append(Image.open(tmp_path / "strip.png").height)
    assert heights[0] == heights[1] < 800
