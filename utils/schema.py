"""The typed schema of a config: every key with its type, range, default, unit and meaning.

`utils.config` loads YAML into it; `docs/config.md` is made from it.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator

from utils.config_fields import OneOf, Section, key, none_string
from utils.interval import parse_interval
from utils.project_paths import NameOrPath, OptionalNameOrPath, OptionalPath, ProjectPath

# Keys that occur in users' files and never had an effect: accepted with a warning.
MEANINGLESS_KEYS = ("network.type", "network.drop", "solver.epoch_offset")


class RandAugConfig(Section):
    N: int = key(0, "operations applied to each training clip; 0 switches RandAugment off", "operations", ge=0)
    M: int = key(9, "strength of each operation", "0 to 30", ge=0, le=30)


# Far above what anyone can mean: a slip of the keyboard is reported before memory runs out.
MAX_SEED = 2**63 - 1  # of PyTorch's generators
MAX_FRAMES = 4096  # for each factor of a clip's length
MAX_LAYERS = 256
MAX_SIDE = 8192


class DataConfig(Section):
    dataset: str = key("dataset", "its name; with 'something' in it: something-something's scale, crop and flip")
    modality: Literal["RGB", "video"] = key("RGB", "RGB: folders of frames; video: video files, decoded on the fly")
    num_segments: int = key(8, "parts of a video that a clip has frames from", "segments", ge=1, le=MAX_FRAMES)
    seg_length: int = key(1, "consecutive frames taken in each segment", "frames", ge=1, le=MAX_FRAMES)
    batch_size: int = key(8, "clips a process takes at a time", "clips per process", ge=1)
    workers: int = key(4, "loader processes of each process; 0 loads in the process itself", "processes", ge=0)
    num_classes: int = key(400, "K, classes in label_list", "classes", ge=1)
    image_tmpl: str = key("img_{:05d}.jpg", "file name of a frame, with its number in braces")
    train_root: ProjectPath = key("", "folder that the paths of train_list start from; empty: the repository")
    train_list: OptionalPath = key(None, "training videos: `path num_frames label` (RGB) or `path label` (video)")
    val_root: ProjectPath = key("", "folder that the paths of val_list start from; empty: the repository")
    val_list: OptionalPath = key(None, "validation videos, like train_list")
    label_list: OptionalPath = key(None, "class descriptions: CSV `id,name`")
    index_bias: int = key(1, "number of a video's first frame in its file name", "", ge=0)
    input_size: int = key(224, "side of the square that the image tower sees", "pixels", ge=8, le=MAX_SIDE)
    randaug: RandAugConfig = key(RandAugConfig, "RandAugment of training clips (torchvision's)")
    random_shift: bool = key(True, "training: a random frame inside each segment; false: the validation frames")
    shot: int = key(0, "few-shot training: videos a class; 0 takes all", "videos per class", ge=0)
    shot_seed: int = key(0, "seed of the few-shot picks", "", ge=0, le=MAX_SEED)
    dense: bool = key(False, "dense sampling from a window of 128 frames instead of uniform sampling over the video")
    decoder: Literal["pyav", "decord", "torchcodec"] = key(
        "pyav", "reader of video files; the last two are installed apart"
    )
    flip: float = key(0.5, "probability to mirror a training clip; 0 where left and right are classes", "", ge=0, le=1)
    grayscale: float = key(0.2, "probability that a training clip loses its colours", "", ge=0, le=1)
    area_range: list[float] = key(
        lambda: [0.08, 1.0],
        "smallest and largest random-resized crop",
        "share of the frame",
        min_length=2,
        max_length=2,
    )
    cached_draws: int = key(
        0,
        "frozen image tower: its frame embeddings of so many random draws of each clip are kept on disk and trained "
        "from, epoch e from draw e mod n; 0: computed anew",
        "draws per clip",
        ge=0,
    )
    on_error: Literal["raise", "skip"] = key(
        "raise", "unreadable training clip. raise: stop; skip: take another of its class, and say so"
    )
    max_skipped_share: float = key(
        0.01, "on_error skip: stop when more of an epoch's clips are unreadable", "share of the clips", ge=0, le=1
    )
    allow_outside_root: bool = key(False, "list paths may be absolute or leave their root by `..`")

    @property
    def num_frames(self) -> int:
        """T, frames of a clip."""
        return self.num_segments * self.seg_length


class NetworkConfig(Section):
    arch: NameOrPath = key(
        "ViT-B/32",
        "CLIP's or open_clip's model name (ViT-B/32, RN50 ...), or the path of an OpenAI-format file",
    )
    weights: NameOrPath = key(
        "openai",
        "weights tag, path of a weights file, or `none` (random); unused where arch is a path",
    )
    init: bool = key(True, "true: all of CLIP's weights; false: only the image tower's")
    tm: Annotated[str | bool, OneOf("modules.additions.TM", (False,))] = key(
        False, "temporal addition inside the image tower"
    )
    drop_out: float = key(
        0.0,
        "attention dropout and stochastic depth of the image tower's last block, less before",
        "",
        ge=0,
        lt=1,
    )
    emb_dropout: float = key(0.0, "dropout of the image tower's embeddings before ln_pre", "", ge=0, lt=1)
    patch_dropout: float = key(
        0.0,
        "share of each frame's patches (FLIP, arXiv 2212.00794) that a ViT leaves out in training: cheaper steps",
        "",
        ge=0,
        lt=1,
    )
    sim_header: Annotated[str | None, OneOf("modules.heads.HEADS"), BeforeValidator(none_string)] = key(
        "Transf", "temporal head. Transf: transformer blocks over the frame embeddings; None: their mean"
    )
    head_layers: int = key(
        6, "blocks of the Transf head; six in every published checkpoint", "blocks", ge=1, le=MAX_LAYERS
    )
    joint_st: bool = key(False, "one sequence of all frames' patches (joint space-time attention); no head")
    fix_text: bool = key(True, "the text tower is frozen")
    fix_video: bool = key(False, "the image tower is frozen")
    prompt: str = key("a video of a person {}.", "sentence around a class name; `{}` is the name")
    prompt_set: OptionalNameOrPath = key(
        None,
        "null: `prompt` alone; action16, action28: ensembles of templates; or a YAML: a list of templates, or "
        "descriptions by class name",
    )
    classifier: Annotated[str, OneOf("modules.classifiers.CLASSIFIERS")] = key(
        "clip_text", "where the class embeddings come from; all but clip_text are studies of how much the text matters"
    )
    classifier_file: OptionalPath = key(None, "classifier lda (from tools/fit_lda.py) or file: its .npz")
    train_classifier: bool = key(False, "train the class embeddings too, starting from the classifier's")
    language_model: NameOrPath = key(
        "distilbert-base-uncased", "classifier language_model: transformers' name or folder of an encoder"
    )
    language_pooling: Literal["mean", "cls"] = key(
        "mean", "classifier language_model: mean over the tokens, or the first token"
    )
    context_tokens: int = key(0, "CoOp: learned tokens in place of the prompt; 0: none", "tokens", ge=0, le=64)
    context_init: str | None = key(None, "CoOp: words that the context starts from, context_tokens long; null: random")
    context_position: Literal["end", "middle", "front"] = key("end", "CoOp: where the class name stands")
    context_per_class: bool = key(False, "CoOp: a context for each class instead of a shared one")


class SolverConfig(Section):
    type: Literal["cosine", "multistep"] = key("cosine", "decay of the learning rate after the warm-up")
    epochs: int = key(30, "length of the training", "epochs", ge=1)
    start_epoch: int = key(0, "first epoch; `resume` overrides it", "epochs", ge=0)
    optim: Literal["adamw", "adam", "sgd"] = key("adamw", "optimiser")
    lr: float = key(5e-5, "learning rate of everything but the image tower and the logit scale", "", gt=0)
    lr_warmup_step: float = key(5, "linear warm-up from 0", "epochs", ge=0)
    lr_decay_step: int | list[int] = key(15, "multistep: x0.1 every so many epochs, or at each of a list", "epochs")
    momentum: float = key(0.9, "momentum of sgd", "", ge=0, lt=1)
    weight_decay: float = key(0.2, "weight decay, of every parameter", "", ge=0)
    loss_type: Annotated[str, OneOf("modules.losses.LOSSES")] = key(
        "CE", "CE: cross-entropy over the class texts; NCE, DS: video-text contrast"
    )
    evaluate: bool = key(False, "validate once and stop, without training")
    clip_ratio: float = key(0.1, "learning rate of the image tower and the logit scale", "share of lr", ge=0)
    grad_accumulation_steps: int = key(1, "batches summed into one optimiser step", "batches", ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16", "amp"] = key(
        "auto",
        "auto: bf16 on a GPU that has it, else fp16; fp32 on a CPU (bf16 is about three times as fast on those with "
        "AVX512-BF16 or AMX); amp: fp16 on a GPU, fp32 on a CPU",
    )
    save_every: int | str | None = key(
        None, "save within an epoch too: every so many steps (500) or minutes (10min)", "steps or minutes"
    )
    keep_last: int = key(2, "checkpoints kept besides the best: last_model.pt, last_model.1.pt ...", "files", ge=1)
    clip_grad_norm: float | None = key(None, "largest norm of the whole gradient; null: unlimited", "", gt=0)
    max_nonfinite_steps: int = key(
        0, "steps without update, for a loss or gradient that is not finite, before the run stops", "steps", ge=0
    )
    process_timeout_minutes: float = key(
        10, "several processes: how long one waits for the others before it gives up and ends", "minutes", gt=0
    )
    activation_checkpointing: bool = key(False, "recompute blocks in the backward pass: less memory, slower")
    compile: bool = key(False, "torch.compile of image tower and head: the first step takes a minute or more")
    ema: float | None = key(
        None,
        "decay a step of a running average of the weights, as 0.9998, which is validated and saved; null: none",
        "",
        gt=0,
        lt=1,
    )


class LoggingConfig(Section):
    print_freq: int = key(10, "a console line every so many optimiser steps", "steps", ge=1)
    eval_freq: int = key(5, "validation every so many epochs, and after the last", "epochs", ge=1)
    run_dir: OptionalPath = key(
        None, "run folder; null: exp/<data.dataset>/<network.arch>/f<frames>, few-shot below exp_fewshot/"
    )
    cache_dir: ProjectPath = key("exp/cache", "folder of what is computed once and shared by runs, as text embeddings")
    tensorboard: bool = key(True, "write TensorBoard event files into the run folder")
    wandb_project: str | None = key(
        None, "project of Weights & Biases (pip install wandb) that the run is shown in too; null: none"
    )


class Config(Section):
    resume: OptionalNameOrPath = key(None, "checkpoint to go on from; `auto`: the newest good one of the run folder")
    pretrain: OptionalPath = key(None, "video checkpoint to start from: its weights only")
    seed: int = key(1024, "seed of everything random", "", ge=0, le=MAX_SEED)
    components: dict[str, dict[str, Any]] = key(
        dict, "settings of components that have their own, below the name of the component (docs/layout.md)"
    )
    data: DataConfig = key(DataConfig, "")
    network: NetworkConfig = key(NetworkConfig, "")
    solver: SolverConfig = key(SolverConfig, "")
    logging: LoggingConfig = key(LoggingConfig, "")


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
        "must be a file name with the frame's number in braces, as img_{:05d}.jpg",
    ),
    Rule(
        ("data.area_range",),
        lambda c: not 0 < c.data.area_range[0] <= c.data.area_range[1] <= 1,
        "must be two shares with 0 < smallest <= largest <= 1, as [0.08, 1.0]",
    ),
    Rule(("network.prompt",), lambda c: "{}" not in c.network.prompt, "must hold {} where the class name goes"),
    Rule(
        ("network.classifier", "network.classifier_file"),
        lambda c: c.network.classifier in ("lda", "file") and not c.network.classifier_file,
        "this classifier is read from a file; give its .npz as classifier_file",
    ),
    Rule(
        ("network.fix_text", "network.classifier", "network.prompt_set"),
        lambda c: not c.network.fix_text and not _has_one_prompt(c),
        "a text tower that trains takes one prompt a class; set classifier to clip_text and prompt_set to null",
    ),
    Rule(
        ("network.context_tokens", "network.classifier", "network.prompt_set"),
        lambda c: c.network.context_tokens > 0 and not _has_one_prompt(c),
        "a learned context replaces the prompt; set classifier to clip_text and prompt_set to null",
    ),
    Rule(
        ("network.context_tokens", "network.context_init", "network.context_per_class"),
        lambda c: c.network.context_tokens == 0 and (bool(c.network.context_init) or c.network.context_per_class),
        "describe a learned context, and there is none; set context_tokens to its length",
    ),
    Rule(
        ("network.train_classifier", "network.fix_text", "network.context_tokens", "solver.loss_type"),
        lambda c: (
            c.network.train_classifier
            and (not c.network.fix_text or c.network.context_tokens > 0 or c.solver.loss_type != "CE")
        ),
        "class embeddings that train themselves leave no text to train and need loss_type CE; "
        "set fix_text to true and context_tokens to 0",
    ),
    Rule(
        ("network.joint_st", "network.sim_header"),
        lambda c: c.network.joint_st and c.network.sim_header != "None",
        "joint_st gives one embedding a video and leaves a head nothing to do; set sim_header to None",
    ),
    Rule(
        ("network.joint_st", "network.tm"),
        lambda c: c.network.joint_st and bool(c.network.tm),
        "joint_st has no frames of its own to shift; set tm to False",
    ),
    Rule(
        ("network.patch_dropout", "network.tm"),
        lambda c: c.network.patch_dropout > 0 and c.network.tm == "tsm",
        "tsm shifts a patch's channels between frames, and patch_dropout leaves out other patches in each; keep one",
    ),
    Rule(
        ("data.cached_draws", "network.fix_video"),
        lambda c: c.data.cached_draws > 0 and not c.network.fix_video,
        "frame embeddings can be kept only where the image tower does not change; set network.fix_video to true",
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
        "must be a positive number of epochs or a rising list of epochs",
    ),
    Rule(
        ("solver.save_every",),
        lambda c: _is_bad_interval(c.solver.save_every),
        "must be a number of steps, as 500, or of minutes, as 10min",
    ),
    Rule(
        ("logging.wandb_project",),
        lambda c: bool(c.logging.wandb_project) and find_spec("wandb") is None,
        "Weights & Biases is not installed; pip install wandb, or set it to null",
        ("train",),
    ),
    Rule(
        ("resume", "pretrain"),
        lambda c: bool(c.resume) and bool(c.pretrain),
        "are both given; resume goes on with a run, pretrain starts a new one: keep one",
        ("train",),
    ),
)

ADVICE = (
    Rule(
        ("solver.lr_warmup_step", "solver.epochs"),
        lambda c: not c.solver.evaluate and c.solver.lr_warmup_step >= c.solver.epochs,
        "the warm-up takes the whole training, in which the learning rate never reaches lr; set lr_warmup_step below "
        "epochs",
        ("train",),
    ),
    Rule(
        ("network.patch_dropout", "network.fix_video"),
        lambda c: not c.solver.evaluate and c.network.patch_dropout > 0 and c.network.fix_video,
        "a frozen image tower sees all patches, so patch_dropout has no effect; set it to 0",
        ("train",),
    ),
)


def dotted_keys(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, Any]:
    """Every key of the schema, dotted, with its pydantic field; sections themselves left out."""
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= dotted_keys(field.annotation, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field
    return found
