"""The checks of tests/test_golden.py can fail."""

import json

import pytest

from tests import golden_datasets
from tests.golden_models import GOLDEN_DIR


def test_sampling_check_passes_and_fails():
    entries = json.loads((GOLDEN_DIR / "sampling.json").read_text())
    for entry in entries:
        golden_datasets.check_sampling(entry)
        with pytest.raises(AssertionError):
            golden_datasets.check_sampling({**entry, "indices": [*entry["indices"][:-1], entry["indices"][-1] + 1]})
    for change in ({"mode": "unknown"}, {"stride": 2}):
        with pytest.raises(AssertionError):
            golden_datasets.check_sampling({**entries[0], **change})


def test_views_check_passes_and_fails():
    golden = json.loads((GOLDEN_DIR / "views.json").read_text())
    for case in golden["cases"]:
        golden_datasets.check_views(case, golden["recipe"])
    case = golden["cases"][1]
    for change in ({"pixels": case["pixels"][::-1]}, {"angle": 3}, {"crops": 5}):
        with pytest.raises(AssertionError):
            golden_datasets.check_views({**case, **change}, golden["recipe"])
    with pytest.raises(AssertionError):
        golden_datasets.check_views(case, golden["recipe"] + " rotated")
