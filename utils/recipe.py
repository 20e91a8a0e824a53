"""Combines the config in a checkpoint with a config file and the command line.

A checkpoint of this project contains the resolved config of its training and the class names. The source of a key
depends on its role in the schema:

- `key=value` on the command line has priority, but contradicting the weights is an error (WEIGHT_KEYS).
- RECIPE_KEYS (model, frames and preprocessing) come from the checkpoint, with a warning if the config file differs.
- CHOICE_KEYS (text, and how frames are sampled) come from the file if it has them, otherwise from the checkpoint.
- The other `data.*` keys come from the file if it has a `data:` section, otherwise from the checkpoint.
- All other keys come from the file, or have their defaults.
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
    """The config of checkpoint `source` as a nested dict ({} if it has none), and the names of its training classes."""

    source: str
    tree: dict[str, Any]
    class_names: list[str]


class Given(NamedTuple):
    """The user's config with defaults, the origin of each given key (`file:line: ` or COMMAND_LINE), and the path of
    the config file, if any."""

    config: Config
    places: dict[str, str]
    path: str | None

    def is_given(self, key: str) -> bool:
        return key in self.places


def looks_like_file(text: str) -> bool:
    """Whether `network.arch` or `network.weights` is a path rather than a name."""
    return Path(text).suffix in FILE_SUFFIXES or text.startswith(("/", "./", "../", "~"))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, for keys of the schema only."""
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
        config, base: from `Config.model_dump`. None: the defaults.
    """
    own, other = flatten(config), flatten(Config().model_dump() if base is None else base)
    return {key: (value, other[key]) for key, value in own.items() if key in other and value != other[key]}


def combine(given: Given, recipe: Recipe) -> tuple[dict[str, Any], list[str], list[str]]:
    """Combine the config of a checkpoint with the user's, by the rules above; returns it with errors and warnings.
    Raises a UserError if the checkpoint has no config and the user gave none."""
    saved, own = flatten(recipe.tree), flatten(given.config.model_dump())
    if not saved and given.path is None and not given.is_given("network.arch"):
        raise UserError(
            f"{recipe.source}: contains no config (it was not written by train.py); give --config with network.arch, "
            "network.sim_header, network.tm, network.prompt, data.num_segments and data.input_size of its training, "
            "and the data.* keys of the videos"
        )
    if "data.resize_mode" not in saved and "data.input_size" in saved:
        # Checkpoints older than these keys used CLIP's preprocessing for every tower.
        size = saved["data.input_size"]
        saved |= {"data.resize_mode": "shortest", "data.interpolation": "bicubic", "data.resizer": "torch"}
        saved["data.resize_size"] = 256 if size == 224 else size
    faults, differing = [], []
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
            differing.append(f"{key} {value} ({given.path}: {own[key]})")
        elif key in WEIGHT_KEYS or _is_another_model(key, own[key], value):
            faults.append(f"{place}{key}={own[key]}: {recipe.source} was trained with {value}; remove {key}")
    if values["data.input_size"] != saved.get("data.input_size") and not given.is_given("data.resize_size"):
        values["data.resize_size"] = None  # the checkpoint's is for another input size
    for key in FILE_KEYS:
        if key in saved and values[key] == saved[key]:
            values[key] = _find_file(key, given, own, recipe.source, saved[key], faults)
    warnings = []
    if differing:
        warnings.append(
            f"{given.path} differs from {recipe.source}, whose values are used: {', '.join(differing)}; override them "
            "with key=value"
        )
    return _tree_of(values), faults, warnings


def _is_another_model(key: str, own: Any, saved: Any) -> bool:
    """Whether both are names of different architectures; files are checked when they are loaded."""
    if key != "network.arch" or looks_like_file(own) or looks_like_file(saved):
        return False
    return own.replace("/", "-").removesuffix("px") != saved.replace("/", "-").removesuffix("px")


def _find_file(key: str, given: Given, own: dict[str, Any], source: str, saved: str, faults: list[str]) -> str:
    """The file in the checkpoint's config if it exists here or in the repository, otherwise the user's.

    An error is added if there is neither.
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
