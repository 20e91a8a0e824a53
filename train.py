"""Trains a video model: the story of a run, from a config to its scores."""

import sys

from utils.cli import config_parser, run_story
from utils.config import load_config
from utils.errors import UserError
from utils.stop import StopRequest


def parse_arguments(arguments: list[str] | None = None):
    parser = config_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="check all that a run needs, print the plan and stop")
    return parser.parse_intermixed_args(arguments)


def main(args) -> int:
    cfg, config_warnings = load_config(args.config, args.overrides, "train")

    stop = StopRequest()

    # The heavy rooms come after the arguments, so that --help and a typo answer at once.
    from functools import partial

    import torch

    from datasets.build import build_eval_loader, build_train_loader, read_train_entries
    from datasets.check import read_samples
    from datasets.lists import read_labels
    from datasets.transforms import make_views
    from modules.build import build_model_and_text
    from modules.build_training import build_trainer, parameter_groups
    from modules.checkpoint_layout import load_video_weights
    from modules.plan import describe_plan
    from modules.resume import find_checkpoint, restore_run, run_state
    from modules.training import Progress
    from modules.validation import validate
    from utils import distributed, rundir
    from utils.checkpoint import load_checkpoint
    from utils.config import dump_config
    from utils.keeper import CheckpointKeeper
    from utils.meter import TrainingMeter
    from utils.optim import describe_groups
    from utils.precision import resolve_precision
    from utils.runlog import MetricsWriter, log_to_file, open_log

    # ---- process, log, name of the run folder
    process = distributed.start(cfg.solver.process_timeout_minutes)
    log = open_log(process, config_warnings)
    run_dir = rundir.choose_run_dir(cfg.logging.run_dir, cfg.resume, args.config) if process.is_main else None
    run_dir = distributed.share_from_main(run_dir, process)

    # ---- data
    names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    train_entries = read_train_entries(cfg)
    train_loader = build_train_loader(cfg, process.world_size, process.rank, train_entries.entries)
    val_loader = build_eval_loader(cfg, process.world_size, process.rank, testing=False)

    # ---- model
    precision = resolve_precision(cfg.solver.precision, process.device)
    torch.manual_seed(cfg.seed)  # whatever of the model starts at random
    model, text = build_model_and_text(cfg, names, process.device)
    if cfg.pretrain:
        load_video_weights(model, load_checkpoint(cfg.pretrain), cfg.pretrain, new_classes=True)

    # ---- plan
    log.info("%s", describe_plan(cfg, model, text, train_entries, len(val_loader.dataset), process, precision))
    log.info("%s", describe_groups(parameter_groups(cfg, model), cfg.solver.lr))
    if args.check:
        num_read = read_samples(train_loader.dataset) + read_samples(val_loader.dataset)
        log.info("check passed: config, lists, labels and weights fit; %d clips across the lists were read", num_read)
        return 0

    # ---- optimiser, resume
    model.to(process.device)
    trainer = build_trainer(cfg, model, text, process, precision, stop.is_asked)
    progress = Progress(epoch=cfg.solver.start_epoch)
    found = find_checkpoint(cfg.resume, run_dir)
    if found is not None:
        progress = restore_run(*found, model, trainer.optimizer, trainer.scaler, len(train_loader))
        log.info("resumed from %s: epoch %d, step %d", found[0], progress.epoch + 1, progress.step)
    if process.is_main:
        rundir.make_run_dir(run_dir, dump_config(cfg), train_entries.picks)
        log_to_file(run_dir / "log.txt")
    metrics = MetricsWriter(run_dir, process, cfg.logging.tensorboard, progress.step, progress.consumed_clips > 0)
    keeper = CheckpointKeeper(run_dir, cfg.solver.keep_last, cfg.solver.save_every)
    crop = partial(make_views, num_crops=1, size=cfg.data.input_size)
    check_scores = partial(validate, model, text, val_loader, crop, cfg.data.batch_size, process, precision)

    def save(is_best: bool = False) -> bool:
        if not process.is_main:
            return True
        state = run_state(model, trainer.optimizer, trainer.scaler, progress, names, dump_config(cfg))
        return keeper.save(state, is_best)

    # ---- train
    if cfg.solver.evaluate:
        log.info("validation: %s", check_scores().describe())
        return 0
    is_saved = True
    while progress.epoch < cfg.solver.epochs:
        meter = TrainingMeter(cfg, process, metrics, len(train_loader), progress.epoch)
        for record in trainer.run_epoch(train_loader, progress, settle_after=keeper.is_due):
            meter.show(record)
            if record.step == progress.step and keeper.is_due(progress.step):
                save()
        meter.close()
        if meter.is_stopped:
            save()
            log.info("asked to stop: saved after step %d; resume=auto goes on", progress.step)
            distributed.stop()
            return stop.exit_code()
        progress.epoch, progress.consumed_clips = progress.epoch + 1, 0
        is_best = False
        if progress.epoch % cfg.logging.eval_freq == 0 or progress.epoch == cfg.solver.epochs:
            scores = check_scores()
            is_best = scores.top1 > progress.best_top1
            progress.best_top1 = max(scores.top1, progress.best_top1)
            log.info("epoch %d validation: %s", progress.epoch, scores.describe())
            metrics.write("val", progress.step, epoch=progress.epoch, **scores._asdict())
        is_saved = save(is_best)

    # ---- end
    metrics.close()
    stop.close()
    distributed.stop()
    if not is_saved:
        raise UserError(
            f"{run_dir}: the last checkpoint could not be written; make room and run again with resume=auto"
        )
    log.info("%s", rundir.describe_end(run_dir, progress.best_top1))
    return 0


if __name__ == "__main__":
    sys.exit(run_story(main, parse_arguments()))
