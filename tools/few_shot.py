"""Few-shot training with several numbers of videos per class and several seeds: mean and deviation of the scores.

Runs are in OUT/shot<K>/seed<S>; finished ones are skipped, unfinished ones are resumed. The videos are selected from
data.train_list by the seed, with epochs as long as those of the full list, or given by lists. scripts/run_train.sh is
used, and NPROC and PYTHON have the same effect. The table is written to OUT/few_shot.json.

Examples:
    python -m tools.few_shot --config configs/ucf101/ucf_few_shot.yaml --shots 2,4,8,16 --seeds 0,1,2 --out exp/few_shot
    python -m tools.few_shot --config my.yaml --shots 2,4 --lists "lists/few/{shot}_{seed}.txt" --out exp/few
"""

import argparse
import sys
from pathlib import Path

from tools import series
from tools.summarise_runs import FIGURES, last_validation, table_rows
from utils.cli import config_parser, run_command
from utils.config import load_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable
from utils.project_paths import from_working_folder
from utils.protocols import check_single_label
from utils.results import format_table, next_test, write_summary


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--shots", default="2,4,8,16", metavar="K,K", help="videos per class (default 2,4,8,16)")
    parser.add_argument("--seeds", default="0,1,2", metavar="S,S", help="seeds of the selection (default 0,1,2)")
    parser.add_argument("--lists", metavar="PATTERN", help="training lists, with {shot} and {seed} in the path")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the runs")
    return parser.parse_intermixed_args(arguments)


def overrides_of(args: argparse.Namespace, shot: int, seed: int) -> list[str]:
    """The overrides of one training. Raises a UserError if its list does not exist."""
    if args.lists is None:
        return [f"data.shot={shot}", f"data.shot_seed={seed}"]
    path = args.lists.replace("{shot}", str(shot)).replace("{seed}", str(seed))
    check_is_file(from_working_folder(path), "training list")
    return [f"data.train_list={path}", "data.shot=0"]


def main(args: argparse.Namespace) -> int:
    shots = series.whole_numbers("--shots", args.shots, 1)
    seeds = series.whole_numbers("--seeds", args.seeds, 0)
    own_keys = ["data.shot", "data.shot_seed"]
    if args.lists is not None:
        own_keys.append("data.train_list")
        if "{shot}" not in args.lists or ("{seed}" not in args.lists and len(seeds) > 1):
            raise UserError(f"--lists {args.lists}: needs {{shot}} and, for several seeds, {{seed}} in the path")
    series.check_overrides(args.overrides, own_keys)
    runs = {(shot, seed): [*args.overrides, *overrides_of(args, shot, seed)] for shot in shots for seed in seeds}
    cfg = load_config(args.config, runs[shots[0], seeds[0]], "train").config
    check_single_label(cfg, "few-shot training")
    series.check_equally_long(cfg)
    out = Path(args.out).resolve()
    check_writable(out, "--out", is_folder=True)

    records = {}
    for (shot, seed), overrides in runs.items():
        folder = out / f"shot{shot}" / f"seed{seed}"
        if code := series.train(args, folder, overrides):
            return code
        records[shot, seed] = last_validation(folder)

    rows: list[tuple[str, ...]] = [("shot", "top-1 %", "top-5 %", "mean class %")]
    for shot in shots:
        validations = {f"{shot}, seed {seed}": records[shot, seed] for seed in seeds}
        rows += table_rows(validations, f"{shot}, mean of {len(seeds)}")
    print(format_table(rows))
    scores = {
        f"shot{shot}/seed{seed}": {name: record[name] for name in FIGURES} for (shot, seed), record in records.items()
    }
    write_summary(out / "few_shot.json", runs=scores)
    print(next_test({out / run: record for run, record in scores.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
