"""Rules between keys of a config (`utils.schema`)."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, NamedTuple

from utils.interval import parse_interval
from utils.schema import Config

Purpose = Literal["train", "test", "predict"]


class Rule(NamedTuple):
    """A rule over several keys. `broken(config)` means a fault, in ADVICE a warning; skipped where one of its keys
    or their sections is itself at fault.
    """

    keys: tuple[str, ...]
    broken: Callable[[Config], bool]
    message: str
    purposes: tuple[Purpose, ...] = ("train", "test", "predict")


def _is_bad_template(template: str) -> bool:
    try:
        return template.format(1) == template.format(2)
    except (ValueError, LookupError, AttributeError, TypeError, MemoryError):  # each a kind of braces, as {.foo}, {[0]}
        return True


def _has_one_prompt(config: Config) -> bool:
    """Whether each class is one prompt through CLIP's text tower."""
    return config.network.classifier == "clip_text" and config.network.prompt_set is None


def _are_pairs(pairs: list[list[int]], num_classes: int) -> bool:
    labels = [label for pair in pairs for label in pair]
    is_unique = len(set(labels)) == len(labels) and all(0 <= label < num_classes for label in labels)
    return is_unique and all(len(pair) == 2 for pair in pairs)


def _is_bad_interval(value: int | str | None) -> bool:
    try:
        parse_interval(value)
    except ValueError:
        return True
    return False


RULES = (
    Rule(
        ("data.train_list",),
        lambda c: not c.data.train_list,
        "is required; give the list of training videos",
        ("train",),
    ),
    Rule(
        ("data.val_list",),
        lambda c: not c.data.val_list,
        "is required; give the list of validation videos",
        ("train", "test"),
    ),
    Rule(
        ("data.label_list",),
        lambda c: not c.data.label_list,
        "is required; give the CSV of class descriptions",
        ("train", "test"),
    ),
    Rule(
        ("data.image_tmpl", "data.modality"),
        lambda c: c.data.modality == "RGB" and _is_bad_template(c.data.image_tmpl),
        "must be a file name with the frame's number in braces, such as img_{:05d}.jpg",
    ),
    Rule(
        ("data.area_range",),
        lambda c: not 0 < c.data.area_range[0] <= c.data.area_range[1] <= 1,
        "must be two shares with 0 < smallest <= largest <= 1, such as [0.08, 1.0]",
    ),
    Rule(
        ("data.resize_size", "data.input_size"),
        lambda c: None not in (c.data.resize_size, c.data.input_size) and c.data.resize_size < c.data.input_size,
        "the frames would be smaller than what the image tower sees; set resize_size to input_size or more",
    ),
    Rule(
        ("data.scale", "data.input_size"),
        lambda c: c.data.scale is not None and min(c.data.scale) < (c.data.input_size or 1),
        "the frames would be smaller than what the image tower sees; set both numbers of scale to input_size or more",
    ),
    Rule(
        ("data.flip_pairs", "data.num_classes"),
        lambda c: not _are_pairs(c.data.flip_pairs or [], c.data.num_classes),
        "must be pairs of class ids below num_classes, each class in one pair, such as [[86, 87], [93, 94]]",
    ),
    Rule(
        ("data.std",),
        lambda c: c.data.std is not None and min(c.data.std) <= 0,
        "pixels are divided by it; give three numbers above 0",
    ),
    Rule(
        ("data.frame_rule", "data.dense"),
        lambda c: c.data.frame_rule == "linspace" and c.data.dense,
        "linspace takes frames of the whole video, and dense of a window; keep one",
    ),
    Rule(
        ("data.erasing.area_range",),
        lambda c: not 0 < c.data.erasing.area_range[0] <= c.data.erasing.area_range[1] < 1,
        "must be two shares with 0 < smallest <= largest < 1, as [0.02, 0.33]",
    ),
    Rule(
        ("data.mixup", "data.batch_size"),
        lambda c: c.data.mixup.is_on and c.data.batch_size % 2 == 1,
        "a clip and its partner are in one batch; make batch_size even",
        ("train",),
    ),
    Rule(
        ("data.cached_draws", "data.mixup", "data.repeats"),
        lambda c: c.data.cached_draws > 0 and (c.data.mixup.is_on or c.data.repeats > 1),
        "mixup and repeats need the pixels of each epoch, and of kept frame embeddings there are none; set mixup.prob "
        "to 0 and repeats to 1",
        ("train",),
    ),
    Rule(("network.prompt",), lambda c: "{}" not in c.network.prompt, "must contain {} for the class name"),
    Rule(
        ("network.classifier", "network.classifier_file"),
        lambda c: c.network.classifier in ("lda", "file") and not c.network.classifier_file,
        "this classifier is read from a file; give its .npz as classifier_file",
    ),
    Rule(
        ("network.fix_text", "network.classifier", "network.prompt_set"),
        lambda c: not c.network.fix_text and not _has_one_prompt(c),
        "a trained text tower uses one prompt per class; set classifier to clip_text and prompt_set to null",
    ),
    Rule(
        ("network.context_tokens", "network.classifier", "network.prompt_set"),
        lambda c: c.network.context_tokens > 0 and not _has_one_prompt(c),
        "a learned context replaces the prompt; set classifier to clip_text and prompt_set to null",
    ),
    Rule(
        ("network.context_tokens", "network.context_init", "network.context_per_class"),
        lambda c: c.network.context_tokens == 0 and (bool(c.network.context_init) or c.network.context_per_class),
        "apply only to a learned context; set context_tokens to its length",
    ),
    Rule(
        ("network.train_classifier", "network.fix_text", "network.context_tokens", "solver.loss_type"),
        lambda c: (
            c.network.train_classifier
            and (not c.network.fix_text or c.network.context_tokens > 0 or c.solver.loss_type != "CE")
        ),
        "trained class embeddings replace the text and need loss_type CE; set fix_text to true and context_tokens to 0",
    ),
    Rule(
        ("network.joint_st", "network.sim_header"),
        lambda c: c.network.joint_st and c.network.sim_header != "None",
        "joint_st gives one embedding per video, so there are no frames for a head; set sim_header to None",
    ),
    Rule(
        ("network.joint_st", "network.tm"),
        lambda c: c.network.joint_st and bool(c.network.tm),
        "joint_st has no separate frames to shift; set tm to False",
    ),
    Rule(
        ("network.patch_dropout", "network.tm"),
        lambda c: c.network.patch_dropout > 0 and c.network.tm == "tsm",
        "tsm shifts a patch's channels between frames, and patch_dropout leaves out other patches in each; keep one",
    ),
    Rule(
        ("data.cached_draws", "network.fix_video"),
        lambda c: c.data.cached_draws > 0 and not c.network.fix_video,
        "frame embeddings can be cached only if the image tower is frozen; set network.fix_video to true",
        ("train",),
    ),
    Rule(
        ("solver.start_epoch", "solver.epochs"),
        lambda c: c.solver.start_epoch >= c.solver.epochs,
        "start_epoch must be below epochs",
        ("train",),
    ),
    Rule(
        ("solver.lr_decay_step", "solver.type"),
        lambda c: (
            c.solver.type == "multistep"
            and (
                c.solver.lr_decay_step <= 0
                if isinstance(c.solver.lr_decay_step, int)
                else not c.solver.lr_decay_step
                or min(c.solver.lr_decay_step) <= 0
                or sorted(set(c.solver.lr_decay_step)) != c.solver.lr_decay_step
            )
        ),
        "must be a positive number of epochs or an ascending list of epochs",
    ),
    Rule(
        ("solver.betas", "solver.optim"),
        lambda c: (
            c.solver.betas is not None and (c.solver.optim == "sgd" or not all(0 <= b < 1 for b in c.solver.betas))
        ),
        "must be numbers of at least 0 and below 1, of an optimiser that has betas (sgd has momentum)",
        ("train",),
    ),
    Rule(
        ("solver.min_lr", "solver.lr"),
        lambda c: c.solver.min_lr >= c.solver.lr,
        "min_lr must be below lr",
        ("train",),
    ),
    Rule(
        ("solver.ema", "solver.average_epochs"),
        lambda c: c.solver.ema is not None and c.solver.average_epochs,
        "are two averages of the weights; keep one",
        ("train",),
    ),
    Rule(
        ("solver.interpolated_range",),
        lambda c: not 0 <= c.solver.interpolated_range[0] <= c.solver.interpolated_range[1] <= 1,
        "must be two shares with 0 <= smallest <= largest <= 1, as [0.0, 0.6]",
    ),
    Rule(
        ("solver.interpolated_loss", "solver.distill", "network.fix_video", "network.fix_text"),
        lambda c: (
            (c.solver.interpolated_loss > 0 or c.solver.distill > 0) and c.network.fix_video and c.network.fix_text
        ),
        "keep weights that train near CLIP's, and here none of CLIP's train; set fix_video or fix_text to false",
        ("train",),
    ),
    Rule(
        ("solver.distill", "solver.loss_type", "network.joint_st", "data.cached_draws"),
        lambda c: (
            c.solver.distill > 0 and (c.solver.loss_type != "CE" or c.network.joint_st or c.data.cached_draws > 0)
        ),
        "compares each frame's embedding with frozen CLIP's, beside loss_type CE; set joint_st to false and "
        "cached_draws to 0",
        ("train",),
    ),
    Rule(
        ("solver.save_every",),
        lambda c: _is_bad_interval(c.solver.save_every),
        "must be a number of steps, such as 500, or of minutes, such as 10min",
    ),
    Rule(
        ("logging.wandb_project",),
        lambda c: bool(c.logging.wandb_project) and find_spec("wandb") is None,
        "Weights & Biases is not installed; run 'pip install wandb', or set it to null",
        ("train",),
    ),
    Rule(
        ("resume", "pretrain"),
        lambda c: bool(c.resume) and bool(c.pretrain),
        "are both given; resume continues a run, pretrain starts a new one; keep one",
        ("train",),
    ),
)

ADVICE = (
    Rule(
        ("solver.lr_warmup_step", "solver.epochs"),
        lambda c: not c.solver.evaluate and c.solver.lr_warmup_step >= c.solver.epochs,
        "the warm-up is as long as the training, so the learning rate never reaches lr; set lr_warmup_step below "
        "epochs",
        ("train",),
    ),
    Rule(
        ("network.patch_dropout", "network.fix_video"),
        lambda c: not c.solver.evaluate and c.network.patch_dropout > 0 and c.network.fix_video,
        "patch_dropout has no effect on a frozen image tower; set it to 0",
        ("train",),
    ),
)
