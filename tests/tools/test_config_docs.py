"""docs/config.md matches the schema."""

import subprocess
import sys
from pathlib import Path

from utils.schema import dotted_keys

REPO = Path(__file__).parents[2]


def test_the_page_is_current():
    result = subprocess.run(
        [sys.executable, "-m", "tools.make_config_docs", "--check"], cwd=REPO, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


def test_the_page_names_every_key():
    page = (REPO / "docs/config.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in dotted_keys())
