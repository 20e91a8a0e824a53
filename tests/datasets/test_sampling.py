import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets import sampling

frames = st.integers(1, 700)
segments = st.integers(1, 40)
lengths = st.integers(1, 3)
seeds = st.integers(0, 2**32)


@given(frames, segments, lengths, seeds)
def test_train_uniform_takes_each_segment_once(num_frames, num_segments, seg_length, seed):
    indices = sampling.train_uniform(num_frames, num_segments, np.random.default_rng(seed), seg_length)
    assert indices.dtype == np.int64
    assert indices.shape == (num_segments * seg_length,)
    if num_frames <= num_segments * seg_length:
        assert set(indices) == set(range(num_frames))
        assert indices.tolist() == sorted(indices)
    else:
        starts = indices[::seg_length]
        for i, start in enumerate(starts):
            first, end = i * num_frames // num_segments, (i + 1) * num_frames // num_segments
            assert first <= start < end
            run = indices[i * seg_length : (i + 1) * seg_length].tolist()
            assert run == [min(start + j, num_frames - 1) for j in range(seg_length)]


def test_train_uniform_reaches_every_frame_equally_often():
    rng = np.random.default_rng(0)
    counts = np.zeros(20)
    for _ in range(4000):
        counts[sampling.train_uniform(20, 4, rng)] += 1
    assert np.abs(counts / 4000 - 1 / 5).max() < 0.03


def test_train_uniform_repeats_of_a_short_video_are_random():
    rng = np.random.default_rng(0)
    assert len({tuple(sampling.train_uniform(3, 8, rng)) for _ in range(50)}) > 5


@given(frames, segments)
def test_val_uniform_is_the_published_formula(num_frames, num_segments):
    expected = [int(num_frames / num_segments * i) % num_frames for i in range(num_segments)]
    assert sampling.val_uniform(num_frames, num_segments).tolist() == expected


@given(frames, segments, st.integers(1, 12))
def test_test_uniform_starts_with_the_validation_clip(num_frames, num_segments, num_clips):
    indices = sampling.test_uniform(num_frames, num_segments, num_clips)
    assert indices.shape == (num_clips * num_segments,)
    assert indices.min() >= 0 and indices.max() < num_frames
    assert indices[:num_segments].tolist() == sampling.val_uniform(num_frames, num_segments).tolist()


@given(frames, segments, lengths, seeds)
def test_dense_random_stays_inside_one_window(num_frames, num_segments, seg_length, seed):
    indices = sampling.dense_random(num_frames, num_segments, np.random.default_rng(seed), seg_length)
    assert indices.shape == (num_segments * seg_length,)
    assert indices.min() >= 0 and indices.max() < num_frames
    if num_frames >= sampling.DENSE_WINDOW + seg_length:
        assert (np.diff(indices[::seg_length]) == sampling.DENSE_WINDOW // num_segments).all()


def test_dense_random_starts_where_the_published_code_does():
    rng = np.random.default_rng(0)
    for num_frames, expected in ((128, {0}), (129, {0}), (131, {0, 1, 2})):
        assert {int(sampling.dense_random(num_frames, 8, rng)[0]) for _ in range(100)} == expected


@given(frames, segments, st.integers(1, 12))
def test_dense_test_is_the_published_formula(num_frames, num_segments, num_clips):
    interval = 128 // num_segments
    starts = [c * (max(0, num_frames - 128) // (num_clips - 1)) if num_clips > 1 else 0 for c in range(num_clips)]
    expected = [(start + i * interval) % num_frames for start in starts for i in range(num_segments)]
    assert sampling.dense_test(num_frames, num_segments, num_clips).tolist() == expected


def test_segments_of_consecutive_frames():
    assert sampling.val_uniform(10, 2, seg_length=3).tolist() == [0, 1, 2, 5, 6, 7]
    assert sampling.val_uniform(4, 2, seg_length=3).tolist() == [0, 1, 2, 2, 3, 3]
    assert sampling.dense_test(10, 2, 1, seg_length=2).tolist() == [0, 1, 4, 5]


def test_an_empty_video_is_an_assertion_error():
    with pytest.raises(AssertionError):
        sampling.val_uniform(0, 8)


@pytest.mark.parametrize(
    "num_frames, num_segments, expected",
    [
        (300, 8, [0, 42, 85, 128, 170, 213, 256, 299]),
        (9, 4, [0, 2, 5, 8]),
        (3, 8, [0, 0, 0, 0, 1, 1, 1, 2]),
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (10, 1, [0]),
        (1, 4, [0, 0, 0, 0]),
    ],
)
def test_linspace_is_pe_cores_rule(num_frames, num_segments, expected):
    indices = sampling.linspace(num_frames, num_segments)
    assert indices.dtype == np.int64 and indices.tolist() == expected
    if num_segments > 1:
        assert expected == [int(i * (num_frames - 1) / (num_segments - 1)) for i in range(num_segments)]


def test_linspace_with_following_frames():
    assert sampling.linspace(10, 3, 2).tolist() == [0, 1, 4, 5, 9, 9]
