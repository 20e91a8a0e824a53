"""Sections below `data` of a config (`utils.schema`)."""

from typing import Any

from utils.config_fields import Section, key
from utils.project_paths import OptionalPath, ProjectPath

PAIR: dict[str, Any] = {"min_length": 2, "max_length": 2}
TRIPLE: dict[str, Any] = {"min_length": 3, "max_length": 3}


class RandAugConfig(Section):
    N: int = key(0, "RandAugment operations per training clip; 0: off", ge=0, le=64)
    M: int = key(9, "strength of each operation", "0 to 30", ge=0, le=30)


class ColorJitterConfig(Section):
    prob: float = key(0.0, "probability per training clip; 0: off", ge=0, le=1)
    brightness: float = key(0.4, "brightness is multiplied by 1 - this to 1 + this", ge=0, le=1)
    contrast: float = key(0.4, "contrast, likewise", ge=0, le=1)
    saturation: float = key(0.2, "saturation, likewise", ge=0, le=1)
    hue: float = key(0.1, "hue is shifted by -this to this", "turns", ge=0, le=0.5)


class ErasingConfig(Section):
    prob: float = key(0.0, "probability per training clip; 0: off", ge=0, le=1)
    area_range: list[float] = key(lambda: [0.02, 0.33], "smallest and largest rectangle", "share of the frame", **PAIR)


class MixupConfig(Section):
    mixup: float = key(0.0, "alpha of mixup's Beta distribution; 0: off", ge=0)
    cutmix: float = key(0.0, "alpha of cutmix's Beta distribution; 0: off", ge=0)
    prob: float = key(1.0, "probability that a clip is mixed with its partner", ge=0, le=1)
    switch_prob: float = key(0.5, "if both are on: probability of cutmix instead of mixup", ge=0, le=1)

    @property
    def is_on(self) -> bool:
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)


class SetConfig(Section):
    name: str = key("", "name of the set in logs and scores")
    weight: float | None = key(
        None, "share of the epoch's clips, relative to the other sets; null: number of its videos", gt=0
    )
    train_root: ProjectPath = key("", "like data.train_root; the next four likewise")
    train_list: OptionalPath = key(None, "")
    val_root: ProjectPath = key("", "")
    val_list: OptionalPath = key(None, "")
    label_list: OptionalPath = key(None, "")
    num_classes: int = key(0, "", ge=0)  # set from label_list at the start of a run
