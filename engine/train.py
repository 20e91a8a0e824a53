"""`train.py`: a run, from a config to its scores."""

import argparse
from functools import partial
from pathlib import Path

from datasets.build import build_eval_loader, build_train_loader, read_train_entries
from datasets.check import check_clips
from datasets.frame_cache import cached_loaders, nothing_to_cut
from datasets.lists import read_labels
from datasets.packed_clip import is_packed_clip
from datasets.transforms import make_views
from engine.plan import describe_plan
from modules.build import build_model_and_text
from modules.build_training import build_trainer, parameter_groups
from modules.checkpoint_layout import load_video_weights
from modules.frozen_tower import frame_encoder, tower_key
from modules.resume import check_same_checkpoint, find_checkpoint, restore_run, run_state
from modules.training import Progress
from modules.validation import validate
from utils import distributed, rundir
from utils.checkpoint import load_checkpoint
from utils.config import dump_config
from utils.errors import UserError
from utils.files import check_writable
from utils.keeper import CheckpointKeeper
from utils.meter import TrainingMeter
from utils.metrics import Scores
from utils.optim import describe_groups
from utils.precision import resolve_precision
from utils.run_summary import describe_run
from utils.runlog import RESULT, MetricsWriter, log_to_file, open_log
from utils.schema import Config
from utils.stop import Stopped, StopRequest


def train(args: argparse.Namespace, cfg: Config, config_warnings: list[str]) -> int:
    """Train as `cfg` says; returns the exit code."""
    stop = StopRequest()

    # ---- process, log, name of the run folder
    process = distributed.start(cfg.solver.process_timeout_minutes)
    log = open_log(process, config_warnings, quiet=args.quiet, plain=args.plain, on_closed=stop.note_unread)
    run_dir = rundir.choose_run_dir(cfg.logging.run_dir, cfg.resume, args.config) if process.is_main else None
    run_dir = distributed.share_from_main(run_dir, process)

    # ---- data
    names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    train_entries = read_train_entries(cfg)
    train_loader = build_train_loader(cfg, process.world_size, process.rank, train_entries.entries)
    val_loader = build_eval_loader(cfg, process.world_size, process.rank, testing=False)

    # ---- model
    precision = resolve_precision(cfg.solver.precision, process.device)
    model, text = build_model_and_text(cfg, names, process.device)
    if cfg.pretrain:
        load_video_weights(model, load_checkpoint(cfg.pretrain), cfg.pretrain, new_classes=True)

    # ---- plan
    log.info("%s", describe_plan(cfg, model, text, train_entries, len(val_loader.dataset), process, precision))
    log.info("%s", describe_groups(parameter_groups(cfg, model), cfg.solver.lr))
    if args.check:
        checked = check_clips(cfg.data, train_loader.dataset, val_loader.dataset, process)

    # ---- optimiser, resume
    model.to(process.device)
    trainer = build_trainer(cfg, model, text, process, precision, stop.is_asked)
    progress = Progress(epoch=cfg.solver.start_epoch)
    found = find_checkpoint(cfg.resume, run_dir)
    check_same_checkpoint(found, process)
    if found is not None:
        progress = restore_run(*found, cfg, names, model, trainer, len(train_loader), len(train_loader.dataset))
        log.info("resumed from %s: epoch %d, step %d", found[0], progress.epoch + 1, progress.step)
    crop = partial(make_views, num_crops=1, size=cfg.data.input_size)

    def check_scores() -> Scores:
        with trainer.kept_weights():
            return validate(model, text, val_loader, crop, cfg.data.batch_size, process, precision, stop.is_asked)

    if process.is_main and not cfg.solver.evaluate:
        check_writable(run_dir, "logging.run_dir", is_folder=True)
    if args.check:
        log.info("check passed: config, lists, labels, weights and run folder fit; %s", checked)
        return 0
    if cfg.solver.evaluate:
        log.log(RESULT, "validation: %s", check_scores().describe())
        return 0

    # ---- run folder, cache
    if distributed.any_process(stop.is_asked(), process):
        log.info("asked to stop before the first step: nothing was written; the same command begins again")
        return stop.exit_code()
    if process.is_main:
        rundir.make_run_dir(run_dir, dump_config(cfg), train_entries.picks)
        log_to_file(run_dir / "log.txt")
    metrics = MetricsWriter(run_dir, process, cfg, progress.step, progress.consumed_clips > 0)
    keeper = CheckpointKeeper(run_dir, cfg.solver.keep_last, cfg.solver.save_every, found and found[0])
    if cfg.data.cached_draws:
        encode, key = frame_encoder(model, process, precision), tower_key(cfg, model, precision)
        train_loader, val_loader = cached_loaders(cfg, process, train_loader, val_loader, encode, key, stop.is_asked)
        crop = nothing_to_cut

    def save(is_best: bool = False) -> bool:
        if process.is_main:
            with trainer.kept_weights():
                keeper.save(run_state(model, trainer, progress, names, dump_config(cfg)), is_best)
        return not keeper.has_failed

    # ---- train
    is_finished = fit(cfg, trainer, progress, train_loader, process, metrics, keeper.is_due, save, check_scores)

    # ---- end
    metrics.close()
    distributed.stop()
    if not is_finished:
        log.info("asked to stop: saved after step %d; resume=auto goes on", progress.step)
        return stop.exit_code()
    stop.close()
    if keeper.has_failed:
        raise UserError(
            f"{run_dir}: the last checkpoint could not be written; make room and run again with resume=auto"
        )
    if process.is_main:
        log.log(RESULT, "%s", describe_run(metrics.records()))
    log.info("%s", rundir.describe_end(run_dir, progress.best_top1))
    return 0


def fit(cfg, trainer, progress, loader, process, metrics, is_save_due, save, check_scores) -> bool:
    """All epochs from `progress` on; False where some process was asked to stop before the end. All is saved."""

    dataset = loader.dataset
    is_packed = is_packed_clip(Path(cfg.data.train_root, dataset.entries[0].path))
    while progress.epoch < cfg.solver.epochs:
        loader.start_epoch(progress.epoch, progress.consumed_clips)
        meter = TrainingMeter(cfg, process, metrics, len(loader), len(dataset), progress.epoch, is_packed)
        for record in trainer.run_epoch(loader, progress, settle_after=is_save_due):
            meter.show(record)
            if record.step == progress.step and is_save_due(progress.step):
                save()
        meter.close()
        is_stopped, is_best, num_epochs, best_before = meter.is_stopped, False, progress.epoch + 1, progress.best_top1
        if not is_stopped and (num_epochs % cfg.logging.eval_freq == 0 or num_epochs == cfg.solver.epochs):
            try:
                scores = check_scores()
            except Stopped:
                is_stopped = True  # the epoch's steps are saved; going on begins with its validation
            else:
                is_best = scores.top1 > progress.best_top1
                progress.best_top1 = max(scores.top1, progress.best_top1)
                meter.show_validation(num_epochs, progress.step, scores)
        if not is_stopped:
            progress.epoch, progress.consumed_clips = num_epochs, 0
        if not save(is_best):
            progress.best_top1 = best_before  # a best score that has no file is none
        if is_stopped:
            return False
    return True
