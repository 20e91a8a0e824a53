"""Builds the documentation as a static site: the pages of docs/, the README, and a reference of all public code.

Open OUT/index.html, or serve the folder to use the search: `python -m http.server -d OUT`. Broken links and all other
warnings are errors. The reference is generated from docstrings without importing the code.

Examples:
    python -m tools.build_site exp/site
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from utils.cli import Parser, run_command
from utils.errors import UserError
from utils.project_paths import REPOSITORY

PACKAGES = ("inference", "engine", "modules", "datasets", "clip", "reporting", "utils", "tools")
# Files of the site have the same relative paths as in the repository, so that links work in both.
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "benchmarks/RESULTS.md")
FOLDERS = ("docs", "configs", "lists")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("out", metavar="FOLDER", help="folder of the site; an earlier build in it is replaced")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> int:
    out = Path(args.out).resolve()
    if out.exists() and any(out.iterdir()) and not (out / "sitemap.xml").is_file():
        raise UserError(f"{out}: exists and is not an earlier build of the site; choose another folder")
    with tempfile.TemporaryDirectory() as source:
        gather(Path(source))
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
        environment = os.environ | {"SITE_SOURCE": source, "NO_MKDOCS_2_WARNING": "1"}
        built = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if built.returncode:
        print(built.stderr, end="", file=sys.stderr)
        raise UserError("the site was not built; see the messages of mkdocs above (pip install -e .[dev] installs it)")
    print(f"{out / 'index.html'}; open it in a browser, or serve it: python -m http.server -d {out}")
    return 0


def gather(source: Path) -> None:
    """Copy the pages to `source`, and write those of the reference."""
    for name in FOLDERS:
        shutil.copytree(REPOSITORY / name, source / name)
    for name in PAGES:
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    for package in PACKAGES:
        modules = sorted((REPOSITORY / package).rglob("*.py"))
        names = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in modules]
        entries = "".join(f"::: {name.removesuffix('.__init__')}\n\n" for name in names)
        page = source / "reference" / f"{package}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(f"# {package}\n\n{entries}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
