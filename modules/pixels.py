"""The preprocessing of a config, completed from the image tower where the config leaves it open."""

import logging

from clip import pixels_of
from utils.recipe import PIXEL_KEYS
from utils.schema import Config

log = logging.getLogger(__name__)


def with_own_pixels(cfg: Config) -> Config:
    """The config with a value in each pixel key (`data.input_size`, `resize_mode` ...) that is null.

    The commands begin with it, so that loaders, model and checkpoint agree, and a checkpoint keeps its pixels whatever
    weights it is loaded with.

    Raises:
        UserError: `network.arch` is unknown, or a file that is missing or damaged.
    """
    open_keys = [key for key in ("input_size", *PIXEL_KEYS) if getattr(cfg.data, key) is None]
    if not open_keys:
        return cfg
    found = pixels_of(cfg.network.arch, cfg.network.weights, cfg.data.input_size)
    values = {key: getattr(found, key) for key in open_keys}
    values |= {key: list(values[key]) for key in ("mean", "std") if key in values}
    if not found.is_certain:
        log.warning(
            "%s: its weights were trained with different pixels, by their tags, and %s is none of these; CLIP's are "
            "taken: data.resize_mode=%s, data.interpolation=%s, data.mean, data.std",
            *(cfg.network.arch, cfg.network.weights, found.resize_mode, found.interpolation),
        )
    return cfg.model_copy(update={"data": cfg.data.model_copy(update=values)})
