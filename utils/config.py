"""Loads configs: YAML files and `key=value` overrides, validated by the schema; all errors are reported together.

Files are read with PyYAML's safe loader, with two changes: `5e-5` is a number (text in YAML 1.1), and dates are text,
since they are used in folder names.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from utils.components import load_component
from utils.config_fields import OneOf
from utils.errors import UserError, first_line
from utils.project_paths import is_url
from utils.recipe import COMMAND_LINE, Given, Recipe, combine
from utils.schema import MEANINGLESS_KEYS, Config, dotted_keys
from utils.schema_rules import Purpose, all_rules

TEST_FILES = ("data.val_list", "data.label_list", "data.val_root")
SECTIONS = ("data", "network", "solver", "logging", "components")


class _Loader(yaml.SafeLoader):
    """Safe YAML loader with the floats of YAML 1.2, without dates; duplicate keys are errors."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # raised by PyYAML for `!!int x`, `!!bool x` ...
            problem = f"{_shown(node.value)} is not a valid {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[Any, int] = {}
        written: dict[Any, str] = {}  # keys such as `1:` or `true:` as text
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                problem = "merge keys (<<) are not supported; write the keys out"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
            name = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(name, str) and name in seen:
                problem = f"key {name} is given twice, in lines {seen[name]} and {line}"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
            seen[str(name)] = line
            if isinstance(key_node, yaml.ScalarNode):
                written[name] = key_node.value
        return {written[name]: value for name, value in super().construct_mapping(node, deep).items()}


_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
# The first matching resolver wins, so integers come before floats. Both replace those of YAML 1.1 (octal, base 60).
_LEFT_OUT = {f"tag:yaml.org,2002:{kind}" for kind in ("float", "int", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag not in _LEFT_OUT]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
_NULL = re.compile(r"\s*(~|null|Null|NULL)?\s*")


class Loaded(NamedTuple):
    """A config, and `warnings` (one line each) to log later."""

    config: Config
    warnings: list[str]


class Resolved(NamedTuple):
    """`Loaded` for a checkpoint, with the checkpoint's class names if the user gave no others; None: use
    `data.label_list` (which may be None as well)."""

    config: Config
    warnings: list[str]
    class_names: list[str] | None


def load_config(path: str | Path | None, overrides: Sequence[str] = (), purpose: Purpose = "train") -> Loaded:
    """Load a config, apply overrides and validate it.

    Args:
        path: YAML file; None: all keys have their defaults.
        overrides: `key=value` strings with dotted keys, such as `solver.lr=1e-4`; values are parsed as YAML, except
            those of text keys.
        purpose: what the config is used for; a test, for example, does not need a training list.

    Raises:
        UserError: with all errors in file and overrides, one per line.
    """
    return _apply_rules(_read_given(path, overrides), purpose)


def resolve_config(path: str | Path | None, overrides: Sequence[str], purpose: Purpose, recipe: Recipe) -> Resolved:
    """`load_config` for a command on a checkpoint, which contains the config of its model; see `utils.recipe`. Raises a
    UserError with all errors in file, overrides and recipe, one per line."""
    given, faults, warnings, _ = _read_given(path, overrides)
    _raise_faults(faults)
    tree, faults, combined_warnings = combine(given, recipe)
    of_recipe = {key: f"{recipe.source}: " for key in dotted_keys() if key not in given.places}
    config, bad_keys = _validate(tree, faults, {**of_recipe, **given.places})
    combined = _Checked(given._replace(config=config), faults, warnings + combined_warnings, bad_keys)
    config, warnings = _apply_rules(combined, purpose)
    names = recipe.class_names if recipe.class_names and not given.is_given("data.label_list") else None
    return Resolved(config, warnings, names)


class _Checked(NamedTuple):
    """The user's config after the checks of single keys, with errors, warnings, and the keys that have errors."""

    given: Given
    faults: list[str]
    warnings: list[str]
    bad_keys: set[str]


def _apply_rules(checked: _Checked, purpose: Purpose) -> Loaded:
    """Check the rules between keys, except those that involve keys with errors. Raises a UserError with all errors."""
    config, places, path = checked.given
    faults, warnings = [*checked.faults], [*checked.warnings]
    for rule in all_rules():
        is_sound = not any(key == bad or key.startswith(f"{bad}.") for key in rule.keys for bad in checked.bad_keys)
        if purpose in rule.purposes and is_sound and rule.broken(config):
            place = next((places[k] for k in rule.keys if k in places), f"{path}: " if path else "")
            message = rule.message if isinstance(rule.message, str) else rule.message(config)
            line = f"{place}{' and '.join(rule.keys)}: {message}"
            if rule.is_advice:
                warnings.append(line)
            else:
                faults.append(line)
    _raise_faults(faults)
    return Loaded(config, warnings)


def check_config(path: str | Path | None, overrides: Sequence[str], file_keys: Sequence[str]) -> None:
    """Check keys, values and files of a config before the checkpoint that completes it is loaded. `file_keys`: keys
    whose lists and folders must exist, if they are given. Raises a UserError with all errors, one per line."""
    checked = _read_given(path, overrides)
    _raise_faults(checked.faults)
    check_data_files(checked.given.config, [key for key in file_keys if checked.given.is_given(key)])


def check_data_files(config: Config, keys: Sequence[str]) -> None:
    """Check that the lists and folders in the `data.*` keys `keys` exist. Raises a UserError if one is missing."""
    for key in keys:
        value = getattr(config.data, key.removeprefix("data."))
        if value and is_url(value):
            continue
        if value and key.endswith("_root") and not Path(value).is_dir():
            raise UserError(f"{value}: no such folder; set {key} to the root folder of the paths in the list")
        if value and not Path(value).exists():
            is_of_demo = Path(value).parts[:2] == ("exp", "demo")
            create = "copy or create it (docs/data.md), or " if Path(value).is_relative_to("lists") else ""
            remedy = "run 'sh scripts/run_demo.sh' to create it" if is_of_demo else f"{create}set {key}"
            raise UserError(f"{value}: no such file; {remedy}")


def _read_given(path: str | Path | None, overrides: Sequence[str]) -> _Checked:
    """Read a file and overrides, and check each key."""
    tree, lines = ({}, {}) if path is None else _read_yaml(Path(path))
    faults: list[str] = []
    places = {name: f"{path}:{line}: " for name, line in lines.items()}
    for text in overrides:
        _apply_override(tree, text, faults, places)
    unused = [name for name in MEANINGLESS_KEYS if _pop(tree, name.split("."))]
    warnings = [f"{places.get(name, '')}{name} has no effect; remove it" for name in unused]
    config, bad_keys = _validate(tree, faults, places)
    _check_components(config, faults, places)
    return _Checked(Given(config, places, None if path is None else str(path)), faults, warnings, bad_keys)


def _raise_faults(faults: list[str]) -> None:
    if faults:
        count = f"{len(faults)} errors in the config:\n  " if len(faults) > 1 else ""
        raise UserError(count + "\n  ".join(faults))


def dump_config(config: Config) -> str:
    """The resolved config as YAML; `load_config` reads it back unchanged."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True, width=120)


def _read_yaml(path: Path) -> tuple[dict, dict[str, int]]:
    """The parsed file and the line number of each dotted key."""
    if path.is_dir() or not path.exists():
        near = difflib.get_close_matches(str(path), map(str, path.parent.glob("*.yaml")), n=1) or ["one of configs/"]
        raise UserError(f"{path}: no such config file; did you mean {near[0]}?")
    try:
        text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not a text file ({error.reason} at byte {error.start}); give a YAML config"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        if isinstance(error, yaml.reader.ReaderError):  # a control character
            line = f":{text.count(chr(10), 0, error.position) + 1}"
        raise UserError(
            f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or first_line(error)}"
        ) from error
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else "expected a mapping of keys to values"
        raise UserError(f"{path}: {what}; see docs/config.md for the keys")
    lines: dict[str, int] = {}
    _collect_lines([node], "", lines)
    return tree, lines


def _collect_lines(path: list[yaml.Node], prefix: str, lines: dict[str, int]) -> None:
    """Line numbers of the keys of the last node in `path`, the nodes from the root to it."""
    for key_node, value_node in path[-1].value:
        name = f"{prefix}{key_node.value}"
        lines[name] = key_node.start_mark.line + 1
        # A YAML alias may refer to a node that contains it.
        if isinstance(value_node, yaml.MappingNode) and value_node not in path:
            _collect_lines([*path, value_node], f"{name}.", lines)


def _apply_override(tree: dict, text: str, faults: list[str], places: dict[str, str]) -> None:
    name, equals, raw = text.partition("=")
    name = name.strip()
    if not equals or not name:
        faults.append(f"command line: {text!r} is not an override; write key=value, such as solver.lr=1e-4")
        return
    field = dotted_keys().get(name)
    if field is not None and field.annotation is str:
        value = raw
    elif field is not None and field.annotation == (str | None):
        value = None if _NULL.fullmatch(raw) else raw
    else:
        try:
            value = yaml.load(raw, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
        except (yaml.YAMLError, RecursionError):
            value = raw
    *sections, last = name.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if below is None:
            below = tree[section] = {}
        if not isinstance(below, dict):
            faults.append(f"command line: {name}: {section} is not a section")
            return
        tree = below
    tree[last] = value
    places[name] = COMMAND_LINE
    if sections:
        places.setdefault(sections[0], COMMAND_LINE)


def _pop(tree: dict, path: Sequence[str]) -> bool:
    """Remove a key; returns whether it existed."""
    *sections, last = path
    for section in sections:
        below = tree.get(section)
        if not isinstance(below, dict):
            return False
        tree = below
    return tree.pop(last, tree) is not tree


def _validate(tree: dict, faults: list[str], places: dict[str, str]) -> tuple[Config, set[str]]:
    """The config with invalid keys at their defaults, and these keys; errors are added to `faults`."""
    for section in SECTIONS:
        if section in tree and tree[section] is None:  # a section whose keys are all commented out
            tree[section] = {}
    for section in ("randaug", "color_jitter", "erasing", "mixup"):
        if isinstance(tree.get("data"), dict) and tree["data"].get(section, ...) is None:
            tree["data"][section] = {}
    bad_keys: set[str] = set()
    while True:
        try:
            return Config.model_validate(tree), bad_keys
        except ValidationError as error:
            for item in error.errors():
                path = _fault_path(item["loc"])
                name = ".".join(path)
                if name not in bad_keys:
                    bad_keys.add(name)
                    if name == "data.sets":  # its keys are not in the schema
                        name = ".".join(map(str, item["loc"]))
                    above = (".".join(path[:end]) for end in range(len(path), 0, -1))
                    place = next((places[key] for key in above if key in places), "")
                    faults.append(f"{place}{name}: {_explain(name, item)}")
                _pop(tree, path)


def _check_components(config: Config, faults: list[str], places: dict[str, str]) -> None:
    """Add the errors in the settings of components, whose files are imported only if settings are given."""
    of_keys = [m for field in dotted_keys().values() for m in field.metadata if isinstance(m, OneOf)]
    without_key = OneOf("modules.probes.PROBES"), OneOf("datasets.augmentations.AUGMENTATIONS")
    tables = [found.paths() for found in (*of_keys, *without_key)]
    for name, values in config.components.items():
        table = next((table for table in tables if name in table), None)
        place = places.get(f"components.{name}", places.get("components", ""))
        if table is None:
            faults.append(f"{place}components.{name}: no component has this name")
            continue
        try:
            load_component(table[name]).Settings.model_validate(values)
        except ValidationError as error:
            for item in error.errors():
                path = f"components.{name}.{'.'.join(map(str, item['loc']))}"
                what = f"unknown key of {name}" if item["type"] == "extra_forbidden" else _explain(path, item)
                faults.append(f"{places.get(path, place)}{path}: {what}")


def _fault_path(loc: tuple) -> list[str]:
    """The longest prefix of a pydantic location that is a key of the schema, or all of it for an unknown key."""
    known = dotted_keys()
    parts = [str(part) for part in loc]
    return next((parts[:end] for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in known), parts)


def _explain(name: str, item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden" and name in dotted_keys():  # `solver.lr: 1`, as on a command line
        section, _, last = name.rpartition(".")
        return f"dotted keys are for the command line; in a file, write {last}: below {section}:"
    if item["type"] == "extra_forbidden":
        section = difflib.get_close_matches(name, SECTIONS, n=1, cutoff=0.6) if isinstance(item["input"], dict) else []
        return f"unknown section; did you mean {section[0]}?" if section else f"unknown key{_suggest(name)}"
    if item["type"] in ("model_type", "model_attributes_type"):
        return f"must be a section of keys, not {_shown(item['input'])}"
    if item["type"] == "literal_error" and len(choices := re.findall("'([^']+)'", item["ctx"]["expected"])) > 10:
        near = difflib.get_close_matches(str(item["input"]), choices, n=1)
        advice = f"did you mean {near[0]}?" if near else "docs/config.md lists the choices"
        return f"{_shown(item['input'])} is not a valid choice; {advice}"
    message = item["msg"][0].lower() + item["msg"][1:].replace("valid ", "")
    message = re.sub(r"^input should", "must", message)
    message = re.sub(r"\ba (?=integer)", "an ", message)
    return f"{message}, not {_shown(item['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggest(name: str) -> str:
    """Suggest the nearest valid key, by its dotted name, or by its last part in another section."""
    known = list(dotted_keys())
    last = name.rsplit(".", 1)[-1]
    same_name = [k for k in known if k.casefold() == name.casefold()]
    same_word = [k for k in known if k.rsplit(".", 1)[-1].casefold() == last.casefold()]
    near = same_name or same_word or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        by_word = {k.rsplit(".", 1)[-1]: k for k in known}
        near = [by_word[w] for w in difflib.get_close_matches(last, list(by_word), n=1, cutoff=0.6)]
    return f"; did you mean {near[0]}?" if near else "; docs/config.md lists the valid ones"
