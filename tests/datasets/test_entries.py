"""Lists in arrays: the same entries as objects, in little memory, which loader processes do not copy."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.list_memory import in_fork
from datasets.clip_cache import ClipCache
from datasets.clip_shards import COLUMNS, ClipShards
from datasets.entries import Entries, ListEntry
from tests.reading import read_video_list
from utils.errors import UserError

LISTS = {
    "frames": [ListEntry("a b/ü", 30, 0, 1), ListEntry("c", 0, 399, 3), ListEntry("", 10**14, 10**14, 4)],
    "videos": [ListEntry(f"{i}.mp4", None, i % 130, i + 1) for i in range(5000)],
    "sets": [ListEntry("a", 9, 1, 7, of_set=number) for number in (0, 1, 200)],
    "times": [
        ListEntry("a", None, 1, 1, 0, (0.0, 2.5)),
        ListEntry("a", None, 1, 2),
        ListEntry("b", 9, 0, 3, 1, (1, 9)),
    ],
    "multi-label": [ListEntry("a", 9, (), 1), ListEntry("b", 9, (0, 70_000), 2), ListEntry("c", 9, (5,), 3, 2, (1, 2))],
    "names that are not UTF-8": [ListEntry("caf\udce9.mp4", None, 0, 1)],
    "nothing": [],
}


@pytest.mark.parametrize("entries", LISTS.values(), ids=LISTS)
def test_entries_are_those_given(entries):
    compact = Entries(iter(entries))
    for one in (compact, pickle.loads(pickle.dumps(compact))):
        assert [*one] == entries and len(one) == len(entries)
        assert [one[place] for place in range(-len(entries), len(entries))] == entries * 2
        assert [*one[1:]] == entries[1:] and [*one[::-1]] == entries[::-1]
        if entries:
            assert [*one[np.array([0, -1, 0])]] == [entries[0], entries[-1], entries[0]]
            assert [*one[np.arange(len(entries)) == 1]] == entries[1:2]
            assert {type(field) for entry in one for field in entry} <= {str, int, tuple, type(None)}
        with pytest.raises(IndexError):
            one[len(entries)]


def test_columns():
    frames, several = Entries(LISTS["frames"]), Entries(LISTS["multi-label"])
    assert frames.labels.tolist() == [0, 399, 10**14] and frames.labels.dtype == np.int64
    assert frames.num_frames.tolist() == [30, 0, 10**14] and Entries(LISTS["videos"]).num_frames.max() == -1
    assert several.of_set.tolist() == [0, 0, 2]
    with pytest.raises(AssertionError, match="a multi-label list"):
        _ = several.labels


def test_entries_that_share_a_class():
    labels = [(0, 2), (), (1,), (2, 1), (5,), ()]
    several = Entries(ListEntry(str(i), None, label, i) for i, label in enumerate(labels))[::-1]
    shared = {entry.line: [other.line for other in several.sharing_classes(entry)] for entry in several}
    assert shared == {0: [3, 0], 1: [5, 1], 2: [3, 2], 3: [3, 2, 0], 4: [4], 5: [5, 1]}
    single = Entries(ListEntry(str(i), None, label, i) for i, label in enumerate([3, 1, 3]))
    assert [entry.line for entry in single.sharing_classes(single[0])] == [0, 2]


@pytest.fixture(scope="module")
def long_list(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    paths = [f"class{i % 400}/video_{i:07d}.mkv" for i in np.random.default_rng(0).permutation(100_000)]
    (folder / "list.txt").write_text("".join(f"{path} {i % 400}\n" for i, path in enumerate(paths)))
    rows = [f"{path},{i // 5000:06d}.tar,{i % 5000 * 2_000_000},1900000,300,0\n" for i, path in enumerate(paths)]
    (folder / "shards.csv").write_text(",".join(COLUMNS) + "\n" + "".join(rows))
    return folder


def test_memory_per_entry(long_list):
    """Beside the path: 4 bytes for its position, 1 for its length, 1 for num_frames, 2 and 1 for the class, 4 for the
    line, 1 for the set."""
    entries = read_video_list(long_list / "list.txt", 400)
    length = sum(len(entry.path) for entry in entries)
    assert entries.nbytes <= length + 14 * len(entries)
    assert len(pickle.dumps(entries)) < entries.nbytes + 2000  # for spawned loader processes
    shards = ClipShards(str(long_list), ClipCache(Path(), 0))
    # Beside the path: its position and length, checksum, number of the shard, offset in a file of 10 GB, size.
    assert len(pickle.dumps(shards)) < length + (4 + 1 + 4 + 1 + 8 + 4) * len(entries) + 4000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_forked_process_copies_little(long_list):
    entries, shards = read_video_list(long_list / "list.txt", 400), ClipShards(str(long_list), ClipCache(Path(), 0))
    unused, _ = in_fork(entries, shards, np.arange(0))
    private, _ = in_fork(entries, shards, np.arange(0, len(entries), 10))
    assert private - unused < 4e6  # an object per entry: 17e6


def test_shards_are_found_by_their_paths(long_list):
    lines = (long_list / "shards.csv").read_text().splitlines()[1:]
    paths = [line.split(",")[0] for line in lines]
    shards = ClipShards(str(long_list), ClipCache(Path(), 0))
    assert [*shards] == paths  # in the order of the index
    assert [path for path in paths if path not in shards] == [] and "class0" not in shards and "" not in shards
    assert shards.stamp(paths[7])[0] == 1_900_000 and shards.stamp("other") == (-1, -1)


def test_paths_with_the_same_checksum_are_distinguished(tmp_path):
    same = ["plumless", "buckeroo"]  # the same CRC-32
    (tmp_path / "shards.csv").write_text(
        ",".join(COLUMNS) + "\n" + "".join(f"{path},a.tar,{512 * row},{row},9,0\n" for row, path in enumerate(same))
    )
    shards = ClipShards(str(tmp_path), ClipCache(Path(), 0))
    assert [shards.stamp(path)[0] for path in same] == [0, 1] and [*shards] == same


def test_a_clip_listed_twice_in_the_index_is_an_error(tmp_path):
    lines = [f"{path},a.tar,0,9,9,0\n" for path in ("plumless", "a", "buckeroo", "plumless", "b")]
    (tmp_path / "shards.csv").write_text(",".join(COLUMNS) + "\n" + "".join(lines))
    with pytest.raises(UserError, match=r"shards.csv:5: is corrupted \(plumless is listed twice\); copy it again"):
        ClipShards(str(tmp_path), ClipCache(Path(), 0))
