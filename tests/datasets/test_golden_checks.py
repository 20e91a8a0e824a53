"""The checks that tests/test_golden.py calls must themselves be able to fail."""

import json
import os
from pathlib import Path

import pytest

from tests import golden_datasets

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parents[3] / "shared" / "golden"))
pytestmark = pytest.mark.skipif(not GOLDEN_DIR.is_dir(), reason=f"no golden figures: {GOLDEN_DIR} is absent")


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
