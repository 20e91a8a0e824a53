"""Trains a video model: the story of a run, from a config to its scores."""

import sys

from utils.cli import config_parser, run_story
from utils.config import load_config


def parse_arguments():
    parser = config_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="check all that a run needs, print the plan and stop")
    return parser.parse_intermixed_args()


def main(args) -> None:
    cfg, config_warnings = load_config(args.config, args.overrides, "train")

    # The heavy rooms come after the arguments, so that --help and a typo answer at once.
    from functools import partial

    import torch

    from datasets.build import build_eval_loader, build_train_loader, read_train_entries
    from datasets.check import read_samples
    from datasets.lists import read_labels
    from datasets.transforms import make_views
    from modules.build import build_model, build_text, load_clip_model
    from modules.build_training import build_trainer, parameter_groups
    from modules.checkpoint_layout import load_video_weights
    from modules.plan import describe_plan
    from modules.resume import restore_run, run_state
    from modules.training import Progress
    from modules.validation import validate
    from utils import distributed, rundir
    from utils.checkpoint import load_checkpoint, save_checkpoint
    from utils.config import dump_config
    from utils.files import write_text_atomic
    from utils.meter import TrainingMeter
    from utils.optim import describe_groups
    from utils.precision import resolve_precision
    from utils.runlog import MetricsWriter, open_log

    # ---- process, run folder, log
    process = distributed.start()
    run_dir = rundir.choose_run_dir(cfg.logging.run_dir, cfg.resume, args.config) if process.is_main else None
    run_dir = distributed.share_from_main(run_dir, process)
    if process.is_main and not args.check:
        rundir.prepare_run_dir(run_dir)
        write_text_atomic(run_dir / "config.yaml", dump_config(cfg))
    log = open_log(process, None if args.check else run_dir / "log.txt")
    for warning in config_warnings:
        log.warning("warning: %s", warning)

    # ---- data
    names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    train_entries = read_train_entries(cfg)
    train_loader = build_train_loader(cfg, process.world_size, process.rank, train_entries.entries)
    val_loader = build_eval_loader(cfg, process.world_size, process.rank, testing=False)

    # ---- model
    precision = resolve_precision(cfg.solver.precision, process.device)
    torch.manual_seed(cfg.seed)  # whatever of the model starts at random
    clip_model = load_clip_model(cfg)
    text = build_text(cfg, clip_model, names, process.device)
    model = build_model(cfg, clip_model)
    clip_model.drop_text()
    if cfg.pretrain:
        load_video_weights(model, load_checkpoint(cfg.pretrain), cfg.pretrain)

    # ---- plan
    log.info("%s", describe_plan(cfg, model, text, train_entries, len(val_loader.dataset), process, precision))
    log.info("%s", describe_groups(parameter_groups(cfg, model), cfg.solver.lr))
    if args.check:
        num_read = read_samples(train_loader.dataset) + read_samples(val_loader.dataset)
        log.info("check passed: config, lists, labels and weights fit; %d clips across the lists were read", num_read)
        return

    # ---- optimiser, resume
    model.to(process.device)
    trainer = build_trainer(cfg, model, text, process, precision)
    resume_from = rundir.find_resume(cfg.resume, run_dir)
    progress = Progress(epoch=cfg.solver.start_epoch)
    if resume_from is not None:
        progress = restore_run(resume_from, model, trainer.optimizer, trainer.scaler, len(train_loader))
        log.info("resumed from %s: epoch %d, step %d", resume_from, progress.epoch, progress.step)
    metrics = MetricsWriter(run_dir, process, cfg.logging.tensorboard, progress.step)
    check_scores = partial(
        validate,
        model,
        text,
        val_loader,
        partial(make_views, num_crops=1, size=cfg.data.input_size),
        cfg.data.batch_size,
        process,
        precision,
    )

    # ---- train
    if cfg.solver.evaluate:
        log.info("validation: %s", check_scores().describe())
        return
    while progress.epoch < cfg.solver.epochs:
        meter = TrainingMeter(cfg, process, metrics, len(train_loader), progress.epoch)
        for record in trainer.run_epoch(train_loader, progress):
            meter.show(record)
        meter.close()
        progress.epoch, progress.consumed_clips = progress.epoch + 1, 0
        is_best = False
        if progress.epoch % cfg.logging.eval_freq == 0 or progress.epoch == cfg.solver.epochs:
            scores = check_scores()
            is_best = scores.top1 > progress.best_top1
            progress.best_top1 = max(scores.top1, progress.best_top1)
            log.info("epoch %d validation: %s", progress.epoch, scores.describe())
            metrics.write("val", progress.step, epoch=progress.epoch, **scores._asdict())
        if process.is_main:
            state = run_state(model, trainer.optimizer, trainer.scaler, progress, dump_config(cfg))
            save_checkpoint(run_dir / rundir.LAST, state)
            if is_best:
                save_checkpoint(run_dir / rundir.BEST, state)

    # ---- end
    metrics.close()
    log.info("%s", rundir.describe_end(run_dir, progress.best_top1))
    distributed.stop()


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(run_story(main, arguments))
