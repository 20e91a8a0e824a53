"""Time from the command to the first step of the demo's training: without and with cached class embeddings, and
resumed.

    python benchmarks/start_up.py [--rounds 3]

Requires the clips rendered by `sh scripts/run_demo.sh`. Wall time from the start of `python train.py` to the first line
in metrics.jsonl, including imports, lists, CLIP's weights, class texts, the memory estimate and loaders, and the
checkpoint if it is resumed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.timing import print_header, print_table
from utils.project_paths import REPOSITORY
from utils.stop import EXIT_REQUEUE

CONFIG = "configs/shapes/transf.yaml"


def seconds_to_first_step(run_folder: Path, cache: Path, *overrides: str) -> float:
    """Start the training, and stop it after its first step, when it saves a checkpoint."""
    metrics = run_folder / "metrics.jsonl"
    size_before = metrics.stat().st_size if metrics.exists() else 0
    words = [f"logging.run_dir={run_folder}", f"logging.cache_dir={cache}", "logging.tensorboard=false", *overrides]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "train.py", "--config", CONFIG, "--quiet", *words], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    try:
        while not (metrics.exists() and metrics.stat().st_size > size_before):
            if process.poll() is not None:
                sys.exit("the training ended before its first step; run sh scripts/run_demo.sh first")
            time.sleep(0.02)
        seconds = time.monotonic() - started
        process.terminate()
        if process.wait() != EXIT_REQUEUE:
            sys.exit("the training did not stop with a checkpoint")
        return seconds
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print_header(f"Start-up ({CONFIG})", "wall time")
    cold, warm, resumed = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(args.rounds):
            cache = folder / f"cache{number}"
            cold.append(seconds_to_first_step(folder / f"cold{number}", cache))
            warm.append(seconds_to_first_step(folder / f"warm{number}", cache))
            resumed.append(seconds_to_first_step(folder / f"warm{number}", cache, "resume=auto"))
    rows = [
        [what, f"{np.median(s):.1f} ({min(s):.1f} to {max(s):.1f})"]
        for what, s in (("class texts encoded", cold), ("class texts from the cache", warm), ("resumed", resumed))
    ]
    print_table(["start", "seconds to the first step"], rows)


if __name__ == "__main__":
    main()
