"""`test_zeroshot.py`: zero-shot scores on full classes, half classes and several splits."""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np

from datasets.build import TestLists, Views, build_eval_loader, read_test_lists
from datasets.lists import read_labels
from engine import results
from engine.folder_lock import folder_lock
from inference.model import Checkpoint, VideoModel, read_checkpoint, text_for_table
from modules.embed import VideoTable, load_table, rows_of_entries, save_table
from modules.pixels import with_preprocessing
from modules.scorers.scorer import scorer_of
from modules.validation import embed_with
from utils import distributed, protocols
from utils.cli import folder_beside
from utils.config import Resolved, resolve_config
from utils.context import RunContext
from utils.distributed import Process
from utils.files import check_writable
from utils.hashing import file_hash
from utils.project_paths import given
from utils.recipe import Recipe
from utils.results import write_summary
from utils.runlog import RESULT, open_log


def test_zeroshot(args: argparse.Namespace, lists: list[str], warnings: list[str]) -> int:
    """Embed the videos of each data set once and score every list; `warnings` are logged first."""
    process = distributed.start()
    checkpoint = read_checkpoint(args.weights, with_hash=process.is_main) if args.weights else None
    recipes = [checkpoint.recipe] * len(args.config) if checkpoint else [recipe_of_table(path) for path in args.reuse]
    resolved = [resolve_config(path, args.overrides, "test", recipe) for path, recipe in zip(args.config, recipes)]
    warnings = list(dict.fromkeys([*warnings, *(warning for each in resolved for warning in each.warnings)]))
    open_log(process, warnings, quiet=args.quiet, plain=args.plain)
    prompt_sets = sorted({each.config.network.prompt_set or "" for each in resolved} - {""})
    name = "_".join(["zeroshot", "+".join(Path(p).stem for p in args.config), *(Path(p).stem for p in prompt_sets)])
    out = Path(args.out or (folder_beside(args.weights, name) if args.weights else Path(args.reuse[0]).parent / name))
    for config_path in args.config if args.reuse else ():
        table = (out / Path(config_path).stem if len(resolved) > 1 else out) / "embeddings.npz"
        check_writable(table, "--out", inputs=args.reuse)
    with folder_lock(out if process.is_main else None, "--out"):
        return test_in(out, args, lists, resolved, checkpoint, process)


def test_in(
    out: Path,
    args: argparse.Namespace,
    lists: list[str],
    resolved: list[Resolved],
    checkpoint: Checkpoint | None,
    process: Process,
) -> int:
    """Test with each config of `resolved`, and write the results to the folder `out`; returns the exit code."""
    log = logging.getLogger()
    summaries = {}
    for number, (config_path, (cfg, _, names)) in enumerate(zip(args.config, resolved)):
        cfg = with_preprocessing(cfg)
        names = names or read_labels(given(cfg.data.label_list), cfg.data.num_classes)
        tests = read_test_lists(cfg, lists or [given(cfg.data.val_list)])
        folder = out / Path(config_path).stem if len(resolved) > 1 else out

        if args.reuse:
            if not process.is_main:
                continue
            num_classes = cfg.data.num_classes if cfg.data.multi_label else None
            table = rows_of_entries(load_table(args.reuse[number])[0], tests.entries, args.reuse[number], num_classes)
            matrix = text_for_table(cfg, names, table, args.reuse[number])
            scorer = scorer_of(table, args.reuse[number], matrix)
        else:
            model = VideoModel(cfg, names, checkpoint, process.device)
            views = Views(args.test_clips, args.test_crops, args.dense or cfg.data.dense)
            loader = build_eval_loader(cfg, process.world_size, process.rank, views, tests.entries).to(process.device)
            context = RunContext(process, model.precision)
            table = embed_with(model.network, loader, context, cfg.data.batch_size, Path(config_path).stem)
            if table is None:
                continue
            table = model.signed(table, args.test_clips, args.test_crops)
            matrix, scorer = model.class_matrix, model.network.scorer

        trained = read_labels(args.train_labels) if args.train_labels else list(table.trained_classes)
        shared = protocols.shared_classes(names, trained)
        warn_of_trained_classes(shared, len(names), log)
        by_list = summaries_of(tests, table, scorer.table_logits(table.embeddings, matrix, process.device))
        settings = {"config": cfg.model_dump(), "prompt": cfg.network.prompt, "trained_classes": shared}
        for list_name, summary in by_list.items():
            summaries[f"{Path(config_path).stem}, {list_name}"] = summary | settings
        (out / "summary.json").unlink(missing_ok=True)  # of an earlier test: until the end these results are incomplete
        save_table(folder / "embeddings.npz", table, matrix, names)
        log.info("%s", table.describe(folder / "embeddings.npz"))
    distributed.stop()
    if not process.is_main:
        return 0

    log.log(RESULT, "%s", results.zero_shot_tables(summaries))
    source = {"weights": args.weights, "weights_hash": checkpoint.sha256} if checkpoint else {"reuse": args.reuse}
    write_summary(out / "summary.json", tests=summaries, over_tests=results.over_tests(summaries), **source)
    log.info("results are in %s\n%s", out, results.next_report(args.weights, out))
    return 0


def recipe_of_table(path: str) -> Recipe:
    """The config of the model that made a table. Raises a UserError if the file is not a table."""
    table = load_table(path)[0]
    return Recipe(path, table.config, list(table.trained_classes))


def summaries_of(tests: TestLists, table: VideoTable, logits: np.ndarray) -> dict[str, dict[str, Any]]:
    """The scores of each list, by its short name. `logits`: (N,K), of the N videos of the table."""
    rows = {path: row for row, path in enumerate(table.paths)}
    names = results.short_names(tests.by_list)
    summaries = {}
    for list_path, entries in tests.by_list.items():
        chosen = [rows[entry.name] for entry in entries]
        summaries[names[list_path]] = {
            **protocols.zero_shot_summary(logits[chosen], table.labels[chosen]),
            "list": list_path,
            "list_hash": file_hash(list_path),
            "views": dict(zip(("clips", "crops"), table.views)),
        }
    return summaries


def warn_of_trained_classes(shared: list[str], num_classes: int, log: logging.Logger) -> None:
    """Warn about test classes that are also training classes, whose scores are not zero-shot."""
    if shared:
        some = ", ".join(shared[:8]) + (" ... (see summary.json)" if len(shared) > 8 else "")
        log.warning("warning: %d of the %d test classes are training classes: %s", len(shared), num_classes, some)
