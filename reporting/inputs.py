"""Inputs of the sections of a page: a run and one of its tests, or two tests on the same videos."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from modules.attribution import ShownClip
from reporting.confusion import confusion_matrix
from reporting.outcomes import McNemar, Outcomes, bootstrap, mcnemar
from reporting.run_folder import Run, TestResult


@dataclass(frozen=True)
class RunReport:
    """A run, and the test that the page shows in detail. `clips`: of some rows of the test's table; a text says why a
    video, or all of them, cannot be shown."""

    run: Run
    test: TestResult
    clips: dict[int, ShownClip | str] | str

    @cached_property
    def samples(self) -> dict[str, dict[str, np.ndarray]]:
        """Results of `bootstrap` for each test with one label per video, by name."""
        return {test.name: bootstrap(test.outcomes)[0] for test in self.run.tests if not test.is_multi_label}

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64 (K,K), from `confusion_matrix`."""
        return confusion_matrix(self.test.outcomes.labels, self.test.outcomes.predicted, len(self.test.class_names))


class Pair(NamedTuple):
    """Two tests of the same videos; `rows` int (N,): the row of the second test for each row of the first."""

    first: TestResult
    second: TestResult
    rows: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Two runs, and a test of each; "A" is the first, "B" the second. `clips`: of some rows of the first's table, as A
    saw them; a text says why they cannot be shown."""

    run: Run
    other: Run
    pair: Pair
    clips: dict[int, ShownClip | str] | str

    @property
    def names(self) -> tuple[str, str]:
        return f"A {self.run.name}", f"B {self.other.name}"

    @property
    def first(self) -> Outcomes:
        return self.pair.first.outcomes

    @cached_property
    def second(self) -> Outcomes:
        """In the order of the first test's rows."""
        return self.pair.second.outcomes.take(self.pair.rows)

    @cached_property
    def samples(self) -> list[dict[str, np.ndarray]]:
        """Scores of A and B over the same resamples of the videos."""
        return bootstrap(self.first, self.second)

    @cached_property
    def top1_test(self) -> McNemar:
        return mcnemar(self.first.is_top1, self.second.is_top1)


Subject = TypeVar("Subject", RunReport, Comparison)


@dataclass(frozen=True)
class Section(Generic[Subject]):
    """A section of a page: `id` for links to it, title, and the function that returns its content (Html or None)."""

    id: str
    title: str
    content: Callable[[Subject], Any]
