"""Typed schema of configs: type, range, default, unit and meaning of every key.

`utils.config` validates YAML files with it, and `docs/config.md` is generated from it.
"""

from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator

from utils.config_fields import OneOf, Section, key, none_string
from utils.data_sections import PAIR, TRIPLE, ColorJitterConfig, ErasingConfig, MixupConfig, RandAugConfig, SetConfig
from utils.project_paths import NameOrPath, OptionalNameOrPath, OptionalPath, ProjectPath

# Keys in published configs that have no effect: accepted with a warning.
MEANINGLESS_KEYS = ("network.type", "network.drop", "solver.epoch_offset")


# Well above useful values, so that typing errors are reported before memory runs out.
MAX_SEED = 2**63 - 1  # limit of PyTorch's generators
MAX_FRAMES = 4096  # for each factor of a clip's length
MAX_SIDE = 8192
MAX_COUNT = 10**6  # of classes, clips of a batch, epochs

DROPOUT: dict[str, Any] = {"ge": 0, "lt": 1, "role": "training"}


class DataConfig(Section):
    dataset: str = key("dataset", "name of the data set, used for the run folder", role="choice")
    modality: Literal["RGB", "video"] = key("RGB", "RGB: folders of frames; video: video files")
    num_segments: int = key(8, "segments of a video from which a clip takes frames", "segments", ge=1, le=MAX_FRAMES)
    seg_length: int = key(1, "consecutive frames per segment", "frames", ge=1, le=MAX_FRAMES)
    batch_size: int = key(8, "clips per process and batch", ge=1, le=MAX_COUNT)
    workers: int = key(4, "data loader workers per process; 0: load in the main process", "processes", ge=0)
    num_classes: int = key(400, "classes in label_list", ge=1, le=MAX_COUNT)
    image_tmpl: str = key("img_{:05d}.jpg", "file name of a frame, with the frame number in braces")
    train_root: ProjectPath = key("", "root of the paths in train_list, or URL of packed clips; empty: the repository")
    train_list: OptionalPath = key(None, "training videos: `path num_frames label` (RGB) or `path label` (video)")
    val_root: ProjectPath = key("", "root of the paths in val_list, like train_root")
    val_list: OptionalPath = key(None, "validation videos, like train_list")
    sets: list[SetConfig] = key(
        list, "train on several data sets, instead of the lists (docs/training.md)", role="training"
    )
    label_space: Literal["joined", "apart"] = key(
        "joined",
        "classes of sets. joined: equal names are one class; apart: a clip is compared with its set's classes only",
        role="training",
    )
    multi_label: bool = key(
        False, "lines of lists end with any number of class ids, `3,17,40`, or `-` for none; scored by mAP"
    )
    list_times: bool = key(False, "the path is followed by the start and end of the segment in seconds")
    frame_rate: float | None = key(None, "frame rate of frame folders, for list_times", "frames per second", gt=0)
    label_list: OptionalPath = key(None, "class descriptions: CSV `id,name`")
    index_bias: int = key(1, "number of the first frame in file names", ge=0)
    input_size: int | None = key(None, "side of the input image; null: that of the tower", "pixels", ge=8, le=MAX_SIDE)
    resize_mode: Literal["shortest", "squash", "longest"] | None = key(
        None,
        "first resize, to resize_size. shortest: the short side, then crop; squash: both sides; longest: the "
        "long side, padded with black; null: that of the weights",
    )
    resize_size: int | None = key(
        None,
        "target of the first resize; null: input_size, or 256 for OpenAI's models at 224 pixels, as published",
        "pixels",
        ge=8,
        le=MAX_SIDE,
    )
    scale: list[int] | None = key(
        None,
        "height and width after the first resize, such as [240, 320], ignoring the aspect ratio; null: keep it",
        "pixels",
        **PAIR,
    )
    interpolation: Literal["bilinear", "bicubic"] | None = key(
        None, "interpolation of the first resize; null: that of the weights"
    )
    resizer: Literal["torch", "pillow"] | None = key(
        None,
        "library of the first resize. pillow: bit-identical to open_clip; torch: within 2 levels, twice as fast; null: "
        "torch for OpenAI's models, otherwise pillow",
    )
    mean: list[float] | None = key(None, "mean of red, green and blue; null: that of the weights", "0 to 1", **TRIPLE)
    std: list[float] | None = key(
        None, "deviation of red, green and blue; null: that of the weights", "0 to 1", **TRIPLE
    )
    randaug: RandAugConfig = key(RandAugConfig, "RandAugment of training clips (torchvision)")
    color_jitter: ColorJitterConfig = key(ColorJitterConfig, "colour jitter of training clips (torchvision)")
    erasing: ErasingConfig = key(ErasingConfig, "random erasing of training clips, the same rectangle in all frames")
    mixup: MixupConfig = key(MixupConfig, "mixup and cutmix of training clips (timm), the same for all frames")
    repeats: int = key(
        1,
        "repeated augmentation (arXiv 1901.09335): repeats of a clip in a row; an epoch has as many clips, "
        "fewer of them different",
        "draws",
        ge=1,
        le=64,
    )
    sampling: Literal["uniform", "balanced"] = key(
        "uniform", "uniform: an epoch has each training clip once; balanced: as many clips, of each class equally many"
    )
    random_shift: bool = key(True, "train on a random frame of each segment; false: use the frames of validation")
    shot: int = key(0, "few-shot: training videos per class; 0: all", "videos per class", ge=0)
    shot_seed: int = key(0, "seed of the few-shot selection", ge=0, le=MAX_SEED)
    dense: bool = key(False, "sample from a window of 128 frames instead of the whole video", role="choice")
    frame_rule: Literal["segments", "linspace"] = key(
        "segments",
        "frames in validation, test and prediction. segments: the first of each segment; linspace: equally "
        "spaced from the first to the last frame of the video (PE-Core)",
        role="choice",
    )
    decoder: Annotated[str, OneOf("datasets.READERS")] = key("pyav", "video reader; others are installed separately")
    pixels_on: Literal["cpu", "device"] = key(
        "cpu", "where frames are resized, cropped and augmented: in the loader processes, or on the GPU"
    )
    decode_on: Literal["cpu", "device"] = key(
        "cpu",
        "with pixels_on device: where training JPEGs and videos (torchcodec with CUDA) are decoded; colours differ",
    )
    cache_dir: ProjectPath = key("exp/cache/clips", "local folder that caches packed clips from a URL")
    cache_gb: float = key(0.0, "size of cache_dir; nothing is replaced once it is full; 0: no cache", "GB", ge=0)
    flip: float = key(
        0.5,
        "probability of mirroring a training clip; if classes distinguish left from right, use 0 or flip_pairs",
        ge=0,
        le=1,
    )
    flip_pairs: list[list[int]] | None = key(
        None, "pairs of classes that mirroring swaps, such as [[86, 87], [93, 94]]; null: none", "class ids"
    )
    grayscale: float = key(0.2, "probability of converting a training clip to greyscale", ge=0, le=1)
    crop: Literal["random_resized", "multi_scale"] | None = key(
        None, "crop of training clips; multi_scale: four sizes at fixed positions, as in TSN; null: random_resized"
    )
    area_range: list[float] = key(
        lambda: [0.08, 1.0], "area range of the random resized crop", "share of the frame", **PAIR
    )
    cached_draws: int = key(
        0,
        "train on cached frame embeddings of n random augmentations of each clip (frozen image tower), in "
        "epoch e on number e mod n; 0: no cache",
        "draws",
        ge=0,
    )
    on_error: Literal["raise", "skip"] = key(
        "raise", "unreadable training clip: stop, or replace it with another of its class"
    )
    max_skipped_share: float = key(
        0.01, "on_error skip: stop if more clips of an epoch are unreadable", "share of clips", ge=0, le=1
    )
    allow_outside_root: bool = key(False, "allow absolute paths and `..` in lists")

    @property
    def class_spans(self) -> list[tuple[int, int]]:
        """First class of each set in the run, and the one after its last; empty if clips are compared with all."""
        ends = list(accumulate((each.num_classes for each in self.sets), initial=0))
        return list(pairwise(ends)) if self.label_space == "apart" else []

    @property
    def num_frames(self) -> int:
        """T, frames of a clip."""
        return self.num_segments * self.seg_length


class NetworkConfig(Section):
    arch: NameOrPath = key(
        "ViT-B/32", "model name of OpenAI or open_clip (ViT-B/32, RN50 ...), or path of a file in OpenAI's format"
    )
    weights: NameOrPath = key(
        "openai", "weights tag, path of a weights file, or `none` (random); unused if arch is a path"
    )
    init: bool = key(True, "load all of CLIP's weights; false: only those of the image tower")
    tm: Annotated[str | Literal[False], OneOf("modules.additions.TM", (False,))] = key(
        False, "temporal addition inside the image tower", role="weights"
    )
    adapter: Annotated[str | None, OneOf("modules.adapters.ADAPTERS", (None,))] = key(
        None,
        "parameter-efficient tuning: train only the adapter and freeze CLIP's image tower; null: full fine-tuning",
        role="weights",
    )
    drop_out: float = key(
        0.0,
        "attention dropout and stochastic depth of the last block of the image tower, increasing linearly with depth",
        **DROPOUT,
    )
    emb_dropout: float = key(0.0, "dropout of the patch embeddings before ln_pre", **DROPOUT)
    patch_dropout: float = key(0.0, "share of patches dropped in training (FLIP, arXiv 2212.00794)", **DROPOUT)
    sim_header: Annotated[str, OneOf("modules.heads.HEADS"), BeforeValidator(none_string)] = key(
        "Transf",
        "temporal head. Transf: transformer over the frame embeddings; MoTE: the same with mixtures of experts "
        "(arXiv 2410.10589); MIT: X-CLIP's; None: mean of the frames",
        role="weights",
    )
    head_layers: int = key(
        6, "blocks of the Transf head; six in all published checkpoints", "blocks", ge=1, le=256, role="weights"
    )
    scorer: Annotated[str, OneOf("modules.scorers.SCORERS")] = key(
        "cosine", "how videos are compared with classes (docs/testing.md)"
    )
    joint_st: bool = key(
        False, "joint space-time attention over the patches of all frames; no temporal head", role="weights"
    )
    fix_text: bool = key(True, "freeze the text tower")
    fix_video: bool = key(False, "freeze the image tower", role="training")
    prompt: str = key("a video of a person {}.", "prompt template; `{}` is the class name", role="choice")
    prompt_set: OptionalNameOrPath = key(
        None,
        "action16 or action28 (ensembles of templates), or a YAML file with a list of templates or "
        "descriptions by class name",
        role="choice",
    )
    classifier: Annotated[str, OneOf("modules.classifiers.CLASSIFIERS")] = key(
        "clip_text", "source of the class embeddings", role="choice"
    )
    classifier_file: OptionalPath = key(
        None, "classifier lda (python -m tools.fit_lda) or file: .npz file", role="choice"
    )
    train_classifier: bool = key(False, "train the class embeddings, initialised by the classifier", role="weights")
    language_model: NameOrPath = key(
        "distilbert-base-uncased",
        "classifier language_model: name of a transformers encoder, or a folder",
        role="choice",
    )
    language_pooling: Literal["mean", "cls"] = key(
        "mean", "classifier language_model: mean of the tokens, or first token", role="choice"
    )
    context_tokens: int = key(
        0, "CoOp: learned tokens instead of the prompt; 0: none", "tokens", ge=0, le=64, role="weights"
    )
    context_init: str | None = key(None, "CoOp: words that initialise the context; null: random")
    context_position: Literal["end", "middle", "front"] = key("end", "CoOp: position of the class name")
    context_per_class: bool = key(False, "CoOp: one context per class instead of a shared one", role="weights")


# Optimisers of timm that resume bit-identically in tests, without other packages or second-order gradients.
# fmt: off
Optimizer = Literal[
    "adamw", "adam", "sgd", "adabelief", "adafactor", "adafactorbv", "adamax", "adamp", "adamuon", "adan", "adanw",
    "adopt", "adoptw", "cadamw", "cadopt", "clamb", "clion", "cmars", "lamb", "laprop", "larc",
    "lars", "lion", "madgrad", "madgradw", "mars", "muon", "nadam", "nadamuon", "nadamw", "nesterov", "novograd",
    "radam", "radamw", "rmsprop", "rmsproptf", "sgdp", "sgdw",
]
# fmt: on


class SolverConfig(Section):
    type: Literal["cosine", "multistep"] = key("cosine", "learning rate schedule after the warm-up")
    epochs: int = key(30, "epochs", ge=1, le=MAX_COUNT)
    start_epoch: int = key(0, "first epoch; `resume` overrides it", "epochs", ge=0)
    optim: Optimizer = key("adamw", "optimiser; adamw, adam and sgd are from PyTorch, the others from timm")
    betas: list[float] | None = key(
        None, "betas of the optimiser, such as [0.9, 0.98]; null: its defaults", min_length=1, max_length=3
    )
    lr: float = key(5e-5, "learning rate; clip_ratio, new_ratio and text_ratio are relative to it", gt=0)
    min_lr: float = key(0.0, "final lr of cosine, and minimum lr of multistep; also scaled by the ratios", ge=0)
    lr_warmup_step: float = key(5, "linear warm-up from 0", "epochs", ge=0)
    lr_decay_step: int | list[int] = key(
        15, "multistep: number of epochs between decays by 0.1, or a list of epochs", "epochs"
    )
    momentum: float = key(0.9, "momentum of sgd", ge=0, lt=1)
    weight_decay: float = key(0.2, "weight decay", ge=0)
    decay_1d: bool = key(True, "apply weight decay to one-dimensional parameters too: biases, norms, class token")
    loss_type: Annotated[str, OneOf("modules.losses.LOSSES")] = key(
        "CE",
        "CE: cross-entropy over the classes; BCE: binary cross-entropy, for multi_label lists; NCE, DS: video-text "
        "contrastive losses; mixture: for the head MoTE",
    )
    class_weights: OptionalNameOrPath = key(
        None, "loss weight of each class. balanced: inversely proportional to its number of clips; or a CSV `id,weight`"
    )
    label_smoothing: float = key(0.0, "label smoothing", ge=0, lt=1)
    evaluate: bool = key(False, "validate once without training")
    clip_ratio: float = key(0.1, "learning rate of image tower and logit scale", "share of lr", ge=0)
    new_ratio: float = key(1.0, "learning rate of new modules: head, additions", "share of lr", gt=0)
    text_ratio: float = key(1.0, "learning rate of the text tower", "share of lr", gt=0)
    layer_decay: float = key(
        1.0,
        "layer-wise decay: factor of the learning rate from a layer to the one before (arXiv 2106.08254); 1: none",
        gt=0,
        le=1,
    )
    grad_accumulation_steps: int = key(1, "batches per optimiser step", "batches", ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16", "amp"] = key(
        "auto",
        "auto: bf16 on a GPU that supports it, otherwise fp16; fp32 on a CPU (bf16 is about three times as fast with "
        "AVX512-BF16 or AMX); amp: fp16 on a GPU, fp32 on a CPU",
    )
    save_every: int | str | None = key(
        None, "interval of checkpoints within an epoch, in steps (500) or minutes (10min)", "steps or minutes"
    )
    save: Literal["all", "trained"] = key(
        "all", "parameters in checkpoints. trained: only trained ones (megabytes for an adapter); load on the same CLIP"
    )
    keep_last: int = key(2, "number of checkpoints to keep: last_model.pt, last_model.1.pt ...", "files", ge=1)
    clip_grad_norm: float | None = key(None, "maximum gradient norm; null: unlimited", gt=0)
    max_nonfinite_steps: int = key(
        0, "steps with a loss or gradient that is not finite to skip before the run stops", "steps", ge=0
    )
    process_timeout_minutes: float = key(10, "how long processes wait for each other before they exit", "minutes", gt=0)
    activation_checkpointing: bool = key(False, "recompute blocks in the backward pass to save memory")
    recompute: bool = key(
        True,
        "with network.adapter: recompute norms and activations of blocks in the backward pass; false: faster steps, "
        "more memory",
    )
    shard: Literal["none", "grad", "full"] = key(
        "none", "shard large towers over the processes (FSDP2). grad: gradients and optimiser; full: weights too"
    )
    compile: bool = key(False, "torch.compile of image tower and head; the first step takes 10 s or more")
    ema: float | None = key(
        None,
        "validate and save a moving average of the weights with this decay per step, such as 0.9998; null: off",
        gt=0,
        lt=1,
    )
    average_epochs: bool = key(False, "validate and save the mean of the weights at the ends of the epochs so far")
    interpolated_loss: float = key(
        0.0,
        "Open-VCLIP (arXiv 2302.00624): factor of a second loss, at weights interpolated between CLIP and "
        "the model; 0: off, published 0.5",
        ge=0,
    )
    interpolated_range: list[float] = key(
        lambda: [0.0, 0.6], "interpolated_loss: range of the random share of CLIP's weights", **PAIR
    )
    distill: float = key(
        0.0,
        "FROSTER (arXiv 2402.03241): factor of the distillation loss on frame and class embeddings of "
        "frozen CLIP; 0: off, published 2.0",
        ge=0,
    )
    patience: int = key(
        0, "early stopping: number of validations in a row without a better patience_score; 0: off", ge=0
    )
    patience_score: Literal["top1", "top5", "mean_class", "map"] = key("top1", "score for early stopping")


class LoggingConfig(Section):
    print_freq: int = key(10, "interval of log lines", "steps", ge=1)
    eval_freq: int = key(5, "interval of validations in epochs; always after the last one", "epochs", ge=1)
    run_dir: OptionalPath = key(
        None, "run folder; null: exp/<data.dataset>/<network.arch>/f<frames>, few-shot in exp_fewshot/"
    )
    cache_dir: ProjectPath = key("exp/cache", "cache of embeddings, shared by runs")
    tensorboard: bool = key(True, "write TensorBoard event files to the run folder")
    wandb_project: str | None = key(None, "Weights & Biases project to log to (pip install wandb)")


class Config(Section):
    resume: OptionalNameOrPath = key(None, "checkpoint to resume; `auto`: the newest intact one in the run folder")
    pretrain: OptionalPath = key(None, "video checkpoint that initialises a new run")
    seed: int = key(1024, "random seed", ge=0, le=MAX_SEED, role="choice")
    components: dict[str, dict[str, Any]] = key(dict, "settings of components, by component name (CONTRIBUTING.md)")
    data: DataConfig = key(DataConfig, "")
    network: NetworkConfig = key(NetworkConfig, "")
    solver: SolverConfig = key(SolverConfig, "")
    logging: LoggingConfig = key(LoggingConfig, "")


def dotted_keys(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, Any]:
    """All dotted keys of the schema, except sections, with their pydantic fields."""
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= dotted_keys(field.annotation, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field
    return found
