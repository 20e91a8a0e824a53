"""Presentation times of frames in seconds from 0, from timestamps that may be missing, decrease or jump."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import av

MAX_GAP_SECONDS = 60
"""Maximum step between two frames. After a larger step or a step back (as in concatenated recordings), the frame rate
is used."""
_DEFAULT_RATE = 25


class FrameClock:
    """Times of the frames of one video, in presentation order.

    Args:
        time_base: seconds per unit of timestamps.
        rate: frame rate according to the file; None: unknown.

    Attributes:
        num_jumps: number of discontinuities so far.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None):
        self._time_base = Fraction(time_base)
        step = 1 / Fraction(rate) if rate and 1 / Fraction(rate) <= MAX_GAP_SECONDS else Fraction(1, _DEFAULT_RATE)
        self._step = max(1, round(step / self._time_base))
        self._max_gap = MAX_GAP_SECONDS / self._time_base
        self._stamp: int | None = None
        self._ticks = -self._step
        self.num_jumps = 0

    @property
    def step(self) -> Fraction:
        """Seconds from a frame to the next by the frame rate."""
        return self._step * self._time_base

    def time_of(self, stamp: int | None) -> Fraction:
        """Time of the next frame in seconds; 0 for the first. `stamp`: its timestamp in units of the time base, or
        None."""
        if self._stamp is None:  # the first frame, or the first with a timestamp
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
        """End of the last frame in seconds if no other follows, from the frame rate."""
        return (self._ticks + self._step) * self._time_base


class TimedFrame(NamedTuple):
    """A decoded frame, shown from `begin` to `end` (seconds from the first frame)."""

    image: av.VideoFrame
    begin: Fraction
    end: Fraction


def presentation_stamp(frame: av.VideoFrame) -> int | None:
    """The time at which a frame is shown, in units of its time base; None if unknown."""
    return frame.pts


def timed(
    frames: Iterable[av.VideoFrame],
    clock: FrameClock,
    stamp_of: Callable[[av.VideoFrame], int | None] = presentation_stamp,
) -> Iterator[TimedFrame]:
    """Yield each frame with its times, from the timestamp by `stamp_of`, once the next one is decoded."""
    previous, begin = None, Fraction(0)
    for frame in frames:
        time = clock.time_of(stamp_of(frame))
        if previous is not None:
            yield TimedFrame(previous, begin, time)
        previous, begin = frame, time
    if previous is not None:
        yield TimedFrame(previous, begin, clock.end())
