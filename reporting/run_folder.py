"""Reads a run folder and its tests, as written by train.py, test.py and test_zeroshot.py."""

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import PositiveInt, ValidationError

from modules.embed import VideoTable, load_table
from modules.scorers.scorer import Scorer, class_vectors, scorer_of
from reporting.outcomes import Outcomes, outcomes_of
from utils.config import load_config
from utils.errors import UserError
from utils.hashing import file_hash
from utils.recipe import changed_keys
from utils.records import Count, Keys, read_json, read_records
from utils.schema import Config, dotted_keys


class ViewKeys(Keys):
    clips: PositiveInt
    crops: PositiveInt
    dense: bool = False


class NetworkKeys(Keys):
    arch: str
    sim_header: str
    tm: str | Literal[False]
    joint_st: bool


class DataKeys(Keys):
    dense: bool


class ConfigKeys(Keys):
    """The keys of a config that are shown without checking it, since other versions may have others."""

    network: NetworkKeys
    data: DataKeys


class TestScores(Keys):
    """The scores of a list. The summary of test.py has these keys, too."""

    __test__ = False  # pytest would collect the name
    list: str
    views: ViewKeys
    config: ConfigKeys
    map: float | None = None
    num_videos: Count | None = None
    num_classes: Count | None = None
    full_top1: float | None = None
    full_top5: float | None = None
    half_top1_mean: float = math.nan
    half_top1_std: float = math.nan


class Summary(Keys):
    """summary.json of test.py, or of test_zeroshot.py with the scores of each list."""

    weights: str | None = None
    weights_hash: str | None = None
    tests: dict[str, TestScores] = {}


@dataclass(frozen=True)
class TestResult:
    """A folder of test results: the table, its class embeddings, and a description of the test.

    Attributes:
        text: float32 (K,D), or (K,S,D) depending on the scorer. class_names: K.
        scores: from summary.json: all of it for test.py, the entry of the first list for test_zeroshot.py.
        by_list: test_zeroshot.py's entries of this data set by their names, "config, list"; empty for test.py.
        weights, weights_hash: of the checkpoint; None without a checkpoint.
    """

    name: str
    folder: Path
    table: VideoTable
    text: np.ndarray
    class_names: list[str]
    scores: dict[str, Any]
    by_list: dict[str, dict[str, Any]]
    weights: str | None
    weights_hash: str | None

    __test__ = False  # pytest would collect the name

    @cached_property
    def scorer(self) -> Scorer:
        return scorer_of(self.table, self.folder / "embeddings.npz", self.text)

    @cached_property
    def logits(self) -> np.ndarray:
        """float32 (N,K); NaN: unreadable."""
        return self.scorer.table_logits(self.table.embeddings, self.text)

    @property
    def class_vectors(self) -> np.ndarray:
        """float32 (K,D), the embedding of each class."""
        return class_vectors(self.text)

    @cached_property
    def outcomes(self) -> Outcomes:
        return outcomes_of(self.logits, self.table.labels)

    @property
    def is_multi_label(self) -> bool:
        return self.table.labels.ndim == 2

    @property
    def is_zero_shot(self) -> bool:
        return bool(self.by_list)

    @property
    def lists(self) -> list[str]:
        """Paths of the annotation lists whose videos are in the table."""
        return [s["list"] for s in (self.by_list.values() if self.by_list else [self.scores])]

    @property
    def num_views(self) -> int:
        return self.scores["views"]["clips"] * self.scores["views"]["crops"]

    @property
    def shown_views(self) -> str:
        """Clips × crops."""
        views = self.scores["views"]
        shown = "1" if self.num_views == 1 else f"{views['clips']} × {views['crops']}"
        return f"{shown} dense" if views.get("dense") else shown

    def entries_of(self, rows: Sequence[int], entries: Iterable[Any]) -> list[Any]:
        """The list entries (with `path`) of some rows of the table. Raises a UserError if one is no longer listed."""
        listed = {entry.name: entry for entry in entries}
        paths = [self.table.paths[row] for row in rows]
        gone = [path for path in paths if path not in listed]
        if gone:
            raise UserError(f"{', '.join(self.lists)}: {gone[0]} is no longer listed there")
        return [listed[path] for path in paths]

    @property
    def config(self) -> Config:
        """The config of the test. Raises a UserError if it was written by a version with other keys."""
        try:
            return Config.model_validate(self.scores["config"])
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(str(part) for part in fault["loc"])
            raise UserError(f"{self.folder}/summary.json: config: {key}: {fault['msg']}; run the test again") from error


@dataclass(frozen=True)
class Run:
    """A run folder, or a single folder of test results. `config`: of the training; None: the folder holds none.
    `records`: the lines of metrics.jsonl; empty: there is none."""

    folder: Path
    config: Config | None
    records: list[dict[str, Any]]
    tests: list[TestResult]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def main_test(self) -> TestResult:
        """The test with most views; ties: tests on the training classes before zero-shot, then by name."""
        return min(self.tests, key=lambda t: (-t.num_views, t.is_zero_shot, t.name))

    def test_named(self, name: str | None) -> TestResult:
        """The test of a name; None: `main_test`. Raises a UserError if it does not exist."""
        if name is None:
            return self.main_test
        for test in self.tests:
            if test.name == name.rstrip("/"):
                return test
        raise UserError(f"--test {name}: no such test in {self.folder}; it has {', '.join(t.name for t in self.tests)}")


def read_run(folder: str | Path) -> Run:
    """Read a run folder, which contains folders of tests, or a single folder of test results.

    Raises:
        UserError: the folder does not exist, contains no test, or contains a corrupted file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a run folder of train.py or the results folder of test.py")
    config_path = folder / "config.yaml"
    config = load_config(config_path, purpose="predict").config if config_path.exists() else None
    if (folder / "embeddings.npz").exists():
        tables = [folder / "embeddings.npz"]
    else:
        tables = sorted(folder.glob("*/embeddings.npz")) + sorted(folder.glob("*/*/embeddings.npz"))
        runs = sorted(path.parent for path in folder.glob("*/config.yaml"))
        if runs and not config_path.exists():
            examples = ", ".join(str(path) for path in runs[:8])
            raise UserError(f"{folder}: contains {len(runs)} runs; give one of them, or two to compare: {examples}")
    if not tables:
        weights = next((n for n in ("best_model.pt", "last_model.pt") if (folder / n).exists()), "best_model.pt")
        command = f"python test.py --config {config_path if config else 'CONFIG'} --weights {folder / weights}"
        for of_set in config.data.sets[:1] if config else ():
            lists = of_set.model_dump(include={"val_root", "val_list", "label_list", "num_classes"})
            command += "".join(f" data.{key}={value}" for key, value in lists.items())
        raise UserError(f"{folder}: contains no test yet; run: {command}")
    records = read_records(folder / "metrics.jsonl", "move it away to leave the curves out")
    return Run(folder, config, records, [_read_test(t.parent, folder) for t in tables])


def _read_test(folder: Path, run_folder: Path) -> TestResult:
    table, text, class_names = load_table(folder / "embeddings.npz")
    # test_zeroshot.py with several configs has a folder for each, and one summary above them.
    path = folder / "summary.json"
    if not path.is_file():
        path = folder.parent / "summary.json"
    if not path.is_file():
        raise UserError(f"{folder}/summary.json: no such file; the test did not finish, run it again")
    summary = read_json(path, "the summary of a test", "run the test again", Summary)
    by_list = summary.get("tests", {})
    if path.parent != folder:
        by_list = {name: entry for name, entry in by_list.items() if name.startswith(f"{folder.name}, ")}
    if not by_list:
        read_json(path, "the summary of a test", "run the test again", TestScores)
    scores = next(iter(by_list.values()), summary)
    name = folder.relative_to(run_folder).as_posix() if folder != run_folder else folder.resolve().name
    weights, weights_hash = summary.get("weights"), summary.get("weights_hash")
    return TestResult(name, folder, table, text, class_names, scores, by_list, weights, weights_hash)


def find_weights(test: TestResult, run: Run) -> Path:
    """The checkpoint that was tested, at its original path, or beside the results if the run was moved. Raises a
    UserError if it no longer exists or has changed."""
    if not test.weights:
        raise UserError(f"{test.folder}/summary.json names no checkpoint")
    original = Path(test.weights)
    candidates = (original, run.folder / original.name, test.folder.parent / original.name)
    paths = [path for path in candidates if path.is_file()]
    if not paths:
        raise UserError(f"{original}: the file no longer exists")
    for path in paths:
        if file_hash(path) == test.weights_hash:
            return path
    raise UserError(f"{paths[0]}: has changed since the test; run the test again")


def override(key: str, value: Any) -> str:
    """`key=value` for a command line: text unchanged, other values as YAML."""
    is_text = dotted_keys()[key].annotation is str
    return f"{key}={value if is_text else shown_value(value)}"


def shown_value(value: Any) -> str:
    """A config value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def commands(run: Run, test: TestResult) -> dict[str, str]:
    """Commands that repeat the training of the run and a test, by title."""
    config = str(run.folder / "config.yaml") if run.config else "recipe.yaml"
    by_title = {}
    if run.config:
        by_title["Train again"] = _command("train.py", "--config", config, "logging.run_dir=NEW_FOLDER")
    script = "test_zeroshot.py" if test.is_zero_shot else "test.py"
    views = test.scores["views"]
    words = ["--config", config, "--weights", test.weights or "WEIGHTS"]
    words += ["--test_clips", views["clips"], "--test_crops", views["crops"]]
    if views.get("dense") and not test.scores["config"]["data"]["dense"]:
        words += ["--dense"]
    if len(test.lists) > 1:
        words += ["--lists", ",".join(test.lists)]
    base = run.config.model_dump() if run.config else test.scores["config"]
    for key, (value, _) in changed_keys(test.scores["config"], base).items():
        # Keys of training have no effect on a test.
        if key.startswith(("data.", "network.")) and not key.startswith("data.train_"):
            words.append(override(key, value))
    by_title["Test again"] = _command(script, *words)
    return by_title


def _command(script: str, *words: Any) -> str:
    return " ".join(["python", script, *(shlex.quote(str(word)) for word in words)])
