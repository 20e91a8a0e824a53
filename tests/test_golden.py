"""Outputs of the published code: every entry of every file of GOLDEN_DIR (default tests/golden).

A file or an entry in an unknown format is a failure, not a skip.
"""

import json
from collections.abc import Callable

import numpy as np
import pytest

from modules.schedule import lr_factor
from tests import golden_adapters, golden_datasets, golden_heads, golden_models
from tests.golden_models import GOLDEN_DIR
from utils.metrics import class_logits, half_class_scores, mean_average_precision, score, softmax
from utils.protocols import mean_and_deviation

NOT_DATA = {"README.md", "tiny_clip.py", "tiny_methods.py", "__pycache__"}
METHOD_CHECKS: dict[str, Callable[[dict], None]] = golden_heads.CHECKS | golden_adapters.CHECKS
"""The check of each method of methods.json, by the method's name."""


def check_half_class(data: dict) -> None:
    rng = np.random.RandomState(data["seed"])
    text = rng.normal(size=(data["classes"], data["dim"])).astype(np.float32)
    labels = rng.randint(0, data["classes"], data["n"])
    videos = (text[labels] + data["noise"] * rng.normal(size=(data["n"], data["dim"]))).astype(np.float32)
    logits = class_logits(videos, text)
    full = score(logits, labels)
    top1, top5 = zip(*((scores.top1, scores.top5) for scores in half_class_scores(logits, labels)))
    expected = [data["full_top1"], data["full_top5"], data["half_top1_mean"], data["half_top1_std"]]
    expected += [data["half_top5_mean"], data["half_top5_std"]]
    found = [full.top1, full.top5, *mean_and_deviation(list(top1)), *mean_and_deviation(list(top5))]
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)
    np.testing.assert_allclose(top1, data["half_top1"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(top5, data["half_top5"], atol=1e-3, rtol=0)


def check_mean_average_precision(data: dict) -> None:
    rng, num_videos, num_classes = np.random.RandomState(data["seed"]), data["n"], data["classes"]
    labels = np.concatenate([np.arange(num_classes), rng.randint(0, num_classes, num_videos - num_classes)])
    logits = rng.standard_normal((num_videos, num_classes)) * 2
    logits[np.arange(num_videos), labels] += 2
    probabilities = softmax(logits)
    found = mean_average_precision(probabilities, labels), mean_average_precision(softmax(probabilities), labels)
    expected = data["map_of_probabilities"], data["map_of_softmax_of_probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


def check_schedule(entry: dict) -> None:
    known = {"kind", "base_lrs", "epochs", "warmup_epochs", "milestones", "at_epoch", "lrs"}
    assert set(entry) <= known, f"not understood: {set(entry) - known}"
    for epoch, expected in zip(entry["at_epoch"], entry["lrs"], strict=True):
        factor = lr_factor(epoch, entry["kind"], entry["epochs"], entry["warmup_epochs"], entry.get("milestones", ()))
        np.testing.assert_allclose([lr * factor for lr in entry["base_lrs"]], expected, rtol=1e-9, atol=1e-20)


def _short_values(entry: dict) -> str:
    """The short values of an entry, as a part of its test's id."""
    return "-".join(str(v) for v in entry.values() if isinstance(v, (str, int, bool)) and len(str(v)) < 20)


def check_method(entry: dict) -> None:
    assert entry["method"] in METHOD_CHECKS, f"method not understood: {entry['method']}"
    METHOD_CHECKS[entry["method"]](entry)


def _cases() -> list:
    """(file:entry, check, data) of all entries of all files in the folder."""
    file_checks: dict[str, Callable[[dict], None]] = {
        "half_class.json": check_half_class,
        "mean_average_precision.json": check_mean_average_precision,
        "text.json": golden_models.check_text,
        "contrastive.json": golden_models.check_contrastive,
    }
    entry_checks: dict[str, Callable[[dict], None]] = {
        "schedule.json": check_schedule,
        "sampling.json": golden_datasets.check_sampling,
        "models.json": golden_models.check_model,
        "methods.json": check_method,
    }
    cases = []
    for path in sorted(GOLDEN_DIR.iterdir()):
        if path.name in NOT_DATA:
            continue
        data = json.loads(path.read_text(encoding="utf-8"))
        if path.name in file_checks:
            many = data if isinstance(data, list) else [data]
            cases += [(f"{path.name}:{i}", file_checks[path.name], entry) for i, entry in enumerate(many)]
        elif path.name in entry_checks:
            cases += [(f"{path.name}:{i}-{_short_values(e)}", entry_checks[path.name], e) for i, e in enumerate(data)]
        elif path.name == "views.json":
            check = lambda case, recipe=data["recipe"]: golden_datasets.check_views(case, recipe)  # noqa: E731
            cases += [(f"{path.name}:{i}-{_short_values(case)}", check, case) for i, case in enumerate(data["cases"])]
        else:
            cases.append((path.name, _fail, data))
    return cases


def _fail(data: dict) -> None:
    raise AssertionError("no check is defined for this golden file")


@pytest.mark.parametrize(("check", "data"), [pytest.param(check, data, id=name) for name, check, data in _cases()])
def test_golden(check, data):
    check(data)
