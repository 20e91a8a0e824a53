"""Prompts: the sentences that describe a class. K classes, M prompts per class."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import yaml

from utils.errors import UserError

# Ensembles with the numbers of templates in the literature: 16 (ActionCLIP, arXiv 2109.08472) and 28 (CLIP for
# Kinetics, arXiv 2103.00020), but with different wording.
TEMPLATE_SETS = {
    "action16": (
        "{}.",
        "the action of {}.",
        "the human action {}.",
        "an action video: {}.",
        "a clip in which somebody is {}.",
        "a clip that shows {}.",
        "a person engaged in {}.",
        "people who are {}.",
        "someone performing {}.",
        "footage of {}.",
        "{}, recorded on video.",
        "{}, seen in a short clip.",
        "watch a person {}.",
        "this is what {} looks like.",
        "can you see the person {}?",
        "the video belongs to the category {}.",
    ),
    "action28": tuple(
        f"{start} {middle}{{}}."
        for start in ("a picture of", "a still from a video of", "a short video of", "a demonstration of")
        for middle in (
            "",
            "a person ",
            "a person who is ",
            "somebody doing ",
            "people during ",
            "a person practising ",
            "the activity ",
        )
    ),
}


def class_prompts(names: Sequence[str], prompt: str, prompt_set: str | None = None) -> list[list[str]]:
    """The prompts of each of K class names.

    Args:
        prompt: template with `{}` for the class name; used if `prompt_set` is None.
        prompt_set: a name in TEMPLATE_SETS, or the path of a YAML file with a list of templates, or with a mapping from
            class names to a description or a list of them (`{}` in a description is the name).

    Raises:
        UserError: a template has no `{}`, the file is missing or invalid, or a class has no description.
    """
    if prompt_set is None:
        return fill_templates(names, [prompt])
    if prompt_set in TEMPLATE_SETS:
        return fill_templates(names, TEMPLATE_SETS[prompt_set])
    if not Path(prompt_set).is_file():
        raise UserError(f"network.prompt_set {prompt_set}: neither {', '.join(TEMPLATE_SETS)} nor an existing file")
    content = _read(prompt_set)
    if _is_texts(content):
        return fill_templates(names, content, f"{prompt_set}: template")
    if not isinstance(content, dict) or not content:
        raise UserError(f"{prompt_set}: must contain a list of templates, or descriptions by class name")
    return _descriptions(names, content, prompt_set)


def fill_templates(names: Sequence[str], templates: Sequence[str], source: str = "network.prompt") -> list[list[str]]:
    """M prompts for each of K names: every `{}` in a template is replaced with the name.

    Raises:
        UserError: a template without `{}`; begins with `source`.
    """
    for template in templates:
        if "{}" not in template:
            raise UserError(f"{source} {template!r}: must contain {{}} for the class name")
    return [[template.replace("{}", name) for template in templates] for name in names]


def _descriptions(names: Sequence[str], content: dict, source: str) -> list[list[str]]:
    by_name = {str(name): [texts] if isinstance(texts, str) else texts for name, texts in content.items()}
    for name, texts in by_name.items():
        if not _is_texts(texts):
            raise UserError(f"{source}: {name}: must be a description or a list of them, not {texts!r}")
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of the {len(names)} classes have no description, such as "
            f"{', '.join(missing[:4])}; names must be those of data.label_list"
        )
    return [[text.replace("{}", name) for text in by_name[name]] for name in names]


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item.strip() for item in value)


def _read(path: str) -> object:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
