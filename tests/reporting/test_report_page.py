"""The report's pages as text: contents, no external resources, escaping. tests/browser opens them."""

import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from modules.attribution import ShownClip
from reporting import charts, comparison_page, run_page
from reporting.comparison.opening import rows_to_show as rows_of_two
from reporting.html import Html, data_block, el, number, table
from reporting.outcomes import ReliabilityBin
from reporting.pairing import pair_tests
from reporting.run_folder import read_run
from reporting.sections import embedding_map
from reporting.sections.strips import rows_to_show
from reporting.strips import jpeg_strip
from tests.reporting.report_runs import NASTY, make_table, write_run, write_test

SECTIONS = ["scores", "confusion", "mistakes", "frames", "calibration", "classes", "map", "curves", "recipe"]


class Read(HTMLParser):
    """The elements and text of a page, and the addresses that it loads."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.ids, self.loads, self.text, self._data_of, self.data = [], [], [], "", None, {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids.append(attrs.get("id"))
        self.loads += [attrs[name] for name in ("src", "href", "srcset", "data", "action") if attrs.get(name)]
        self._data_of = attrs.get("id") if attrs.get("type") == "application/json" else None

    def handle_data(self, data):
        if self._data_of:
            self.data[self._data_of] = json.loads(data)
            self._data_of = None
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("report") / '<i>&"run', spread=3.0)
    write_test(folder / "test_2x1", *make_table(60, 8, 3, 3.0, 1), views=(2, 1))
    return read_run(folder)


@pytest.fixture(scope="module")
def pages(run, tmp_path_factory):
    clip = ShownClip(torch.zeros(4, 3, 20, 20, dtype=torch.uint8), torch.tensor([0.5, -0.1, 0, 2]))
    rows = rows_to_show(run.main_test)
    clips = dict.fromkeys(rows, clip) | {rows[0]: "broken <file>"}
    other = read_run(write_run(tmp_path_factory.mktemp("report") / "other", seed=1))
    pair = pair_tests(run, other, "test_1x1")
    return {
        "run": run_page(run, run.main_test, clips),
        "no frames": run_page(run, run.main_test, "left out"),
        "pair": comparison_page(run, other, pair, dict.fromkeys(rows_of_two(pair), clip)),
    }


def test_a_page_contains_its_sections(pages):
    for name, sections in (("run", SECTIONS), ("no frames", [s for s in SECTIONS if s != "frames"])):
        page = Read(pages[name])
        assert [i for i in page.ids if i in SECTIONS] == sections
        assert {f"#{s}" for s in sections} <= set(page.loads)  # the contents link to each
    assert [i for i in Read(pages["pair"]).ids if i in ("difference", "only-b", "only-a", "settings")] == [
        "difference", "only-b", "only-a", "settings"
    ]  # fmt: skip


def test_nothing_is_loaded_from_other_servers(pages):
    for page in pages.values():
        assert all(address.startswith(("#", "data:")) for address in Read(page).loads)
        assert "@import" not in page and "url(" not in page and "http:" not in page and "https:" not in page
        assert 'content="default-src &#x27;none&#x27;; ' in page


def test_names_are_text_and_never_markup(pages):
    for page in pages.values():
        read = Read(page)
        assert '<i>&"run' in read.text and all(name in read.text for name in NASTY)
        assert not any(name in page for name in NASTY[:2])
        assert read.tags.count("i") == page.count("<i class=")  # only the page's own
    assert Read(pages["run"]).data["matrix-data"]["names"][:4] == list(NASTY)


def test_the_scores_on_the_page_equal_the_tests(pages, run):
    text = Read(pages["run"]).text
    outcomes = run.main_test.outcomes
    assert f"{100 * outcomes.is_top1.mean():.1f}%" in text and "Details of test test_2x1" in text
    assert "1 video could not be read." in text and "broken <file>" in text
    data = Read(pages["run"]).data
    cells = np.array(data["matrix-data"]["cells"]).reshape(-1, 3)
    assert cells[:, 2].sum() == 59 and cells[cells[:, 0] == cells[:, 1], 2].sum() == outcomes.is_top1.sum()
    assert sorted(data["matrix-data"]["orders"]["groups"]) == list(range(8))
    assert len(data["map-data"]["paths"]) == 59 and len(data["map-data"]["maps"]["PCA"]) == 2 * (59 + 8)
    assert Read(pages["run"]).tags.count("img") == len(rows_to_show(run.main_test)) - 1
    assert Read(pages["no frames"]).text.count("Not shown: left out") == 1


def test_score_tables_show_scores_first_and_name_the_weights(pages):
    text = Read(pages["run"]).text
    scores = text[text.index("Scores of each test") : text.index("The range below a score")]
    assert scores.startswith("Scores of each testtesttop-1 %top-5 %")
    assert scores.count("last_model.pt") == 2


def test_the_comparison_counts_fixed_and_broken_videos(pages, run):
    text = Read(pages["pair"]).text
    assert "only B" in text and "Config keys that differ" not in text  # both have the same recipe
    other = comparison_page(run, run, pair_tests(run, run, "test_1x1"), "left out")
    assert "Both get the same videos right." in Read(other).text


def test_the_comparison_starts_with_a_video_that_only_one_run_classifies_correctly(pages, run):
    page = pages["pair"]
    opening = page[page.index("<header") : page.index("</header")]
    assert opening.count("data:image/jpeg") == 2 and page.count("data:image/jpeg") == 2
    assert opening.index("Only A ") < opening.index("Only B other is right") and "A: <i class=" in opening
    assert rows_of_two(pair_tests(run, run, "test_1x1")) == []


def test_a_large_table_is_sampled_for_its_map_and_fast(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_map, "MAP_VIDEOS", 100)
    run = read_run(write_run(tmp_path / "large", num_videos=4000, num_classes=100, spread=3.0))
    started = time.perf_counter()
    page = run_page(run, run.main_test, "left out")
    assert time.perf_counter() - started < 30 and len(page) < 1e6
    data = Read(page).data["map-data"]
    assert len(data["paths"]) == 100 and len(data["maps"]["t-SNE"]) == 400
    assert "100 of the 3,998 readable videos" in Read(page).text


def test_a_run_without_metrics_and_a_table_without_mistakes(tmp_path):
    folder = write_test(tmp_path / "test_1x1", *make_table(8, 4, spread=0.01))
    run = read_run(folder)
    text = Read(run_page(run, run.main_test, dict.fromkeys(rows_to_show(run.main_test), "gone"))).text
    assert "There is no metrics.jsonl" in text and "No video was classified wrongly" in text
    assert "recipe.yaml" in text and "No readable video was classified wrongly." in text


def test_elements_escape_text_and_attributes():
    assert el("p", '<b>&"', None, ["a", Html("<br>")], class_="x", title='"<') == (
        '<p class="x" title="&quot;&lt;">&lt;b&gt;&amp;&quot;a<br></p>'
    )
    assert el("input", data_filters="t", hidden=True, checked=False) == '<input data-filters="t" hidden>'
    block = data_block("d", {"n": "</script>&"})
    assert "</script>&" not in block and json.loads(block[block.index("{") : block.rindex("}") + 1]) == {
        "n": "</script>&"
    }
    with pytest.raises(ValueError, match="NaN|float"):
        data_block("d", [float("nan")])


def test_columns_of_numbers_sort_by_value():
    grid = table(["name", "n"], [["a", number(1234.5)], ["b", number(None)]], "t", "id", "Filter")
    assert 'data-value="1234.5" data-label="n" class="number">1,234.5<' in grid and 'data-value="-Infinity"' in grid


def test_smoothing_thinning_and_ticks():
    y = np.array([1.0, np.nan, 3, 5])
    assert charts.moving_mean(y, 2) == pytest.approx([1, 1, 3, 4])
    assert np.isnan(charts.moving_mean(np.array([np.nan, 1]), 1)[0])
    x = np.arange(10_000.0)
    line = charts.thinned(charts.Line("l", x, x, "a"))
    assert (
        len(line.x) == charts.MAX_POINTS
        and line.y == pytest.approx(line.x)
        and line.y.mean() == pytest.approx(x.mean())
    )
    assert charts.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert charts.ticks(3, 4700) == pytest.approx([1000, 2000, 3000, 4000])
    assert charts.ticks(0, 1e-4) == pytest.approx([0, 2e-5, 4e-5, 6e-5, 8e-5, 1e-4])


@pytest.mark.parametrize("high", [1.23 * 10.0**power for power in range(-8, 8)] + [1.2e-4, 1.54e-4, 0.00999, 9999])
def test_the_labels_of_an_axis_never_repeat(high):
    values = charts.ticks(0, high)
    labels = charts.tick_labels(values)
    assert len(set(labels)) == len(labels) == len(values) and max(map(len, labels)) <= 6
    assert [float(label.replace("k", "e3")) for label in labels] == pytest.approx(values)


def test_names_at_the_ends_of_lines_do_not_cover_each_other():
    x = np.arange(3.0)
    lines = [charts.Line(name, x, np.array([1, 1, y]), "a") for name, y in (("p", 1), ("q", 1.001), ("r", 0), ("s", 0))]
    chart = charts.line_chart(lines, "loss")
    heights = sorted(float(y) for y in re.findall(r'<text x="[^"]*" y="([^"]*)" class="name', chart))
    assert len(heights) == 4 and np.diff(heights).min() >= 14.9 and heights[-1] <= charts.HEIGHT


def test_a_line_has_a_gap_where_it_is_not_finite():
    y = np.array([1.0, np.inf, 2, 3])
    chart = charts.line_chart([charts.Line("loss", np.arange(4.0), y, "a")], "loss")
    path = chart.split('<path d="')[1].split('"')[0]
    assert path.count("M") == 2 and path.count("L") == 1
    assert "<svg" in charts.line_chart([charts.Line("one", np.array([5.0]), np.array([np.nan]), "a")], "loss")


def test_learning_rates_that_a_run_does_not_have_are_not_drawn(tmp_path):
    folder = write_run(tmp_path / "run", 12, 4)
    metrics = folder / "metrics.jsonl"
    metrics.write_text(re.sub(r'"lr_new": [^,]*, ', "", metrics.read_text()))
    run = read_run(folder)
    text = Read(run_page(run, run.main_test, "left out")).text
    curves = text[text.index("Learning rate by layers") :]
    assert "pretrained" in curves[:300] and "new" not in curves[:300]


def test_the_reliability_diagram_and_its_table_have_each_bin_with_videos():
    bins = [ReliabilityBin(0, float("nan"), float("nan")), ReliabilityBin(4, 0.75, 0.5)]
    diagram, histogram = charts.reliability_diagram(bins, "right"), charts.confidence_histogram(bins)
    assert diagram.count("<circle") == 1 and histogram.count(">4</text>") == 1 and "nan" not in diagram + histogram
    text = Read(charts.reliability_table(bins, "t")).text
    assert text.endswith("50 to 100475.050.0")


def test_strips_are_small_jpegs():
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (32, 3, 224, 224), dtype=np.uint8))  # noise
    address = jpeg_strip(frames)
    assert address.startswith("data:image/jpeg;base64,") and len(address) < 120_000
