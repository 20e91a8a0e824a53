"""Confusions between classes: a matrix, groups and pairs."""

import numpy as np

from reporting.confusion import cluster_classes, confused_pairs, group_classes, group_names, num_lost
from reporting.html import Html, count_of, data_block, el, join, number, table
from reporting.inputs import RunReport

NUM_PAIRS, NUM_GROUPS, NUM_CLUSTERS = 100, 20, 16
BESIDE = 7  # number of groups that fit beside the matrix
_EXPLANATION = (
    "Rows are true classes, columns predicted classes. Blue is correct, orange is wrong; the stronger, the "
    "larger the share of the row. Boxes mark groups of classes that are confused with each other. Clusters contain "
    "similar classes; the orange part at the bottom of a cluster's diagonal cell is the errors inside the cluster."
)


def confusions(report: RunReport) -> Html:
    """Section: the confusion matrix, groups of confused classes, and pairs."""
    names, confusion = report.test.class_names, report.confusion
    occurs = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    among_occurring = confusion[np.ix_(occurs, occurs)]
    local_groups, order = group_classes(among_occurring)
    local_clusters = cluster_classes(among_occurring, report.test.class_vectors[occurs], NUM_CLUSTERS)
    groups, clusters = ([occurs[members].tolist() for members in lists] for lists in (local_groups, local_clusters))
    cluster_names = group_names([[names[c] for c in cluster] for cluster in clusters], names)
    rows, columns = np.nonzero(confusion)
    data = {
        "names": names,
        "totals": confusion.sum(axis=1).tolist(),
        "cells": np.stack([rows, columns, confusion[rows, columns]], axis=1).ravel().tolist(),
        "orders": {"groups": occurs[order].tolist(), "listed": occurs.tolist()},
        "groups": [len(group) for group in groups],
        "clusters": [{"name": name, "classes": cluster} for name, cluster in zip(cluster_names, clusters)],
    }
    matrix = el("div", _controls(), _canvas(), data_block("matrix-data", data))
    beside = el("div", matrix, _groups(names, confusion, groups), class_="beside-it")
    return join([el("p", _EXPLANATION), beside, _pairs(names, confusion)])


def _groups(names: list[str], confusion: np.ndarray, groups: list[list[int]]) -> Html:
    items = []
    for group in groups[:NUM_GROUPS]:
        lost = el("small", f" {count_of(num_lost(confusion, group), 'video')} lost")
        items.append(el("li", ", ".join(names[c] for c in group), lost))
    title = el("h3", "Groups of classes that are confused with each other")
    if not items:
        return el("div", title, el("p", "None.", class_="note"))
    first, rest = items[:BESIDE], items[BESIDE:]
    more = None
    if rest:
        more = el("details", el("summary", count_of(len(rest), "more group")), el("ol", rest, class_="groups"))
    return el("div", title, el("ol", first, class_="groups"), more)


def _pairs(names: list[str], confusion: np.ndarray) -> Html:
    totals = confusion.sum(axis=1)
    rows = [
        [names[i], names[j], number(count, 0), number(100 * count / totals[i]), number(confusion[j, i], 0)]
        for i, j, count in confused_pairs(confusion, NUM_PAIRS)
    ]
    if not rows:
        return el("p", "No video was classified wrongly.", class_="note")
    columns = ["class", "predicted", "videos", "% of the class", ("reverse", "videos confused the other way.")]
    title = "Most confused pairs"
    return join([el("h3", title), table(columns, rows, title, "pairs-table", "Filter by name")])


def _controls() -> Html:
    views = {"groups": "classes, confused ones first", "listed": "classes as listed", "clusters": "clusters of classes"}
    view = el("select", [el("option", title, value=name) for name, title in views.items()], id="matrix-view")
    field = el("input", type="search", id="matrix-filter", autocomplete="off")
    return el("p", el("label", "Show ", view), el("label", "Classes with ", field), class_="controls")


def _canvas() -> Html:
    label = "Confusion matrix. Arrow keys move from cell to cell; the tables below have the same values."
    canvas = el("canvas", id="matrix-canvas", tabindex="0", role="application", aria_label=label)
    description = el("output", "Point at a cell, tap it, or move with the arrow keys.", id="matrix-says", class_="says")
    titles = {"matrix-open": "Show these classes", "matrix-back": "All clusters"}
    buttons = [el("button", title, type="button", id=id, hidden=True) for id, title in titles.items()]
    return join([el("div", canvas, id="matrix"), el("p", description, buttons, class_="controls")])
