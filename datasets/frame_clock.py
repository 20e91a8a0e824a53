"""When each frame of a video is shown: time stamps that may be absent, go back or jump, as seconds from 0 on."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import av

MAX_GAP_SECONDS = 60
"""Between two frames. A larger step, and a step back, is a fault of the clock (recordings that were joined, or began at
another time): the next frame then follows by the frame rate."""
_USUAL_RATE = 25


class FrameClock:
    """Times of the frames of one video, asked for in the order of showing.

    Args:
        time_base: seconds a unit of time stamps.
        rate: frames a second, as the file says it; None: it does not.

    Attributes:
        num_jumps: steps of the clock that were left out so far.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None):
        self._time_base = Fraction(time_base)
        step = 1 / Fraction(rate) if rate and 1 / Fraction(rate) <= MAX_GAP_SECONDS else Fraction(1, _USUAL_RATE)
        self._step = max(1, round(step / self._time_base))
        self._max_gap = MAX_GAP_SECONDS / self._time_base
        self._stamp: int | None = None
        self._ticks = -self._step
        self.num_jumps = 0

    def time_of(self, stamp: int | None) -> Fraction:
        """Seconds at which the next frame is shown; 0 for the first.

        Args:
            stamp: its time stamp in units of the time base, or None where it has none.
        """
        if self._stamp is None:  # the first frame, or none before it had a stamp
            self._ticks += self._step
            self._stamp = stamp
        else:
            gap = self._step if stamp is None else stamp - self._stamp
            if not 0 <= gap <= self._max_gap:
                gap = self._step
                self.num_jumps += 1
            self._ticks += gap
            self._stamp = self._stamp + gap if stamp is None else stamp
        return self._ticks * self._time_base

    def end(self) -> Fraction:
        """Seconds at which the last frame that was asked for ends, if no other follows: by the frame rate."""
        return (self._ticks + self._step) * self._time_base


class TimedFrame(NamedTuple):
    """A decoded frame, shown from `begin` to `end` (seconds from the first frame's showing on)."""

    image: av.VideoFrame
    begin: Fraction
    end: Fraction


def timed(frames: Iterable[av.VideoFrame], clock: FrameClock, *, by_dts: bool = False) -> Iterator[TimedFrame]:
    """Each frame with its times, as soon as the next one is there; by the frames' times of decoding if `by_dts`."""
    previous, begin = None, Fraction(0)
    for frame in frames:
        time = clock.time_of(frame.dts if by_dts else frame.pts)
        if previous is not None:
            yield TimedFrame(previous, begin, time)
        previous, begin = frame, time
    if previous is not None:
        yield TimedFrame(previous, begin, clock.end())
