"""Frame sampling: pure functions that return 0-based int64 indices.

Legend: N frames in the video, T segments (`num_segments`), L consecutive frames per segment (`seg_length`).
The rules are those of the published code, and `linspace`; random ones take a NumPy Generator.
With L > 1 each index is followed by the next L-1 frames, up to the last frame of the video.
"""

import itertools

import numpy as np

DENSE_WINDOW = 128
"""Number of frames spanned by a dense (I3D-like) clip."""


def train_uniform(num_frames: int, num_segments: int, rng: np.random.Generator, seg_length: int = 1) -> np.ndarray:
    """(T*L,): a random position in each of T equal segments; `tick_i = i*N // T`.

    For a video of at most T*L frames: all its frames and random repeats, sorted.
    """
    _check(num_frames, num_segments, seg_length)
    wanted = num_segments * seg_length
    if num_frames <= wanted:
        repeats = rng.integers(num_frames, size=wanted - num_frames)
        return np.sort(np.concatenate([np.arange(num_frames), repeats]))
    ticks = [segment * num_frames // num_segments for segment in range(num_segments + 1)]
    num_starts = [max(end - begin - seg_length, 0) + 1 for begin, end in itertools.pairwise(ticks)]
    return _follow(ticks[:-1] + rng.integers(num_starts), num_frames, seg_length)


def val_uniform(num_frames: int, num_segments: int, seg_length: int = 1) -> np.ndarray:
    """(T*L,): `int(N/T * i) % N` for i in 0..T-1."""
    _check(num_frames, num_segments, seg_length)
    starts = (num_frames / num_segments * np.arange(num_segments)).astype(np.int64) % num_frames
    return _follow(starts, num_frames, seg_length)


def test_uniform(num_frames: int, num_segments: int, num_clips: int, seg_length: int = 1) -> np.ndarray:
    """(clips*T*L,): clip c starts at floor(`linspace(0, N/T - 1, clips)[c]`), with steps of N/T, modulo N."""
    _check(num_frames, num_segments, seg_length)
    step = num_frames / num_segments
    # Rounded down, not towards zero: the starts are negative if N < T (golden values, N = 3).
    starts = np.floor(np.linspace(0, step - 1, num_clips))
    # Truncated towards zero, like int() in the published code.
    indices = (starts[:, None] + step * np.arange(num_segments)).astype(np.int64) % num_frames
    return _follow(indices.reshape(-1), num_frames, seg_length)


def linspace(num_frames: int, num_segments: int, seg_length: int = 1) -> np.ndarray:
    """(T*L,): `int(i (N-1) / (T-1))` for i in 0..T-1, from the first frame to the last (PE-Core, arXiv 2504.13181); the
    first frame if T = 1."""
    _check(num_frames, num_segments, seg_length)
    starts = np.arange(num_segments) * (num_frames - 1) // max(1, num_segments - 1)
    return _follow(starts, num_frames, seg_length)


def dense_random(num_frames: int, num_segments: int, rng: np.random.Generator, seg_length: int = 1) -> np.ndarray:
    """(T*L,): training and validation: a window of 128 frames at a random start, every 128//T-th frame, modulo N.

    As in the published code, the start is below N - 128, so the last frame of a longer video is not used.
    """
    _check(num_frames, num_segments, seg_length)
    start = rng.integers(max(1, num_frames - DENSE_WINDOW))
    return _dense(np.array([start]), num_frames, num_segments, seg_length)


def dense_test(num_frames: int, num_segments: int, num_clips: int, seg_length: int = 1) -> np.ndarray:
    """(clips*T*L,): dense windows at `c * floor(max(0, N-128) / (clips-1))`; a single clip starts at 0."""
    _check(num_frames, num_segments, seg_length)
    stride = max(0, num_frames - DENSE_WINDOW) // max(1, num_clips - 1)
    return _dense(np.arange(num_clips) * stride, num_frames, num_segments, seg_length)


test_uniform.__test__ = False  # pytest would collect the name


def _dense(starts: np.ndarray, num_frames: int, num_segments: int, seg_length: int) -> np.ndarray:
    interval = max(1, DENSE_WINDOW // num_segments)
    indices = (starts[:, None] + interval * np.arange(num_segments)) % num_frames
    return _follow(indices.reshape(-1), num_frames, seg_length)


def _follow(starts: np.ndarray, num_frames: int, seg_length: int) -> np.ndarray:
    """Each start and the next seg_length - 1 frames, limited to the last frame. (n,) -> (n * seg_length,) int64."""
    if seg_length == 1:
        return starts.astype(np.int64)
    indices = starts.astype(np.int64)[:, None] + np.arange(seg_length)
    return np.minimum(indices, num_frames - 1).reshape(-1)


def _check(num_frames: int, num_segments: int, seg_length: int) -> None:
    assert num_frames >= 1, f"a video of {num_frames} frames cannot be sampled"
    assert num_segments >= 1 and seg_length >= 1
