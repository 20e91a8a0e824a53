"""Checks everything that uses a GPU against the CPU, and measures its speed.

    python benchmarks/gpu_check.py [--minutes 8] [--out DIR] [--parts NAME ...]
    python benchmarks/gpu_check.py --device cpu --tiny        # the same parts on small models, to test this program

Models have random weights and images are generated, so nothing is downloaded. The parts run one after another in a
separate process. If a part fails, crashes or takes too long, its row has the error, and the remaining parts run in a
new process. After each part, gpu_check.md (the table) and gpu_check.json (all numbers, and the tracebacks) in DIR are
updated; gpu_check.log has the output of the parts. The exit code is 1 if a part failed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.gpu_parts.part import FAILED, GRACE, NOT_RUN, OK, Figures, Row, Setting, Worker
from benchmarks.timing import describe_environment, markdown_table

LEAST_SECONDS = 5.0  # with less time left, a part is not started


class Part(NamedTuple):
    """`function`: dotted path below benchmarks.gpu_parts; `limit`: seconds after which the part is ended."""

    function: str
    limit: float = 90


# Ordered so that correctness comes before speed, and the slowest parts come last.
PARTS = {
    "device": Part("speed.device"),
    "training step": Part("equality.training_step"),
    "bf16": Part("equality.bf16"),
    "fp16 with scaling": Part("equality.fp16"),
    "activation checkpointing": Part("equality.activation_checkpointing"),
    "average of the weights": Part("equality.weight_average"),
    "resume": Part("equality.resume"),
    "NCCL, one process": Part("processes.data_parallel_step"),
    "FSDP, one process": Part("processes.sharded"),
    "train.py": Part("commands.train"),
    "test.py": Part("commands.test"),
    "export.py": Part("commands.export"),
    "pixels on the device": Part("pixels.pixels", 150),
    "videos on the device": Part("pixels.videos", 120),
    "L/14": Part("speed.vit_l14", 120),
    "B/32": Part("speed.vit_b32"),
    "B/16": Part("speed.vit_b16"),
    "L/14-336": Part("speed.vit_l14_336", 120),
    "adapter": Part("speed.adapter", 120),
    "L/14, the published way": Part("speed.vit_l14_published", 120),
    "loader processes": Part("feeding.loader_processes"),
    "torch.compile": Part("equality.compiled", 120),
    "L/14, compiled": Part("speed.vit_l14_compiled", 180),
}


def run_parts(
    parts: Mapping[str, Part], setting: Setting, seconds: float, log: Path, report: Callable[[list[Row]], None]
) -> list[Row]:
    """Run the parts within `seconds` in total; returns a row for each. `report` is called with all rows after each
    part."""
    deadline = time.monotonic() + seconds
    rows: list[Row] = []
    worker: Worker | None = None
    try:
        for name, part in parts.items():
            left = deadline - time.monotonic()
            if left < LEAST_SECONDS:
                row = Row(name, NOT_RUN, 0.0, "no time left; raise --minutes or choose --parts", {})
            else:
                worker = worker or Worker(setting, log)
                earlier: dict[str, Figures] = {row.part: row.figures for row in rows if row.result == OK}
                row = worker.run(name, part.function, earlier, min(part.limit, left - GRACE))
            if row.result == FAILED and worker:
                worker.close()  # after an error on a GPU, later parts in the same process may fail as well
                worker = None
            rows.append(row)
            report(rows)
    finally:
        if worker:
            worker.close()
    return rows


def write_report(rows: list[Row], about: str, out: Path) -> str:
    """Write the table and the JSON file to `out`; returns the table."""
    cells = [[r.part, r.result, f"{r.seconds:.1f}", r.text.replace("|", "\\|")] for r in rows]
    text = f"{about}\n\n{markdown_table(['part', 'result', 'seconds', 'found'], cells)}"
    (out / "gpu_check.md").write_text(text, encoding="utf-8")
    contents = {"about": about, "rows": [row._asdict() for row in rows]}
    (out / "gpu_check.json").write_text(json.dumps(contents, indent=1), encoding="utf-8")
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="for all parts (default 8)")
    parser.add_argument(
        "--out", type=Path, default=Path("exp/gpu_check"), metavar="DIR", help="(default exp/gpu_check)"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="NAME", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and few clips")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU; --device cpu --tiny runs the parts on the CPU")
    args.out.mkdir(parents=True, exist_ok=True)
    about = describe_environment()
    parts = {
        name: part._replace(function=f"benchmarks.gpu_parts.{part.function}")
        for name, part in PARTS.items()
        if not args.parts or name in args.parts
    }

    def report(rows: list[Row]) -> None:
        row = rows[-1]
        print(f"{row.part}: {row.result}, {row.seconds:.1f} s: {row.text}", flush=True)
        write_report(rows, about, args.out)

    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(args.device, args.tiny, scratch)
        rows = run_parts(parts, setting, 60 * args.minutes, args.out / "gpu_check.log", report)
    print(f"\n{write_report(rows, about, args.out)}")
    return int(any(row.result == FAILED for row in rows))


if __name__ == "__main__":
    sys.exit(main())
