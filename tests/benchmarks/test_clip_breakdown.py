"""benchmarks/clip_breakdown.py accounts for the time of a clip."""

import pytest

from benchmarks import clip_breakdown
from benchmarks.clip_breakdown import STEPS, WHOLE, Clocks, measure
from benchmarks.frames_to_clips import datasets_of
from datasets.entries import Entries, ListEntry
from tests.datasets.helpers import write_frames


def test_the_steps_add_up_to_the_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_breakdown, "CLIPS", 16)
    write_frames(tmp_path / "v", 20, height=256, width=340)
    seconds = measure(datasets_of(tmp_path, Entries([ListEntry("v", 20, 0, 1)]))["training"], rounds=2)
    assert STEPS.keys() <= seconds.keys() and all(seconds[step] > 0 for step in STEPS)
    total = sum(seconds[step] for step in STEPS)
    assert 0.3 * seconds[WHOLE] < total < 3 * seconds[WHOLE]


def test_a_step_does_not_count_those_that_it_calls(monkeypatch):
    now = iter([0, 10, 30, 35])  # ns: outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(clip_breakdown.time, "perf_counter_ns", lambda: next(now))
    clocks = Clocks()
    inner = clocks._timed("inner", lambda: None)
    clocks._timed("outer", inner)()
    assert clocks.seconds == pytest.approx({"inner": 20e-9, "outer": 15e-9})
