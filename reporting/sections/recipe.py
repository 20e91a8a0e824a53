"""How to repeat a run: commands, the keys that differ from their defaults, the whole config, and versions."""

import platform

import numpy as np
import torch
import yaml

from reporting.html import Html, el, join, table
from reporting.inputs import RunReport
from reporting.run_folder import commands, shown_value
from utils.recipe import changed_keys
from utils.schema import dotted_keys


def recipe(report: RunReport) -> Html:
    """Section: commands, changed config keys, the whole config, and versions."""
    run, test = report.run, report.test
    config = run.config.model_dump() if run.config else test.scores["config"]
    fields = dotted_keys()
    rows = [
        [el("code", key), el("code", shown_value(value)), el("code", shown_value(base)), _text(fields[key].description)]
        for key, (value, base) in changed_keys(config).items()
    ]
    listings = [[el("h3", title), _listing(command, "box", title)] for title, command in commands(run, test).items()]
    source = "config.yaml of the run" if run.config else "the config in summary.json; save it as recipe.yaml"
    whole = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}"
    tested = (test.weights or "no checkpoint") + (f" (sha256 {test.weights_hash[:16]}…)" if test.weights_hash else "")
    return join(
        [
            *listings,
            el("h3", "Keys that differ from their defaults"),
            table(["key", "value", "default", "meaning"], rows, "Changed config keys"),
            el("details", el("summary", f"The whole config ({source})"), _listing(whole, "box tall", "Config")),
            el("p", f"Tested: {tested}. This page was written by {versions}.", class_="note"),
        ]
    )


def _text(markdown: str) -> Html:
    """A line whose words between backticks are code; one element, which a card wraps as a whole."""
    return el("span", [el("code", part) if place % 2 else part for place, part in enumerate(markdown.split("`"))])


def _listing(text: str, name: str, label: str) -> Html:
    return el("pre", el("code", text), class_=name, tabindex="0", role="region", aria_label=label)
