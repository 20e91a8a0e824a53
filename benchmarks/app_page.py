"""Times of app.py's page: first paint, and from the click on a sample to its result.

    python benchmarks/app_page.py [--rounds 3]

Starts `python app.py`; requires Chromium and playwright. Each round uses a new browser context without a cache. First
paint is the browser's first-contentful-paint; usable is when the samples can be clicked.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from playwright.sync_api import sync_playwright

from benchmarks.timing import print_header, print_table
from utils.project_paths import REPOSITORY

PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print_header("The page of app.py", "wall time")
    command = [sys.executable, "app.py", "--port", "0"]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    seconds: dict[str, list[float]] = {"first paint": [], "usable": [], "from the click on a sample to its result": []}
    try:
        assert server.stdout is not None
        address = next(found[1] for line in server.stdout if (found := re.match(r"open (http\S+)", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for _ in range(args.rounds):
                page = browser.new_context().new_page()
                started = time.monotonic()
                page.goto(address)
                page.locator("[data-sample]").first.wait_for()
                seconds["usable"].append(time.monotonic() - started)
                seconds["first paint"].append(page.evaluate(PAINT))
                started = time.monotonic()
                page.locator("[data-sample]").first.click()
                page.locator(".verdict").wait_for()
                seconds["from the click on a sample to its result"].append(time.monotonic() - started)
                page.context.close()
    finally:
        server.terminate()
        server.wait()
    rows = [[what, f"{np.median(s):.1f} ({min(s):.1f} to {max(s):.1f})"] for what, s in seconds.items()]
    print_table(["event", "seconds"], rows)


if __name__ == "__main__":
    main()
