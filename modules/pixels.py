"""The preprocessing of a config; keys that are null are filled in from the image tower."""

import logging
from typing import Any

from clip import pixels_of
from utils.recipe import PIXEL_KEYS
from utils.schema import Config

# Text4Vis recognises Something-Something by a word in the name of the data set, and uses these values.
SOMETHING = "something"
SOMETHING_SCALE = (240, 320)  # height and width for an input of 224; scaled for others
SOMETHING_FLIP_PAIRS = ((86, 87), (93, 94), (166, 167))  # such as "from left to right" and "from right to left"

log = logging.getLogger(__name__)


def with_preprocessing(cfg: Config) -> Config:
    """Fill in preprocessing keys (`data.input_size`, `resize_mode` ...) that are null.

    Configs of Text4Vis for Something-Something, recognised by name, get its three keys, with a warning.

    Commands call it first, so that loaders, model and checkpoint agree, and a checkpoint keeps its preprocessing
    whatever weights it is loaded with. Raises a UserError if `network.arch` is unknown, or its file is missing or
    corrupted.
    """
    return _with_something(_with_towers(cfg))


def _with_towers(cfg: Config) -> Config:
    open_keys = [key for key in ("input_size", *PIXEL_KEYS) if getattr(cfg.data, key) is None]
    if not open_keys:
        return cfg
    pixels = pixels_of(cfg.network.arch, cfg.network.weights, cfg.data.input_size)
    values = {key: getattr(pixels, key) for key in open_keys}
    for key in values.keys() & {"mean", "std"}:
        values[key] = list(values[key])
    if not pixels.is_certain:
        log.warning(
            "%s: the preprocessing of its weights depends on their tag, and %s is not one of them; using that of CLIP: "
            "data.resize_mode=%s, data.interpolation=%s, data.mean, data.std",
            cfg.network.arch,
            cfg.network.weights,
            pixels.resize_mode,
            pixels.interpolation,
        )
    return cfg.model_copy(update={"data": cfg.data.model_copy(update=values)})


def _with_something(cfg: Config) -> Config:
    data = cfg.data
    is_set = any(value is not None for value in (data.scale, data.crop, data.flip_pairs))
    if SOMETHING not in data.dataset.lower() or is_set:
        return cfg
    assert data.input_size is not None
    pairs = [list(pair) for pair in SOMETHING_FLIP_PAIRS if max(pair) < data.num_classes]
    values: dict[str, Any] = {"crop": "multi_scale", "flip_pairs": pairs}
    if data.resize_mode == "shortest":
        values["scale"] = [round(side * data.input_size / 224) for side in SOMETHING_SCALE]
    given = ", ".join(f"data.{key}={value}" for key, value in values.items())
    log.warning("data.dataset: %s contains %r: using %s; set these keys to change this", data.dataset, SOMETHING, given)
    return cfg.model_copy(update={"data": data.model_copy(update=values)})
