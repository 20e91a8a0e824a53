"""Text in the sections of a page, adding a section, and names of groups of classes."""

import re
from pathlib import Path

import numpy as np
import pytest

import reporting
from reporting import RunReport, Section, comparison_page, html, run_page
from reporting.comparison.opening import verdict as verdict_of_two
from reporting.confusion import cluster_classes, distinct_word, group_names
from reporting.html import count_of, el
from reporting.outcomes import McNemar, Outcomes, mcnemar
from reporting.pairing import pair_tests
from reporting.run_folder import read_run
from reporting.sections.calibration import in_words
from reporting.sections.embedding_map import cluster_names
from reporting.sections.opening import verdict
from tests.reporting.report_runs import make_table, write_run, write_test


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(write_run(tmp_path_factory.mktemp("sections") / "run", spread=3.0))


def test_a_section_is_added_by_a_function_and_a_line(run, monkeypatch):
    def sizes(report: RunReport):
        return el("p", f"{len(report.test.text)} classes & more")

    added = [Section("sizes", "Sizes", sizes), Section("nothing", "Left out", lambda report: None)]
    monkeypatch.setattr(reporting, "RUN_SECTIONS", [*added, *reporting.RUN_SECTIONS])
    page = run_page(run, run.main_test, "left out")
    assert '<section id="sizes"><h2>Sizes</h2><p>8 classes &amp; more</p></section>' in page
    assert '<a href="#sizes">Sizes</a>' in page and "Left out" not in page


def test_nouns_are_singular_for_one_and_nothing_is_shown_only_on_hover(tmp_path):
    """A run of a few steps, tested by one clip and several crops, with one mistake or none."""
    folder = write_run(tmp_path / "run", 12, 4, spread=0.1, num_unreadable=1)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:3] + lines[-1:]) + "\n")
    write_test(folder / "test_1x3", *make_table(12, 4, 0, 0.1, 1), views=(1, 3))
    run = read_run(folder)
    pair = pair_tests(run, run, None)
    for page in (run_page(run, run.main_test, "left out"), comparison_page(run, run, pair, "left out")):
        text = re.sub("<[^>]*>", "", page)
        assert "1 clip × 3 crops" in text and "Training loss" in text and "mean of" not in text
        assert not re.search(r"\b1 (clips|crops|steps|videos|views|rows|classes|groups|validations)\b", text)
        assert ' title="' not in page


@pytest.mark.parametrize("num_readable", [0, 1])
def test_a_test_with_too_few_readable_videos_for_a_temperature(tmp_path, num_readable):
    run = read_run(write_run(tmp_path / "run", 3, 4, num_unreadable=3 - num_readable))
    page = run_page(run, run.main_test, "left out")
    assert "expected calibration error" in page and "best temperature" not in page


class Report:
    """The parts of a `RunReport` that `verdict` uses, from labels and predictions."""

    def __init__(self, labels, predicted, names):
        labels, predicted = np.array(labels), np.array(predicted)
        ones = np.ones(len(labels), dtype=np.float32)
        is_right = labels == predicted
        outcomes = Outcomes(labels, predicted, ones, ones, is_right, is_right)
        self.test = type("Test", (), {"outcomes": outcomes, "class_names": names})
        self.confusion = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(self.confusion, (labels[predicted >= 0], predicted[predicted >= 0]), 1)


def test_the_summary_states_accuracy_and_confusions():
    names = ["run", "walk", "jump"]

    def text(labels, predicted, names=names):
        return "".join(verdict(Report(labels, predicted, names)))

    assert text([0, 1, 2], [0, 1, 2]) == "All 3 videos right."
    assert text([0, 1, 2, 2], [0, 1, 2, -1]) == "75.0% of 4 videos right. 1 video could not be read."
    assert text([0, 0, 1, 1], [0, 1, 0, 1]) == "50.0% of 4 videos right; it confuses “run” and “walk”."
    assert text([0] * 30 + [1], [0] * 29 + [1, 1]) == "96.8% of 31 videos right; it most often takes “run” for “walk”."
    six = ["throw a ball", "catch a ball", "hit a ball", "kick a ball", "sing", "hum", "read", "write", "sleep"]
    labels, predicted = [0, 1, 2, 3] * 4, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert text(labels, predicted, six) == "25.0% of 16 videos right; it confuses the 4 classes with “ball”."


def test_groups_are_named_after_their_distinctive_word():
    names = ["a star spinning", "a circle spinning", "a star growing", "a cross", "naïve", "日本語"]
    assert group_names([names[:2], names[3:], names[2:3]], names) == ["spinning (2)", "a cross + 2", "a star growing"]
    # The distinctive word is not used if it would be that of two groups.
    assert group_names([names[:2], names[:2]], names) == ["a star spinning + 1"] * 2
    assert distinct_word(["?", "!"], ["?", "!"]) is None and group_names([["?", "!"]], names) == ["? + 1"]


def test_clusters_have_each_class_once_and_group_similar_classes():
    _, text = make_table(10, 32)
    clusters = cluster_classes(np.zeros((32, 32), dtype=int), text, 8)
    assert sorted(c for cluster in clusters for c in cluster) == list(range(32))
    assert sorted(sorted(cluster) for cluster in clusters) == [list(range(i, i + 4)) for i in range(0, 32, 4)]
    confusion = np.eye(32, dtype=int) * 5
    confusion[0, 31] = confusion[31, 0] = 40  # confused, although their texts differ
    together = next(cluster for cluster in cluster_classes(confusion, text, 12) if 0 in cluster)
    assert 31 in together
    assert cluster_classes(np.ones((1, 1), dtype=int), text[:1], 8) == [[0]]


def test_clusters_of_a_map_are_located_at_their_videos():
    points = np.array([[0, 0], [0.1, 0], [0.05, 0], [1, 1], [1, 0.9], [0.9, 0.9]], dtype=np.float32)
    found = cluster_names(points, np.array([0, 0, 0, 1, 1, 0]), ["run", "walk", "no video"])
    assert sorted(found) == [[0.05, 0.0, "run"], [1.0, 0.9, "walk"]]
    assert cluster_names(points[:1], np.array([0]), ["run"]) == []


def test_calibration_in_words():
    confidence = np.array([0.9, 1, 0.7, 0.5, np.nan], dtype=np.float32)
    right = np.array([True, True, False, False, False])
    outcomes = Outcomes(np.zeros(5, int), np.array([0, 0, 1, 1, -1]), confidence, confidence, right, right)
    sentences = [re.sub("<[^>]*>", "", html.join(words)) for words in in_words(outcomes)]
    assert sentences == [
        "When it says 95%, it is right 100% of the time 2 videos",
        "When it says 70%, it is right 0% of the time 1 video",
        "When it says 50%, it is right 0% of the time 1 video",
    ]


def test_two_runs_differ_significantly_or_not():
    assert verdict_of_two(McNemar(5, 0, 0, 2, 1.0)) == "Both get the same videos right."
    first, second = np.arange(40) < 30, np.arange(40) >= 0
    assert verdict_of_two(mcnemar(first, second)).startswith("B is better")
    assert verdict_of_two(mcnemar(second, first)).startswith("A is better")
    assert "may well be chance" in verdict_of_two(mcnemar(first[27:32], second[27:32]))


def test_count_of_uses_the_plural():
    assert [count_of(1, "clip"), count_of(2, "class"), count_of(1000, "crop")] == ["1 clip", "2 classes", "1,000 crops"]


def luminance(colour: str) -> float:
    """Relative luminance of a colour such as #1a2b3c (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_the_palette_has_the_contrast_of_wcag_aa(mode):
    """Text of each colour on each background; the browser's check does not support the shadows of a box."""
    style = (Path(html.__file__).parent / "page" / "page.css").read_text(encoding="utf-8")
    found = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", style.split(":root {")[1 + mode].split("}")[0]))
    for ground in ("back", "panel"):
        for ink in ("text", "faint", "right", "wrong", "a", "b"):
            light, dark = sorted((luminance(found[ink]), luminance(found[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
