"""Runs a series of trainings, for tools that average over several; finished ones are skipped."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.config import load_config
from utils.errors import UserError
from utils.project_paths import REPOSITORY
from utils.recipe import flatten
from utils.records import read_records
from utils.schema import Config

OWN_KEYS = ("logging.run_dir", "resume")  # set for each training


def whole_numbers(option: str, text: str, least: int) -> list[int]:
    """Parse an option such as `2,4,8`. Raises a UserError if it is invalid."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(set(numbers)) < len(parts) or min(numbers) < least:
        raise UserError(f"{option} {text}: must be different integers of at least {least}, separated by commas")
    return numbers


def check_overrides(overrides: Sequence[str], own_keys: Sequence[str]) -> None:
    """Raise a UserError if an override sets a key that is different for each training."""
    for word in overrides:
        if word.partition("=")[0] in (*OWN_KEYS, *own_keys):
            raise UserError(f"{word}: set automatically for each training; remove it")


def check_equally_long(cfg: Config) -> None:
    """Raise a UserError if trainings may stop early, since their scores would not be comparable."""
    if cfg.solver.patience:
        raise UserError("solver.patience: all trainings must have the same number of epochs; set it to 0")


def shown(args: argparse.Namespace) -> list[str]:
    """The output options of a command, to pass on to the commands that it runs."""
    return [f"--{name}" for name in ("quiet", "plain", "debug") if getattr(args, name)]


def launch(script: str, *words: str) -> int:
    """Run a launcher of scripts/ and show its output; returns its exit code."""
    environment = {"PYTHON": sys.executable} | os.environ
    return subprocess.run(["sh", f"scripts/{script}", *words], cwd=REPOSITORY, env=environment, check=False).returncode


def train(args: argparse.Namespace, folder: Path, overrides: Sequence[str]) -> int:
    """Train the config of `args` into `folder`, unless already finished there; returns the exit code."""
    if is_finished(args.config, folder, overrides):
        print(f"{folder}: already finished")
        return 0
    words = [*overrides, f"logging.run_dir={folder}", "resume=auto", *shown(args)]
    return launch("run_train.sh", str(Path(args.config).resolve()), *words)


def is_finished(config: str, folder: Path, overrides: Sequence[str]) -> bool:
    """Whether `folder` contains a finished and validated run of this config."""
    if not (folder / "config.yaml").is_file():
        return False
    wanted = load_config(config, overrides, "train").config
    saved = load_config(folder / "config.yaml", purpose="predict").config
    records = read_records(folder / "metrics.jsonl", "remove the folder")
    validations = [record["epoch"] for record in records if record["kind"] == "val"]
    expected, actual = flatten(wanted.model_dump()), flatten(saved.model_dump())
    training_keys = [key for key in expected if not key.startswith("logging.") and key != "resume"]
    is_same = all(expected[key] is None or expected[key] == actual[key] for key in training_keys)
    return is_same and validations[-1:] == [wanted.solver.epochs] and (folder / "last_model.pt").is_file()
