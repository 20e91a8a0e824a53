"""docs/config.md matches the schema."""

from tools.make_config_docs import make_page
from utils.project_paths import REPOSITORY
from utils.schema import dotted_keys


def test_the_page_is_current():
    page = (REPOSITORY / "docs/config.md").read_text(encoding="utf-8")
    assert page == make_page()  # written by: python -m tools.make_config_docs
    assert all(f"| `{name}` |" in page for name in dotted_keys())
