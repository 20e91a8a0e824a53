"""Two tests of the same videos, matched row by row."""

import numpy as np

from modules.embed import VideoTable
from reporting.inputs import Pair
from reporting.run_folder import Run, TestResult
from utils.errors import UserError


def align(first: VideoTable, second: VideoTable) -> np.ndarray:
    """int64 (N,): for each row of the first table, the row of the second with the same path and label. Raises a
    UserError if they do not hold the same videos."""
    keys, others = (list(zip(t.paths, t.labels.tolist())) for t in (first, second))
    order, other_order = (sorted(range(len(k)), key=k.__getitem__) for k in (keys, others))
    rows = np.empty(len(keys), dtype=np.int64)
    if [keys[i] for i in order] == [others[i] for i in other_order]:
        rows[order] = other_order
        return rows
    in_one = sorted(set(keys) ^ set(others))
    example = f"; {in_one[0][0]} with label {in_one[0][1]} is in one of them" if in_one else ""
    raise UserError(
        f"the tests are not on the same videos ({len(keys)} and {len(others)}{example}), so they cannot be compared; "
        "test both runs on the same list"
    )


def pair_tests(run: Run, other: Run, name: str | None) -> Pair:
    """The tests to compare: those of a name, otherwise tests of the same videos, preferably with equal views, and most
    views. Raises a UserError if the test does not exist, or there are none on the same videos."""
    for test in [*run.tests, *other.tests]:
        if test.is_multi_label and name in (None, test.name):
            raise UserError(
                f"{test.folder}: is a multi-label test, and those are not compared; name tests with one label per "
                "video by --test, or make the report of one run"
            )
    if name is not None:
        first, second = run.test_named(name), other.test_named(name)
        return Pair(first, second, align(first.table, second.table))
    pairs = [(a, b) for a in run.tests for b in other.tests if _videos(a) == _videos(b)]
    if not pairs:
        align(run.main_test.table, other.main_test.table)  # raises an error with the differences
    first, second = min(pairs, key=lambda p: (p[0].scores["views"] != p[1].scores["views"], -p[0].num_views))
    return Pair(first, second, align(first.table, second.table))


def _videos(test: TestResult) -> list[tuple[str, int]]:
    return sorted(zip(test.table.paths, test.table.labels.tolist()))
