from fractions import Fraction
from types import SimpleNamespace

from datasets.frame_clock import FrameClock, timed


def spans(stamps: list[int | None], rate: Fraction | None = Fraction(10)) -> list[tuple[float, float]]:
    """Begins and ends of frames with such time stamps, in tenths of a second."""
    frames = [SimpleNamespace(pts=stamp) for stamp in stamps]
    return [(float(begin), float(end)) for _, begin, end in timed(frames, FrameClock(Fraction(1, 10), rate))]


def test_times_count_from_the_first_frame():
    assert spans([50, 51, 55]) == [(0, 0.1), (0.1, 0.5), (0.5, 0.6)]


def test_a_frame_without_a_time_follows_by_the_rate():
    assert spans([None, None, None]) == [(0, 0.1), (0.1, 0.2), (0.2, 0.3)]
    assert spans([50, None, 53]) == [(0, 0.1), (0.1, 0.3), (0.3, 0.4)]


def test_timestamps_that_decrease_or_jump_are_ignored():
    clock = FrameClock(Fraction(1, 10), Fraction(10))
    assert [float(clock.time_of(stamp)) for stamp in (50, 51, 0, 1, 900, 901)] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert clock.num_jumps == 2
    assert spans([0, 600, 601]) == [(0, 60), (60, 60.1), (60.1, 60.2)]  # a still picture of a minute is possible


def test_an_impossible_frame_rate_is_ignored():
    """As of a file with two frames and 30 years between them."""
    assert spans([0, 10**10], Fraction(1, 10**9)) == [(0, 0.1), (0.1, 0.2)]
    assert spans([0, None], None) == [(0, 0.1), (0.1, 0.2)]
