"""Carries a video checkpoint to data sets that it was not trained on: full classes, half classes, several splits."""

import argparse
import sys
from pathlib import Path

from utils.cli import add_output_options, folder_beside, run_story
from utils.config import load_config
from utils.errors import UserError


def parse_arguments(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, action="append", metavar="YAML", help="a data set; may be repeated")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override in every config")
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint of train.py or a published one")
    parser.add_argument(
        "--lists", metavar="A,B,C", help="test splits in place of data.val_list; each video is embedded once"
    )
    parser.add_argument(
        "--reuse", action="append", metavar="TABLE", help="embeddings.npz of an earlier call, one for each --config"
    )
    parser.add_argument("--train_labels", metavar="CSV", help="classes of the training, to warn of those tested too")
    parser.add_argument("--test_crops", type=int, choices=(1, 3, 5, 10), default=1, help="crops of a clip (default 1)")
    parser.add_argument("--test_clips", type=int, default=1, metavar="N", help="clips of a video (default 1)")
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: beside the weights or table)")
    add_output_options(parser)
    return parser.parse_intermixed_args(arguments)


def check_arguments(args) -> None:
    if bool(args.weights) == bool(args.reuse):
        raise UserError("give --weights to embed the videos, or --reuse to score a table again: one of the two")
    if args.reuse and len(args.reuse) != len(args.config):
        raise UserError(f"--reuse: {len(args.reuse)} tables for {len(args.config)} configs; give one for each")
    if args.reuse and (args.test_clips, args.test_crops) != (1, 1):
        raise UserError("--reuse: a table has the views that it was made of; leave --test_clips and --test_crops out")
    if args.test_clips < 1:
        raise UserError(f"--test_clips {args.test_clips}: must be 1 or more")
    stems = [Path(path).stem for path in args.config]
    if len(set(stems)) < len(stems):
        raise UserError("--config: two of them have one file name, by which results are named; rename one")
    lists = split_lists(args.lists)
    if len(set(lists)) < len(lists):
        raise UserError("--lists: names one list twice")


def split_lists(text: str | None) -> list[str]:
    """The paths of --lists; [] where it is not given."""
    paths = [] if text is None else [path.strip() for path in text.split(",")]
    if not all(paths):
        raise UserError(f"--lists {text!r}: an empty path; separate paths by single commas")
    return paths


def main(args) -> int:
    check_arguments(args)
    loaded = [load_config(path, args.overrides, "test") for path in args.config]

    # The heavy rooms come after the arguments, so that --help and a typo answer at once.
    from functools import partial

    from datasets.build import build_eval_loader, read_test_lists
    from datasets.lists import read_labels
    from datasets.transforms import make_views
    from modules.testing import load_tested_model, text_for_table
    from modules.validation import embed_with, text_matrix
    from utils import distributed, metrics, protocols, results
    from utils.embed import load_table, rows_of_entries, save_table
    from utils.files import check_writable
    from utils.hashing import file_hash
    from utils.runlog import RESULT, open_log

    process = distributed.start()
    log = open_log(process, [w for _, warnings in loaded for w in warnings], quiet=args.quiet, plain=args.plain)
    of_prompts = "".join(f"_{Path(p).stem}" for p in sorted({c.network.prompt_set or "" for c, _ in loaded} - {""}))
    of_configs = "+".join(Path(path).stem for path in args.config)
    name = f"zeroshot_{of_configs}{of_prompts}"
    out = Path(args.out or (folder_beside(args.weights, name) if args.weights else Path(args.reuse[0]).parent / name))
    check_writable(out, "--out", is_folder=True)
    summaries = {}
    for number, (config_path, (cfg, _)) in enumerate(zip(args.config, loaded)):
        names = read_labels(cfg.data.label_list, cfg.data.num_classes)
        tests = read_test_lists(cfg, split_lists(args.lists) or [cfg.data.val_list])
        folder = out / Path(config_path).stem if len(loaded) > 1 else out

        # ---- videos to a table: embedded once, or read
        if args.reuse:
            if not process.is_main:
                continue
            table = rows_of_entries(load_table(args.reuse[number])[0], tests.entries, args.reuse[number])
            matrix = text_for_table(cfg, names, table, args.reuse[number]).numpy()
        else:
            tested = load_tested_model(cfg, names, args.weights, process)
            loader = build_eval_loader(
                cfg, process.world_size, process.rank, testing=True,
                num_crops=args.test_crops, num_clips=args.test_clips, entries=tests.entries,
            )  # fmt: skip
            crop = partial(make_views, num_crops=args.test_crops, size=cfg.data.input_size)
            table = embed_with(
                tested.model, loader, crop, cfg.data.batch_size, process, tested.precision, Path(config_path).stem
            )
            if table is None:
                continue
            table = tested.signed(table, args.test_clips, args.test_crops)
            matrix = text_matrix(tested.model, tested.text)

        # ---- a table to scores
        trained = read_labels(args.train_labels) if args.train_labels else list(table.trained_classes)
        shared = protocols.shared_classes(names, trained)
        if shared:
            some = ", ".join(shared[:8]) + (" ... (all are in summary.json)" if len(shared) > 8 else "")
            log.warning("warning: %d of the %d test classes were trained on: %s", len(shared), len(names), some)
        logits = metrics.class_logits(table.embeddings, matrix)
        rows, list_names = {path: row for row, path in enumerate(table.paths)}, results.short_names(tests.by_list)
        for list_path, entries in tests.by_list.items():
            chosen = [rows[entry.path] for entry in entries]
            summaries[f"{Path(config_path).stem}, {list_names[list_path]}"] = {
                **protocols.zero_shot_summary(logits[chosen], table.labels[chosen]),
                "config": cfg.model_dump(), "list": list_path, "list_hash": file_hash(list_path),
                "prompt": cfg.network.prompt, "views": dict(zip(("clips", "crops"), table.views)),
                "trained_classes": shared,
            }  # fmt: skip
        save_table(folder / "embeddings.npz", table, matrix, names)
    distributed.stop()
    if not process.is_main:
        return 0

    # ---- the figures
    log.log(RESULT, "%s", results.format_table(results.zero_shot_rows(summaries)))
    source = (
        {"weights": args.weights, "weights_hash": file_hash(args.weights)} if args.weights else {"reuse": args.reuse}
    )
    results.write_summary(out / "summary.json", tests=summaries, over_tests=results.over_tests(summaries), **source)
    log.info("results are in %s", out)
    return 0


if __name__ == "__main__":
    sys.exit(run_story(main, parse_arguments()))
