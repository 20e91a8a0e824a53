"""Rules between config keys of lists, frames and pixels."""

from utils.schema import DataConfig
from utils.schema_rules import Rule, TrainRule


def _is_bad_template(template: str) -> bool:
    try:
        return template.format(1) == template.format(2)
    # Raised for different invalid fields, such as {.foo} or {[0]}.
    except (ValueError, LookupError, AttributeError, TypeError, MemoryError):
        return True


def _are_pairs(pairs: list[list[int]], num_classes: int) -> bool:
    labels = [label for pair in pairs for label in pair]
    is_unique = len(set(labels)) == len(labels) and all(0 <= label < num_classes for label in labels)
    return is_unique and all(len(pair) == 2 for pair in pairs)


_DEFAULTS = DataConfig()
# Keys that a training on several sets must leave at their defaults.
_NOT_WITH_SETS = ("shot", "multi_label", "list_times", "sampling", "repeats", "cached_draws", "flip_pairs")


def _required(key: str, contents: str) -> Rule:
    """Required without sets, for training and tests."""
    message = f"is required; set it to the {contents}"
    return Rule((f"data.{key}",), lambda c: not getattr(c.data, key) and not c.data.sets, message, ("train", "test"))


RULES = (
    TrainRule(
        ("data.train_list",),
        lambda c: not c.data.train_list and not c.data.sets,
        "is required; set it to the list of training videos",
    ),
    _required("val_list", "list of validation videos"),
    _required("label_list", "CSV of class descriptions"),
    Rule(
        ("data.sets", "data.val_list", "data.label_list"),
        lambda c: bool(c.data.sets) and not (c.data.val_list and c.data.label_list),
        lambda c: (
            f"the config has several data sets ({', '.join(each.name for each in c.data.sets)}); choose one by "
            "data.val_root=, data.val_list=, data.label_list= and data.num_classes="
        ),
        ("test",),
    ),
    TrainRule(
        ("data.sets", "data.train_list", "data.val_list", "data.label_list"),
        lambda c: bool(c.data.sets) and bool(c.data.train_list or c.data.val_list or c.data.label_list),
        "each of sets has its own lists; remove those of data",
    ),
    Rule(
        ("data.sets",),
        lambda c: not all(s.name and s.train_list and s.val_list and s.label_list for s in c.data.sets),
        "each needs name, train_list, val_list and label_list",
    ),
    Rule(
        ("data.sets",),
        lambda c: len({s.name for s in c.data.sets}) < len(c.data.sets),
        "two sets have the same name; names must be different",
    ),
    TrainRule(
        ("data.sets", *(f"data.{key}" for key in _NOT_WITH_SETS)),
        lambda c: bool(c.data.sets) and any(getattr(c.data, key) != getattr(_DEFAULTS, key) for key in _NOT_WITH_SETS),
        "with sets are not supported; set shot=0, multi_label=false, list_times=false, sampling=uniform, repeats=1, "
        "cached_draws=0 and flip_pairs=null",
    ),
    Rule(
        ("data.list_times", "data.modality", "data.frame_rate"),
        lambda c: c.data.list_times and c.data.modality == "RGB" and c.data.frame_rate is None,
        "list_times of frame folders needs the rate at which the frames were extracted; set frame_rate",
    ),
    Rule(
        ("data.image_tmpl", "data.modality"),
        lambda c: c.data.modality == "RGB" and _is_bad_template(c.data.image_tmpl),
        "must be a file name with the frame number in braces, such as img_{:05d}.jpg",
    ),
    Rule(
        ("data.area_range",),
        lambda c: not 0 < c.data.area_range[0] <= c.data.area_range[1] <= 1,
        "must be two shares with 0 < smallest <= largest <= 1, such as [0.08, 1.0]",
    ),
    Rule(
        ("data.resize_size", "data.input_size"),
        lambda c: None not in (c.data.resize_size, c.data.input_size) and c.data.resize_size < c.data.input_size,
        "the frames would be smaller than the input of the image tower; set resize_size to input_size or more",
    ),
    Rule(
        ("data.scale", "data.input_size"),
        lambda c: c.data.scale is not None and min(c.data.scale) < (c.data.input_size or 1),
        "the frames would be smaller than the input of the image tower; set both numbers of scale to input_size or "
        "more",
    ),
    Rule(
        ("data.flip_pairs", "data.num_classes"),
        lambda c: not _are_pairs(c.data.flip_pairs or [], c.data.num_classes),
        "must be pairs of class ids below num_classes, each class in one pair, such as [[86, 87], [93, 94]]",
        ("train",),  # a test on other classes gets the checkpoint's pairs, but does not mirror
    ),
    Rule(("data.std",), lambda c: c.data.std is not None and min(c.data.std) <= 0, "must be three numbers above 0"),
    Rule(
        ("data.frame_rule", "data.dense"),
        lambda c: c.data.frame_rule == "linspace" and c.data.dense,
        "linspace samples the whole video, but dense samples a window; remove one",
    ),
    Rule(
        ("data.erasing.area_range",),
        lambda c: not 0 < c.data.erasing.area_range[0] <= c.data.erasing.area_range[1] < 1,
        "must be two shares with 0 < smallest <= largest < 1, such as [0.02, 0.33]",
    ),
    Rule(
        ("data.decode_on", "data.pixels_on", "data.on_error"),
        lambda c: c.data.decode_on == "device" and (c.data.pixels_on == "cpu" or c.data.on_error == "skip"),
        "frames that are decoded on the device are also resized there, and corrupted ones cannot be replaced; "
        "set pixels_on to device and on_error to raise",
    ),
)
