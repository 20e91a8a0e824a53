"""The typed schema of a config: every key with its type, range, default, unit and meaning.

`utils.config` loads YAML into it; `docs/config.md` is made from it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator

from utils.config_fields import OneOf, Section, key, none_string
from utils.project_paths import NameOrPath, OptionalNameOrPath, OptionalPath, ProjectPath

# Keys that occur in users' files and never had an effect: accepted with a warning.
MEANINGLESS_KEYS = ("network.type", "network.drop", "solver.epoch_offset")


class RandAugConfig(Section):
    N: int = key(0, "operations applied to each training clip; 0 switches RandAugment off", "operations", ge=0)
    M: int = key(9, "strength of each operation", "0 to 30", ge=0, le=30)


class ColorJitterConfig(Section):
    prob: float = key(0.0, "probability of a training clip; 0 switches the jitter off", "", ge=0, le=1)
    brightness: float = key(0.4, "brightness is multiplied by 1 - this to 1 + this", "", ge=0, le=1)
    contrast: float = key(0.4, "contrast, likewise", "", ge=0, le=1)
    saturation: float = key(0.2, "saturation, likewise", "", ge=0, le=1)
    hue: float = key(0.1, "hue is turned by -this to this", "turns", ge=0, le=0.5)


class ErasingConfig(Section):
    prob: float = key(0.0, "probability of a training clip; 0 switches erasing off", "", ge=0, le=1)
    area_range: list[float] = key(
        lambda: [0.02, 0.33], "smallest and largest rectangle", "share of the frame", min_length=2, max_length=2
    )


class MixupConfig(Section):
    mixup: float = key(0.0, "alpha of the Beta distribution of mixup's shares; 0: no mixup", "", ge=0)
    cutmix: float = key(0.0, "alpha of the Beta distribution of cutmix's areas; 0: no cutmix", "", ge=0)
    prob: float = key(1.0, "probability that a clip is mixed with its partner", "", ge=0, le=1)
    switch_prob: float = key(0.5, "where both are on: probability of cutmix", "", ge=0, le=1)

    @property
    def is_on(self) -> bool:
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)


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
    input_size: int | None = key(
        None, "side of the square that the image tower sees; null: the tower's own", "pixels", ge=8, le=MAX_SIDE
    )
    resize_mode: Literal["shortest", "squash", "longest"] | None = key(
        None,
        "first resize. shortest: the short side becomes resize_size, and the rest is cropped; squash: both sides do; "
        "longest: the long side does, and the rest is black; null: the weights' own",
    )
    resize_size: int | None = key(
        None,
        "side that the first resize makes; null: input_size, and 256 for CLIP's own models at 224 pixels, as published",
        "pixels",
        ge=8,
        le=MAX_SIDE,
    )
    interpolation: Literal["bilinear", "bicubic"] | None = key(None, "of the first resize; null: the weights' own")
    resizer: Literal["torch", "pillow"] | None = key(
        None,
        "what computes the first resize. pillow: open_clip's pixels to the bit; torch: to 2 levels, in half the time; "
        "null: pillow, and torch for CLIP's own models",
    )
    mean: list[float] | None = key(
        None, "red, green and blue that become 0; null: the weights' own", "0 to 1", min_length=3, max_length=3
    )
    std: list[float] | None = key(
        None, "what red, green and blue are divided by; null: the weights' own", "0 to 1", min_length=3, max_length=3
    )
    randaug: RandAugConfig = key(RandAugConfig, "RandAugment of training clips (torchvision's)")
    color_jitter: ColorJitterConfig = key(ColorJitterConfig, "colour jitter of training clips (torchvision's)")
    erasing: ErasingConfig = key(ErasingConfig, "random erasing of training clips, one rectangle for all frames")
    mixup: MixupConfig = key(MixupConfig, "mixup and cutmix of training clips (timm's), one draw for all frames")
    repeats: int = key(
        1,
        "repeated augmentation (arXiv 1901.09335): draws of a clip in a row; an epoch has as many clips, fewer of them "
        "different",
        "draws per clip",
        ge=1,
        le=64,
    )
    random_shift: bool = key(True, "training: a random frame inside each segment; false: the validation frames")
    shot: int = key(0, "few-shot training: videos a class; 0 takes all", "videos per class", ge=0)
    shot_seed: int = key(0, "seed of the few-shot picks", "", ge=0, le=MAX_SEED)
    dense: bool = key(False, "dense sampling from a window of 128 frames instead of uniform sampling over the video")
    frame_rule: Literal["segments", "linspace"] = key(
        "segments",
        "frames of validation, test and prediction. segments: the first of each segment; linspace: at equal distances "
        "from the first frame of the video to its last (PE-Core)",
    )
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
    tm: Annotated[str | Literal[False], OneOf("modules.additions.TM", (False,))] = key(
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
    sim_header: Annotated[str, OneOf("modules.heads.HEADS"), BeforeValidator(none_string)] = key(
        "Transf",
        "temporal head. Transf: transformer blocks over the frame embeddings; MoTE: with mixtures of experts in them "
        "(arXiv 2410.10589); None: the mean",
    )
    head_layers: int = key(
        6, "blocks of the Transf head; six in every published checkpoint", "blocks", ge=1, le=MAX_LAYERS
    )
    scorer: Annotated[str, OneOf("modules.scorers.SCORERS")] = key(
        "cosine",
        "how videos are compared with classes. cosine: of one vector each; vcs: frames weighted by the class's words "
        "(BIKE, arXiv 2301.00182); modulated: MoTE's, for classes that were not trained on; linear: class embeddings "
        "that train, and a bias",
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


# Those of timm's factory that need no other package and no second-order gradient.
# fmt: off
Optimizer = Literal[
    "adamw", "adam", "sgd", "adabelief", "adafactor", "adafactorbv", "adamax", "adamp", "adamuon", "adan", "adanw",
    "adopt", "adoptw", "cadamw", "cadopt", "clamb", "clion", "cmars", "lamb", "laprop", "larc",
    "lars", "lion", "madgrad", "madgradw", "mars", "muon", "nadam", "nadamuon", "nadamw", "nesterov", "novograd",
    "radam", "radamw", "rmsprop", "rmsproptf", "sgdp", "sgdw",
]
# fmt: on


class SolverConfig(Section):
    type: Literal["cosine", "multistep"] = key("cosine", "decay of the learning rate after the warm-up")
    epochs: int = key(30, "length of the training", "epochs", ge=1)
    start_epoch: int = key(0, "first epoch; `resume` overrides it", "epochs", ge=0)
    optim: Optimizer = key("adamw", "optimiser; adamw, adam and sgd are PyTorch's, the others timm's")
    betas: list[float] | None = key(
        None, "betas of the optimiser, as [0.9, 0.98]; null: its own", "", min_length=1, max_length=3
    )
    lr: float = key(5e-5, "learning rate; clip_ratio, new_ratio and text_ratio are shares of it", "", gt=0)
    min_lr: float = key(0.0, "lr at the end of the cosine, and the least of multistep; shares of it likewise", "", ge=0)
    lr_warmup_step: float = key(5, "linear warm-up from 0", "epochs", ge=0)
    lr_decay_step: int | list[int] = key(15, "multistep: x0.1 every so many epochs, or at each of a list", "epochs")
    momentum: float = key(0.9, "momentum of sgd", "", ge=0, lt=1)
    weight_decay: float = key(0.2, "weight decay", "", ge=0)
    decay_1d: bool = key(True, "weight decay of tensors of one dimension too: biases, norms, class token")
    loss_type: Annotated[str, OneOf("modules.losses.LOSSES")] = key(
        "CE",
        "CE: cross-entropy over the class texts; NCE, DS: video-text contrast; mixture: of the head MoTE",
    )
    label_smoothing: float = key(0.0, "share of each label that is spread evenly over all classes", "", ge=0, lt=1)
    evaluate: bool = key(False, "validate once and stop, without training")
    clip_ratio: float = key(0.1, "learning rate of the image tower and the logit scale", "share of lr", ge=0)
    new_ratio: float = key(1.0, "learning rate of what did not come with CLIP: head, additions", "share of lr", gt=0)
    text_ratio: float = key(1.0, "learning rate of a text tower that trains", "share of lr", gt=0)
    layer_decay: float = key(
        1.0,
        "factor of the learning rate from one layer of a tower to the one before it (arXiv 2106.08254); 1: none",
        "",
        gt=0,
        le=1,
    )
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
    average_epochs: bool = key(
        False, "validate and save the mean of the weights at the ends of the epochs so far, in place of the weights"
    )
    interpolated_loss: float = key(
        0.0,
        "Open-VCLIP (arXiv 2302.00624): weight of a second loss each step, at weights between CLIP's and the model's; "
        "0: none, published 0.5",
        "",
        ge=0,
    )
    interpolated_range: list[float] = key(
        lambda: [0.0, 0.6],
        "interpolated_loss: smallest and largest share of CLIP's weights, drawn each step",
        "share",
        min_length=2,
        max_length=2,
    )
    distill: float = key(
        0.0,
        "FROSTER (arXiv 2402.03241): weight of the distance of frame and class embeddings to frozen CLIP's; 0: none, "
        "published 2.0",
        "",
        ge=0,
    )
    patience: int = key(
        0, "end the run after so many validations in a row without a better patience_score; 0: never", "", ge=0
    )
    patience_score: Literal["top1", "top5", "mean_class"] = key("top1", "score that patience watches")


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


def dotted_keys(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, Any]:
    """Every key of the schema, dotted, with its pydantic field; sections themselves left out."""
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= dotted_keys(field.annotation, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field
    return found
