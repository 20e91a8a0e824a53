"""Rules between config keys of the training of a model."""

from modules.adapters import TUNING_ONLY
from modules.losses import BESIDE_DISTILLATION, OF_OWN_CLASSES, OF_SEVERAL_LABELS
from modules.optimizers import OPTIMIZERS
from modules.schedule import SCHEDULES
from utils.schema_rules import Rule, TrainRule


def _are_milestones(step: int | list[int]) -> bool:
    """Whether `solver.lr_decay_step` is a positive number of epochs, or an ascending list of epochs."""
    if isinstance(step, int):
        return step > 0
    return bool(step) and step[0] > 0 and sorted(set(step)) == step


def _can_shard(optim: str) -> bool:
    return optim in OPTIMIZERS and OPTIMIZERS[optim].can_shard


def _has_betas(optim: str) -> bool:
    return optim not in OPTIMIZERS or OPTIMIZERS[optim].num_betas > 0  # those of timm are checked when it is created


RULES = (
    TrainRule(
        ("data.mixup", "data.batch_size"),
        lambda c: c.data.mixup.is_on and c.data.batch_size % 2 == 1,
        "a clip is mixed with a partner from its batch; make batch_size even",
    ),
    TrainRule(
        ("data.cached_draws", "data.mixup", "data.repeats"),
        lambda c: c.data.cached_draws > 0 and (c.data.mixup.is_on or c.data.repeats > 1),
        "mixup and repeats need pixels in each epoch, which cached frame embeddings do not have; set mixup.prob "
        "to 0 and repeats to 1",
    ),
    TrainRule(
        ("data.multi_label", "solver.loss_type"),
        lambda c: c.data.multi_label != (c.solver.loss_type in OF_SEVERAL_LABELS),
        "lists with several labels per video and loss_type BCE need each other; set multi_label "
        "to true and loss_type to BCE, or neither",
    ),
    TrainRule(
        ("data.multi_label", "data.shot", "data.mixup", "solver.label_smoothing", "data.sampling"),
        lambda c: (
            c.data.multi_label
            and (c.data.shot > 0 or c.data.mixup.is_on or c.solver.label_smoothing > 0 or c.data.sampling == "balanced")
        ),
        "few-shot picks, mixup, label smoothing and balanced sampling need one label per video; set shot, "
        "mixup.prob and label_smoothing to 0 and sampling to uniform",
    ),
    TrainRule(
        ("data.multi_label", "solver.patience", "solver.patience_score"),
        lambda c: c.solver.patience > 0 and c.data.multi_label != (c.solver.patience_score == "map"),
        "multi_label validation has only the score map, other validation all others; change patience_score",
    ),
    TrainRule(
        ("data.cached_draws", "network.fix_video"),
        lambda c: c.data.cached_draws > 0 and not c.network.fix_video,
        "frame embeddings can be cached only if the image tower is frozen; set network.fix_video to true",
    ),
    TrainRule(
        ("solver.shard", "solver.compile", "solver.interpolated_loss", "data.cached_draws"),
        lambda c: (
            c.solver.shard != "none" and (c.solver.compile or c.solver.interpolated_loss > 0 or c.data.cached_draws > 0)
        ),
        "shard is not supported with compile, interpolated_loss and cached_draws; set them to false and 0, or shard to "
        "none",
    ),
    TrainRule(
        ("data.label_space", "solver.loss_type", "data.mixup", "solver.label_smoothing"),
        lambda c: (
            bool(c.data.sets)
            and c.data.label_space == "apart"
            and (c.solver.loss_type not in OF_OWN_CLASSES or c.data.mixup.is_on or c.solver.label_smoothing > 0)
        ),
        "classes that are apart need loss_type CE, and labels of one class: set mixup.prob and label_smoothing to 0",
    ),
    TrainRule(
        ("solver.shard", "solver.optim"),
        lambda c: c.solver.shard != "none" and not _can_shard(c.solver.optim),
        "shard is supported with PyTorch's AdamW and Adam: set optim to adamw or adam",
    ),
    Rule(
        ("solver.lr_decay_step", "solver.type"),
        lambda c: SCHEDULES[c.solver.type].has_milestones and not _are_milestones(c.solver.lr_decay_step),
        "must be a positive number of epochs or an ascending list of epochs",
    ),
    TrainRule(
        ("solver.betas", "solver.optim"),
        lambda c: (
            c.solver.betas is not None and not (_has_betas(c.solver.optim) and all(0 <= b < 1 for b in c.solver.betas))
        ),
        "must be numbers of at least 0 and below 1, for an optimiser with betas (sgd has momentum)",
    ),
    Rule(
        ("solver.min_lr", "solver.lr"), lambda c: c.solver.min_lr >= c.solver.lr, "min_lr must be below lr", ("train",)
    ),
    TrainRule(
        ("solver.ema", "solver.average_epochs"),
        lambda c: c.solver.ema is not None and c.solver.average_epochs,
        "both average the weights; remove one",
    ),
    Rule(
        ("solver.interpolated_range",),
        lambda c: not 0 <= c.solver.interpolated_range[0] <= c.solver.interpolated_range[1] <= 1,
        "must be two shares with 0 <= smallest <= largest <= 1, such as [0.0, 0.6]",
    ),
    TrainRule(
        ("solver.interpolated_loss", "solver.distill", "network.fix_video", "network.fix_text"),
        lambda c: (
            (c.solver.interpolated_loss > 0 or c.solver.distill > 0) and c.network.fix_video and c.network.fix_text
        ),
        "keep trained weights near CLIP's, but none of CLIP's weights are trained; set fix_video or fix_text to false",
    ),
    TrainRule(
        ("network.adapter", "network.fix_video"),
        lambda c: c.network.adapter in TUNING_ONLY and c.network.fix_video,
        lambda c: (
            f"{c.network.adapter} tunes {TUNING_ONLY[c.network.adapter]} of the image tower, which fix_video freezes; "
            "set fix_video to false"
        ),
    ),
    TrainRule(
        ("solver.interpolated_loss", "network.adapter"),
        lambda c: c.solver.interpolated_loss > 0 and c.network.adapter is not None,
        "interpolates CLIP's weights, which an adapter freezes; set interpolated_loss to 0 or adapter to null",
    ),
    TrainRule(
        ("solver.distill", "solver.loss_type", "network.joint_st", "data.cached_draws"),
        lambda c: (
            c.solver.distill > 0
            and (c.solver.loss_type not in BESIDE_DISTILLATION or c.network.joint_st or c.data.cached_draws > 0)
        ),
        "compares each frame's embedding with frozen CLIP's, beside loss_type CE; set joint_st to false and "
        "cached_draws to 0",
    ),
    TrainRule(
        ("solver.lr_warmup_step", "solver.epochs"),
        lambda c: not c.solver.evaluate and c.solver.lr_warmup_step >= c.solver.epochs,
        "the warm-up is as long as the training, so the learning rate never reaches lr; set lr_warmup_step below "
        "epochs",
        is_advice=True,
    ),
)
