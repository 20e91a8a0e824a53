"""Combines the config in a checkpoint with a config file and the command line.

A checkpoint of this project holds the resolved config of its training and the names of its classes. Of each key, by its
role in the schema:

- `key=value` on the command line is always taken, except where the weights fit no other value (WEIGHT_KEYS).
- RECIPE_KEYS (the model, its frames and pixels) are the checkpoint's. A config file that says otherwise is warned of.
- CHOICE_KEYS (the text beside the model, and how frames are sampled) are the file's where it has them, else the
  checkpoint's.
- The other `data.*` keys describe the videos: they are the file's where it has a `data:` section, else the
  checkpoint's.
- All other keys are the file's, or have their defaults.
"""

from pathlib import Path
from typing import Any, NamedTuple

from utils.config_fields import Role
from utils.errors import UserError
from utils.project_paths import REPOSITORY
from utils.schema import Config, dotted_keys


def _keys_of(role: Role) -> tuple[str, ...]:
    return tuple(key for key, field in dotted_keys().items() if field.json_schema_extra["role"] == role)


CHOICE_KEYS, TRAINING_KEYS, WEIGHT_KEYS = _keys_of("choice"), _keys_of("training"), _keys_of("weights")
PIXEL_KEYS = ("resize_mode", "resize_size", "interpolation", "resizer", "mean", "std")
RECIPE_KEYS = (
    *(key for key in dotted_keys() if key.startswith("network.") and key not in (*CHOICE_KEYS, *TRAINING_KEYS)),
    "data.num_segments",
    "data.seg_length",
    "data.input_size",
    *(f"data.{key}" for key in PIXEL_KEYS),
    "components",
)
FILE_KEYS = ("network.arch", "network.weights")
FILE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
COMMAND_LINE = "command line: "


class Recipe(NamedTuple):
    """Of the checkpoint `source`: its config as a tree ({}: it holds none), and the classes it was trained on."""

    source: str
    tree: dict[str, Any]
    class_names: list[str]


class Given(NamedTuple):
    """What a user gave: the config with every other key at its default, where each key was given (`file:line: ` or
    COMMAND_LINE), and the config file (None: none)."""

    config: Config
    places: dict[str, str]
    path: str | None

    def is_given(self, key: str) -> bool:
        return key in self.places


class Combined(NamedTuple):
    """A config's tree, and what to tell the user of it: faults, and warnings, a line each."""

    tree: dict[str, Any]
    faults: list[str]
    warnings: list[str]


def looks_like_file(text: str) -> bool:
    """Whether `network.arch` or `network.weights` is meant as a file, and not as a name."""
    return Path(text).suffix in FILE_SUFFIXES or text.startswith(("/", "./", "../", "~"))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, of the schema's keys alone."""
    known, found = dotted_keys(), {}
    for name, value in tree.items():
        if f"{prefix}{name}" in known:
            found[f"{prefix}{name}"] = value
        elif isinstance(value, dict):
            found |= flatten(value, f"{prefix}{name}.")
    return found


def changed_keys(config: dict[str, Any], base: dict[str, Any] | None = None) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value, base's value) where two trees differ; keys that one of them lacks are left out.

    Args:
        config, base: as of `Config.model_dump`. None: the defaults.
    """
    own, other = flatten(config), flatten(Config().model_dump() if base is None else base)
    return {key: (value, other[key]) for key, value in own.items() if key in other and value != other[key]}


def combine(given: Given, recipe: Recipe) -> Combined:
    """The config of a command on a checkpoint, by the rules above.

    Raises:
        UserError: the checkpoint holds no recipe and there is no config either.
    """
    saved, own = flatten(recipe.tree), flatten(given.config.model_dump())
    if not saved and given.path is None and not given.is_given("network.arch"):
        raise UserError(
            f"{recipe.source}: contains no recipe (it was not written by train.py); give --config with network.arch, "
            "network.sim_header, network.tm, network.prompt, data.num_segments and data.input_size of its training, "
            "and the data.* keys of a test"
        )
    if "data.resize_mode" not in saved and "data.input_size" in saved:
        # Written before these keys: the pixels of CLIP's own models, whatever the tower was.
        size = saved["data.input_size"]
        saved |= {"data.resize_mode": "shortest", "data.interpolation": "bicubic", "data.resizer": "torch"}
        saved["data.resize_size"] = 256 if size == 224 else size
    faults, other = [], []
    has_data = any(key.startswith("data.") and place != COMMAND_LINE for key, place in given.places.items())
    values = dict(own)
    for key, value in saved.items():
        place = given.places.get(key)
        if place is None:
            if key in RECIPE_KEYS or key in CHOICE_KEYS or (key.startswith("data.") and not has_data):
                values[key] = value
        elif own[key] == value or key not in RECIPE_KEYS:
            continue
        elif place != COMMAND_LINE:
            values[key] = value
            other.append(f"{key} {value} ({given.path}: {own[key]})")
        elif key in WEIGHT_KEYS or _is_another_model(key, own[key], value):
            faults.append(f"{place}{key}={own[key]}: {recipe.source} was trained with {value}; remove {key}")
    if values["data.input_size"] != saved.get("data.input_size") and not given.is_given("data.resize_size"):
        values["data.resize_size"] = None  # of another input size
    for key in FILE_KEYS:
        if key in saved and values[key] == saved[key]:
            values[key] = _find_file(key, given, own, recipe.source, saved[key], faults)
    warnings = []
    if other:
        warnings.append(
            f"{given.path} differs from {recipe.source}, whose values are used: {', '.join(other)}; to use "
            "others, give key=value"
        )
    return Combined(_tree_of(values), faults, warnings)


def _is_another_model(key: str, own: Any, saved: Any) -> bool:
    """Whether both are names of architectures and not of the same; a file may be any, and shows when it is loaded."""
    if key != "network.arch" or looks_like_file(own) or looks_like_file(saved):
        return False
    return own.replace("/", "-").removesuffix("px") != saved.replace("/", "-").removesuffix("px")


def _find_file(key: str, given: Given, own: dict[str, Any], source: str, saved: str, faults: list[str]) -> str:
    """The file that a checkpoint names, here or in the repository; else what the user's config names.

    A fault is added where there is neither.
    """
    if not looks_like_file(saved) or Path(saved).expanduser().exists():
        return saved
    if (REPOSITORY / saved).exists():
        return str(REPOSITORY / saved)
    if given.is_given(key) and own[key] != saved:
        return own[key]
    faults.append(f"{source}: was trained with {key} {saved}, which does not exist here; set {key}=FILE")
    return saved


def _tree_of(values: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        below = tree
        for section in sections:
            below = below.setdefault(section, {})
        below[last] = value
    return tree
