"""`train.py`: trains a model and validates it."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.build import TrainEntries, build_eval_loader, build_train_loader, read_entries, read_train_entries
from datasets.check import check_clips
from datasets.class_weights import class_weights
from datasets.clip_shards import ClipShards, clip_root
from datasets.frame_cache import CachedEvalClips, CachedTrainClips, cached_loaders
from datasets.list_checks import list_warnings
from datasets.loader import EvalClips, TrainClips
from datasets.packed_clip import is_packed_clip
from datasets.sets import class_names, configs_of_sets, root_and_list, with_sets
from engine import rundir
from engine.folder_lock import folder_lock
from engine.keeper import CheckpointKeeper
from engine.meter import EpochInfo, TrainingMeter
from engine.metrics_writer import MetricsWriter
from engine.plan import describe_plan
from engine.resume import check_same_checkpoint, find_checkpoint, restore_run, run_state
from engine.run_summary import describe_run
from modules.build import build_model_and_text
from modules.build_training import build_trainer, check_training, parameter_groups
from modules.checkpoint_layout import load_video_weights
from modules.distillation import attach_distillation
from modules.frozen_tower import frame_encoder, tower_key
from modules.interpolation import clip_weights
from modules.losses.loss import Loss
from modules.optim import describe_groups
from modules.pixels import with_preprocessing
from modules.sharding import unsharded
from modules.trained_part import base_of
from modules.training import Progress, Trainer
from modules.validation import Validation, validate
from modules.video_clip import VideoCLIP
from utils import distributed
from utils.checkpoint import load_checkpoint
from utils.cli import DISK_REMEDIES
from utils.config import dump_config
from utils.context import RunContext
from utils.distributed import Process
from utils.errors import UserError
from utils.files import check_writable
from utils.metrics import Scores
from utils.precision import resolve_precision
from utils.runlog import RESULT, log_to_file, open_log
from utils.schema import Config
from utils.stop import Stopped, StopRequest, requeue_code

log = logging.getLogger(__name__)


@dataclass
class TrainingRun:
    """Everything that an epoch of training needs."""

    cfg: Config
    context: RunContext
    class_names: list[str]  # K, saved in checkpoints
    model: VideoCLIP
    text: torch.Tensor | None  # frozen class embeddings (K,D); None: computed by the model
    trainer: Trainer
    progress: Progress
    train_loader: TrainClips | CachedTrainClips
    val_loader: EvalClips | CachedEvalClips
    base: dict[str, str] | None = None  # description of the frozen weights if checkpoints do not contain them

    def cache_frames(self) -> None:
        """Replace pixels with cached frame embeddings of the frozen image tower."""
        assert isinstance(self.train_loader, TrainClips) and isinstance(self.val_loader, EvalClips)
        encode = frame_encoder(self.model, self.context)
        key = tower_key(self.cfg, self.model, self.context.precision)
        self.train_loader, self.val_loader = cached_loaders(
            self.cfg, self.context, self.train_loader, self.val_loader, encode, key
        )

    def validate(self) -> Validation:
        """Validation scores of the weights to be saved, equal on all processes."""
        with self.trainer.kept_weights(), unsharded(self.model, self.cfg.solver.shard):
            return validate(self.model, self.text, self.val_loader, self.context, self.cfg.data)

    def save(self, keeper: CheckpointKeeper, metrics: MetricsWriter, is_best: bool = False) -> None:
        """Save a checkpoint; `keeper.failure` is set if that fails."""
        with self.trainer.kept_weights():
            config_text = dump_config(self.cfg)
            state = run_state(self.model, self.trainer, self.progress, self.class_names, config_text, self.base)
            if self.context.process.is_main:
                metrics.sync()
                keeper.save(state, is_best)

    def fit(self, metrics: MetricsWriter, keeper: CheckpointKeeper) -> bool:
        """Train from `progress` to the last epoch and save; returns False after a request to stop."""
        first = self.train_loader.dataset.entries[0]
        data = configs_of_sets(self.cfg)[0].data
        root = clip_root(data, data.train_root)
        is_packed = isinstance(root, ClipShards) or is_packed_clip(Path(root, first.path))
        while self.progress.epoch < self.cfg.solver.epochs and not self._has_ended_early():
            self.train_loader.start_epoch(self.progress.epoch, self.progress.consumed_clips)
            num_clips = len(self.train_loader.dataset)
            epoch = EpochInfo(self.progress.epoch, len(self.train_loader), num_clips, is_packed)
            meter = TrainingMeter(self.cfg, self.context.process, metrics, epoch)
            for record in self.trainer.run_epoch(self.train_loader, self.progress, settle_after=keeper.is_due):
                meter.show(record)
                if record.step == self.progress.step and keeper.is_due(self.progress.step):
                    self.save(keeper, metrics)
            meter.close()
            if not self._end_epoch(meter, keeper, metrics):
                return False
        return True

    def _has_ended_early(self) -> bool:
        """Whether to stop early because of `solver.patience`, which is logged."""
        solver, progress = self.cfg.solver, self.progress
        if not 0 < solver.patience <= progress.stale_validations:
            return False
        log.info(
            f"stopped early after epoch {progress.epoch}: {solver.patience_score} has not exceeded "
            f"{progress.best_watched:.2f} in the last {progress.stale_validations} validations (solver.patience)"
        )
        return True

    def _end_epoch(self, meter: TrainingMeter, keeper: CheckpointKeeper, metrics: MetricsWriter) -> bool:
        """Validate if due, and save; returns False after a request to stop."""
        progress, logging_config = self.progress, self.cfg.logging
        is_stopped, is_best = meter.is_stopped, False
        num_epochs, best_before = progress.epoch + 1, progress.best_top1
        is_due = num_epochs % logging_config.eval_freq == 0 or num_epochs == self.cfg.solver.epochs
        if not is_stopped and is_due:
            try:
                validation = self.validate()
            except Stopped:
                is_stopped = True  # the epoch is saved, and the resumed run starts with its validation
            else:
                scores = validation.scores
                main = scores.top1 if isinstance(scores, Scores) else scores.map
                is_best = main > progress.best_top1
                progress.best_top1 = max(main, progress.best_top1)
                watched = getattr(scores, self.cfg.solver.patience_score) if self.cfg.solver.patience else main
                progress.stale_validations = 0 if watched > progress.best_watched else progress.stale_validations + 1
                progress.best_watched = max(watched, progress.best_watched)
                progress.validations += 1
                meter.show_validation(num_epochs, progress.step, validation)
        if not is_stopped:
            progress.epoch, progress.consumed_clips = num_epochs, 0
        self.save(keeper, metrics, is_best)
        if keeper.failure:
            progress.best_top1 = best_before  # the best score must be that of a saved checkpoint
        return not is_stopped


def train(args: argparse.Namespace, cfg: Config, config_warnings: list[str]) -> int:
    """Train with the config `cfg`; returns the exit code."""
    stop = StopRequest()
    process = distributed.start(cfg.solver.process_timeout_minutes)
    open_log(process, config_warnings, quiet=args.quiet, plain=args.plain)
    cfg = with_preprocessing(with_sets(cfg))
    chosen = rundir.choose_run_dir(cfg, args.log_time) if process.is_main else None
    with folder_lock(None if args.check or cfg.solver.evaluate else chosen, "logging.run_dir"):
        run_dir = distributed.share_from_main(chosen, process)
        assert run_dir is not None
        code = _train_in(run_dir, args, cfg, process, stop)
    distributed.stop()  # also after an early end, where gloo would abort a process whose peer has exited
    return code


def _train_in(run_dir: Path, args: argparse.Namespace, cfg: Config, process: Process, stop: StopRequest) -> int:
    """Check, evaluate or train in the run folder `run_dir`; returns the exit code."""
    context = RunContext(process, resolve_precision(cfg.solver.precision, process.device), stop.is_asked)
    train_entries = read_train_entries(cfg)
    run = build_run(cfg, context, train_entries)
    checked = ""
    if args.check:
        for of_set in configs_of_sets(cfg):
            train, val = (read_entries(of_set, root_and_list(of_set.data, side)[1]) for side in ("train", "val"))
            for warning in list_warnings(of_set.data, train, val, class_names(of_set.data)):
                log.warning("WARNING: %s", warning)
        checked = check_clips(cfg, run.train_loader.dataset, run.val_loader.dataset, process)
    resumed_from = restore(run, run_dir)
    if args.check:
        if process.is_main and not cfg.solver.evaluate:
            check_writable(run_dir, "logging.run_dir", is_folder=True)
        log.info("check passed: config, lists, labels, weights and run folder fit; %s", checked)
        return 0
    if cfg.solver.evaluate:
        for line in run.validate().describe():
            log.log(RESULT, "validation: %s", line)
        return 0
    if distributed.any_process(context.stop_requested(), process):
        log.info("stopped by a signal before the first step: nothing was written; run the same command again")
        return requeue_code()
    if process.is_main:
        picks = None if train_entries.picks is None else [entry.text for entry in train_entries.picks]
        rundir.make_run_dir(run_dir, dump_config(cfg), picks)
        log_to_file(run_dir / "log.txt")
    metrics = MetricsWriter(run_dir, process, cfg, run.progress)
    keeper = CheckpointKeeper(run_dir, cfg.solver.keep_last, cfg.solver.save_every, resumed_from)
    if cfg.data.cached_draws:
        run.cache_frames()

    is_finished = run.fit(metrics, keeper)

    metrics.close()
    distributed.stop()
    if not is_finished:
        log.info("stopped by a signal and saved after step %d; continue with resume=auto", run.progress.step)
        return requeue_code()
    stop.close()
    if keeper.failure:
        reason = keeper.failure.strerror or keeper.failure
        remedy = DISK_REMEDIES.get(keeper.failure.errno or 0, f"correct that ({reason})")
        fault = f"the last checkpoint could not be written; {remedy} and run again with resume=auto"
        raise UserError(f"{run_dir}: {fault}") from keeper.failure
    if process.is_main:
        log.log(RESULT, "%s", describe_run(metrics.records()))
    main_score = "mAP" if cfg.data.multi_label else "top-1"
    log.info("%s", rundir.describe_end(run_dir, f"{main_score} {run.progress.best_top1:.2f}%"))
    return 0


def build_run(cfg: Config, context: RunContext, train_entries: TrainEntries) -> TrainingRun:
    """Create loaders, model and trainer, and log the summary of the run."""
    process = context.process
    names = class_names(cfg.data)
    train_loader = build_train_loader(cfg, process.world_size, process.rank, train_entries.entries).to(process.device)
    val_loader = build_eval_loader(cfg, process.world_size, process.rank).to(process.device)
    model, text = build_model_and_text(cfg, names, context.device)
    base = base_of(cfg, model) if cfg.solver.save == "trained" else None
    clip = clip_weights(model) if cfg.solver.interpolated_loss else None
    if cfg.solver.distill:
        attach_distillation(cfg, model, names, context.device)
    if cfg.pretrain:
        load_video_weights(model, load_checkpoint(cfg.pretrain), cfg.pretrain, new_classes=True)
        if base is not None and base_of(cfg, model) != base:
            raise UserError(
                f"{cfg.pretrain}: pretrain changes frozen weights, which are not saved with solver.save: trained; "
                "set solver.save=all"
            )
    check_training(cfg, model, context)
    log.info("%s", describe_plan(cfg, model, text, train_entries, len(val_loader.dataset), context))
    log.info("%s", describe_groups(parameter_groups(cfg, model), cfg.solver.lr))
    Loss.named(cfg.solver.loss_type).check_class_weights(cfg)  # before computing them, which needs one label per clip
    weights = class_weights(cfg, train_entries.entries)
    trainer = build_trainer(cfg, model, text, context, clip, weights)
    progress = Progress(epoch=cfg.solver.start_epoch)
    return TrainingRun(cfg, context, names, model, text, trainer, progress, train_loader, val_loader, base)


def restore(run: TrainingRun, run_dir: Path) -> Path | None:
    """Resume `run` from the checkpoint of the config; returns its path, or None for a new run."""
    found = find_checkpoint(run.cfg.resume, run_dir)
    check_same_checkpoint(found, run.context.process)
    if found is None:
        return None
    run.progress = restore_run(found, run.cfg, run.class_names, run.model, run.trainer, run.train_loader)
    if run.progress.epoch >= run.cfg.solver.epochs:
        log.info("%s is finished; to train longer, increase solver.epochs (%d)", found[0], run.cfg.solver.epochs)
    else:
        log.info("resumed from %s: epoch %d, step %d", found[0], run.progress.epoch + 1, run.progress.step)
    return found[0]
