"""`test_zeroshot.py`: full classes, half classes, several splits of data sets that were not trained on."""

import argparse
import logging
from pathlib import Path

from datasets.build import Views, build_eval_loader, read_test_lists
from datasets.lists import read_labels
from modules.testing import load_tested_model, text_for_table
from modules.validation import embed_with, text_matrix
from utils import distributed, metrics, protocols, results
from utils.cli import folder_beside, next_report
from utils.config import Loaded
from utils.context import RunContext
from utils.embed import load_table, rows_of_entries, save_table
from utils.files import check_writable
from utils.hashing import file_hash
from utils.runlog import RESULT, open_log


def test_zeroshot(args: argparse.Namespace, loaded: list[Loaded], lists: list[str], warnings: list[str]) -> int:
    """Embed each data set's videos once and score every list; `warnings` come first in the log."""
    process = distributed.start()
    log = open_log(process, warnings, quiet=args.quiet, plain=args.plain)
    of_prompts = "".join(f"_{Path(p).stem}" for p in sorted({c.network.prompt_set or "" for c, _ in loaded} - {""}))
    of_configs = "+".join(Path(path).stem for path in args.config)
    name = f"zeroshot_{of_configs}{of_prompts}"
    out = Path(args.out or (folder_beside(args.weights, name) if args.weights else Path(args.reuse[0]).parent / name))
    check_writable(out, "--out", is_folder=True)
    summaries = {}
    for number, (config_path, (cfg, _)) in enumerate(zip(args.config, loaded)):
        names = read_labels(cfg.data.label_list, cfg.data.num_classes)
        tests = read_test_lists(cfg, lists or [cfg.data.val_list])
        folder = out / Path(config_path).stem if len(loaded) > 1 else out

        # ---- videos to a table: embedded once, or read
        if args.reuse:
            if not process.is_main:
                continue
            table = rows_of_entries(load_table(args.reuse[number])[0], tests.entries, args.reuse[number])
            matrix = text_for_table(cfg, names, table, args.reuse[number]).numpy()
        else:
            tested = load_tested_model(cfg, names, args.weights, process)
            views = Views(args.test_clips, args.test_crops)
            loader = build_eval_loader(cfg, process.world_size, process.rank, views, tests.entries)
            context = RunContext(process, tested.precision)
            table = embed_with(tested.model, loader, context, cfg.data.batch_size, Path(config_path).stem)
            if table is None:
                continue
            table = tested.signed(table, args.test_clips, args.test_crops)
            matrix = text_matrix(tested.model, tested.text)

        # ---- a table to scores
        trained = read_labels(args.train_labels) if args.train_labels else list(table.trained_classes)
        shared = protocols.shared_classes(names, trained)
        warn_of_trained_classes(shared, len(names), log)
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
    log.info("results are in %s\n%s", out, next_report(args.weights, out))
    return 0


def warn_of_trained_classes(shared: list[str], num_classes: int, log: logging.Logger) -> None:
    """Warn of test classes that the checkpoint was trained on: their scores are not zero-shot."""
    if shared:
        some = ", ".join(shared[:8]) + (" ... (all are in summary.json)" if len(shared) > 8 else "")
        log.warning("warning: %d of the %d test classes were trained on: %s", len(shared), num_classes, some)
