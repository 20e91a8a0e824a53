"""Corrupted tables of embeddings give the right result or a one-line error that names the file."""

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.embed import VideoTable, load_table, save_table
from modules.scorers.scorer import Scorer, scorer_of
from tests.fuzz.settings import NUM_CASES, fuzz
from utils.errors import UserError

NUM_VIDEOS, DIM, NUM_CLASSES = 13, 8, 3
FEW = 20  # bytes, or bits, that one case damages


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Path of a sound table, and what was put into it."""
    path = tmp_path_factory.mktemp("tables") / "embeddings.npz"
    rng = np.random.default_rng(0)
    labels = np.arange(NUM_VIDEOS) % NUM_CLASSES
    embeddings, text = (rng.standard_normal((n, DIM)).astype(np.float32) for n in (NUM_VIDEOS, NUM_CLASSES))
    table = VideoTable([f"v{i:04d}.mp4" for i in range(NUM_VIDEOS)], labels, embeddings, 2.5)
    save_table(path, table, text, ["one", "two", "three"])
    return path, load_table(path)


def check(whole, data: bytes) -> bool:
    """Whether the table was read."""
    path = whole[0].with_name("damaged.npz")
    path.write_bytes(data)
    try:
        table, text, names = load_table(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return False
    expected, expected_text, expected_names = whole[1]
    assert table.paths == expected.paths and names == expected_names and table.seconds == expected.seconds
    for array, right in zip((*table[1:3], text), (*expected[1:3], expected_text)):
        assert array.dtype == right.dtype and np.array_equal(array, right)
    return True


def test_sound(whole):
    assert check(whole, whole[0].read_bytes())


@fuzz
@given(flips=st.lists(st.tuples(st.integers(0), st.integers(0, 7)), min_size=1, max_size=FEW))
def test_flipped_bits(whole, flips):
    data = bytearray(whole[0].read_bytes())
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    check(whole, bytes(data))


def test_each_of_many_single_bits(whole):
    """Headers of the archive and of the arrays take a good part of a small file: a random flip often hits them."""
    sound = whole[0].read_bytes()
    places = np.random.default_rng(0).integers(8 * len(sound), size=20 * NUM_CASES)
    num_read = 0
    for place in places.tolist():
        data = bytearray(sound)
        data[place // 8] ^= 1 << place % 8
        num_read += check(whole, bytes(data))
    assert 0 < num_read < len(places) / 2


@fuzz
@given(length=st.integers(0), tail=st.binary(max_size=FEW))
def test_truncated_and_overwritten(whole, length, tail):
    data = whole[0].read_bytes()
    length %= len(data)
    assert not check(whole, data[:length])
    check(whole, data[:length] + tail + data[length + len(tail) :])


@fuzz
@given(data=st.binary(max_size=200), magic=st.sampled_from([b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"PK\x05\x06"]))
def test_any_bytes(whole, data, magic):
    assert not check(whole, magic + data)


ARRAYS = {
    "labels": [np.zeros(NUM_VIDEOS), np.zeros(2, np.int64), np.zeros((NUM_VIDEOS, 1), np.int64), np.int64(1),
               np.full(NUM_VIDEOS, NUM_CLASSES), np.full(NUM_VIDEOS, -1)],
    "embeddings": [np.zeros((2, DIM), np.float32), np.zeros(NUM_VIDEOS, np.float32), np.zeros((NUM_VIDEOS, DIM))],
    "text": [np.zeros((NUM_CLASSES, DIM - 1), np.float32), np.zeros((NUM_CLASSES + 1, DIM), np.float32)],
    "class_names": [np.array(["one"]), np.arange(NUM_CLASSES), np.array("one")],
    "paths": [np.array(["v"] * 2), np.arange(NUM_VIDEOS), np.array([[b"v"]] * NUM_VIDEOS)],
    "seconds": [np.array("soon"), np.zeros(2)],
}  # fmt: skip


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, values in ARRAYS.items() for i in range(len(values))])
def test_arrays_that_do_not_fit(whole, name, number):
    with np.load(whole[0]) as file:
        arrays = dict(file)
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, name: ARRAYS[name][number]})
    assert not check(whole, buffer.getvalue())
    buffer = io.BytesIO()
    np.savez(buffer, **{key: value for key, value in arrays.items() if key != name})
    assert not check(whole, buffer.getvalue())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"text": np.full((NUM_CLASSES, DIM), np.nan, np.float32)}, "3 of 3 rows of text are zero or not finite"),
        ({"embeddings": np.zeros((NUM_VIDEOS, DIM), np.float32)}, "13 of 13 rows of embeddings are zero or not"),
        ({"recipe": np.array("[1]")}, "recipe is '[1]', not a config"),
        ({"recipe": np.array("a: [")}, "recipe is not valid YAML"),
        ({"labels": np.zeros((NUM_VIDEOS, NUM_CLASSES), np.int64)}, "no video has a class, so mAP is not defined"),
        ({"paths": np.zeros(0, "U1"), "labels": np.zeros(0, np.int64)}, "paths is empty"),
    ],
)
def test_values_that_no_test_writes(whole, change, fault):
    with np.load(whole[0]) as file:
        arrays = dict(file) | change
    path = whole[0].with_name("changed.npz")
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=re.escape(fault)) as caught:
        load_table(path)
    assert str(path) in str(caught.value)


def test_videos_without_embedding_are_allowed_with_one_label_only(whole):
    with np.load(whole[0]) as file:
        arrays = dict(file)
    arrays["embeddings"] = np.full_like(arrays["embeddings"], np.nan)
    path = whole[0].with_name("changed.npz")
    np.savez(path, **arrays)
    assert load_table(path)[0].is_missing.all()
    arrays["labels"] = np.eye(NUM_CLASSES, dtype=np.int64)[arrays["labels"]]
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="13 videos of a multi-label test have no embedding"):
        load_table(path)


@pytest.mark.parametrize("scorer", ["vcs", "xclip", "modulated", "unknown"])
def test_a_scorer_of_another_table_is_one_line(whole, scorer):
    table, text, _ = whole[1]
    table = table._replace(recipe=f"network: {{scorer: {scorer}}}")
    with pytest.raises(UserError, match="^table.npz: its scorer does not fit its embeddings"):
        scorer_of(table, "table.npz", text)


def test_a_fault_of_the_machine_is_not_one_of_the_table(whole, monkeypatch):
    def fail(name):
        raise MemoryError

    monkeypatch.setattr(Scorer, "named", fail)
    with pytest.raises(MemoryError):
        scorer_of(whole[1][0], "table.npz", whole[1][1])
