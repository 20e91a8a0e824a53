"""The entries of annotation lists, in a few arrays instead of objects.

A list of 10 million videos then takes a tenth of the memory, and loader processes forked from a training process share
it: Python writes a reference count into an object whenever it is used, which copies its page in each process.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import repeat
from typing import NamedTuple, SupportsIndex, overload

import numpy as np

from utils.odd_names import ODD_NAMES

NO_CLASS = "-"
"""The label of a video without classes in a multi-label list."""

Label = int | tuple[int, ...]
"""A class id, or in a multi-label list ascending class ids, possibly none."""


class ListEntry(NamedTuple):
    """One line of an annotation list.

    Attributes:
        path: frame folder or video file, relative to the root of the list.
        num_frames: number of frames in the list; 0: count the files, as in published lists
            (`datasets.build.read_entries`); None in a video list.
        label: class id in 0..K-1; for a multi-label list an ascending tuple of them, possibly empty.
        line: 1-based line number in the list.
        of_set: index of its set in data.sets.
        times: start and end of a segment of the video, in seconds; None: the whole video.
    """

    path: str
    num_frames: int | None
    label: Label
    line: int
    of_set: int = 0
    times: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The path, with start and end time if it is a segment; identifies the entry in a list."""
        return self.path if self.times is None else f"{self.path} {self.times[0]:.10g} {self.times[1]:.10g}"

    @property
    def classes(self) -> tuple[int, ...]:
        """The class ids of the label: one, or any number in a multi-label list."""
        return (self.label,) if isinstance(self.label, int) else self.label

    @property
    def text(self) -> str:
        """The entry as a line of a list, without line ending."""
        label = ",".join(map(str, self.classes)) or NO_CLASS
        return " ".join(str(field) for field in (self.name, self.num_frames, label) if field is not None)


_COLUMNS = ("path", "size", "num_frames", "label", "num_labels", "line", "of_set")
_NO_TIMES = (math.nan, math.nan)
_BLOCK = 2**12  # rows converted to Python numbers at a time


class Entries(Sequence[ListEntry]):
    """Entries in arrays, each created when it is accessed. Immutable.

    `entries[rows]` are the entries at a slice, an int array of positions or a bool array (N,). They share the paths and
    the classes of multi-label lists with `entries`.
    """

    def __init__(self, entries: Iterable[ListEntry]):
        paths, numbers, classes, times = bytearray(), array("q"), array("q"), array("d")
        for entry in entries:
            path = entry.path.encode("utf-8", ODD_NAMES)
            num_frames = -1 if entry.num_frames is None else entry.num_frames
            if isinstance(entry.label, int):
                label, num_labels = entry.label, -1
            else:
                label, num_labels = len(classes), len(entry.label)  # position of the first one, and their number
                classes.extend(entry.label)
            numbers.extend((len(paths), len(path), num_frames, label, num_labels, entry.line, entry.of_set))
            paths += path
            times.extend(entry.times or _NO_TIMES)
        self._paths = bytes(paths)  # UTF-8, without separators
        self._rows = compact_table(numbers, _COLUMNS)
        self._classes = np.array(classes, dtype=np.int64)
        # float64 (N,2), NaN for whole videos; None if all are whole
        self._times = None if np.isnan(times).all() else np.array(times).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "Entries": ...

    @overload
    def __getitem__(self, index: SupportsIndex) -> ListEntry: ...

    def __getitem__(self, index: SupportsIndex | slice | np.ndarray) -> "ListEntry | Entries":
        if isinstance(index, slice | np.ndarray):
            part = copy(self)
            part._rows = self._rows[index]
            part._times = None if self._times is None else self._times[index]
            return part
        return self._entry(self._rows[index].item(), None if self._times is None else self._times[index])

    def __iter__(self) -> Iterator[ListEntry]:
        for begin in range(0, len(self), _BLOCK):
            block = slice(begin, begin + _BLOCK)
            times = repeat(None) if self._times is None else self._times[block]
            yield from map(self._entry, self._rows[block].tolist(), times)

    def _entry(self, row: tuple[int, ...], times: np.ndarray | None) -> ListEntry:
        begin, size, num_frames, label, num_labels, line, of_set = row
        return ListEntry(
            self._paths[begin : begin + size].decode("utf-8", ODD_NAMES),
            None if num_frames < 0 else num_frames,
            label if num_labels < 0 else tuple(self._classes[label : label + num_labels].tolist()),
            line,
            of_set,
            None if times is None or np.isnan(times[0]) else (float(times[0]), float(times[1])),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory of all entries."""
        of_times = 0 if self._times is None else self._times.nbytes
        return len(self._paths) + self._rows.nbytes + self._classes.nbytes + of_times

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,), the class id of each entry of a list with a label per line."""
        assert (self._rows["num_labels"] < 0).all(), "a multi-label list"
        return self._rows["label"].astype(np.int64)

    @property
    def num_frames(self) -> np.ndarray:
        """int (N,); -1 in video lists."""
        return self._rows["num_frames"]

    @property
    def of_set(self) -> np.ndarray:
        """int (N,), the index of the set of each entry in data.sets."""
        return self._rows["of_set"]

    def sharing_classes(self, entry: ListEntry) -> "Entries":
        """The entries with a class of `entry`, or if it has none, those without."""
        if isinstance(entry.label, int):
            return self[self.labels == entry.label]
        begin, num_labels = self._rows["label"].astype(np.int64), self._rows["num_labels"]
        if not entry.label:
            return self[num_labels == 0]
        num_before = np.concatenate([[0], np.cumsum(np.isin(self._classes, entry.label))])
        return self[num_before[begin + num_labels] > num_before[begin]]


def compact_table(numbers: array, columns: Sequence[str]) -> np.ndarray:
    """A structured array (N,) of `numbers`, N rows of int64, in the smallest signed type of each column."""
    values = np.asarray(numbers).reshape(-1, len(columns))
    # int8 holds -128 to 127.
    types = [np.min_scalar_type(-1 - int(np.abs(column).max(initial=0))) for column in values.T]
    table = np.empty(len(values), dtype=list(zip(columns, types)))
    for name, column in zip(columns, values.T):
        table[name] = column
    return table
