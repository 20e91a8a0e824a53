"""The config keys in which two runs differ."""

from reporting.html import Html, el, table
from reporting.inputs import Comparison
from reporting.run_folder import shown_value
from utils.recipe import changed_keys


def settings(comparison: Comparison) -> Html:
    """Section: the config keys that differ."""
    run, other = comparison.run, comparison.other
    if run.config and other.config:
        configs = run.config.model_dump(), other.config.model_dump()
    else:
        configs = comparison.pair.first.scores["config"], comparison.pair.second.scores["config"]
    rows = [
        [el("code", key), el("code", shown_value(a)), el("code", shown_value(b))]
        for key, (a, b) in changed_keys(*configs).items()
        if key != "logging.run_dir"
    ]
    if not rows:
        return el("p", "None.", class_="note")
    return table(["key", *comparison.names], rows, "Config keys that differ")
