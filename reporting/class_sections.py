"""The sections of a page on classes: accuracy of each, which are taken for which, the embedding map."""

import numpy as np

from reporting import projection
from reporting.confusion import confused_pairs, confusion_matrix, group_classes, num_lost
from reporting.html import Cell, Html, data_block, el, join, number, table
from reporting.outcomes import wilson_interval
from reporting.run_folder import TestResult

NUM_PAIRS, NUM_GROUPS = 100, 20
MAP_VIDEOS = 1500  # on the embedding map; of more, so many are drawn by a seed


def classes(test: TestResult) -> Html:
    outcomes, names = test.outcomes, test.class_names
    confusion = confusion_matrix(outcomes.labels, outcomes.predicted, len(names))
    count = np.bincount(outcomes.labels, minlength=len(names))
    right = np.bincount(outcomes.labels[outcomes.is_top1], minlength=len(names))
    in_top5 = np.bincount(outcomes.labels[outcomes.is_top5], minlength=len(names))
    called = confusion.sum(axis=0)
    low, high = wilson_interval(right, np.maximum(count, 1))
    wrong = confusion - np.diag(confusion.diagonal())
    rows = []
    for c in np.flatnonzero(count):
        taken_for = int(wrong[c].argmax())
        as_other = f"{names[taken_for]} ({wrong[c, taken_for]})" if wrong[c].any() else ""
        share = 100 * right[c] / count[c]
        rows.append(
            [
                names[c],
                Cell(
                    [
                        el("i", class_="meter", style=f"--share:{share:.1f}%"),
                        el("span", f"{share:.1f}", class_="beside"),
                    ],
                    share,
                ),
                number(count[c], 0),
                Cell(f"{100 * low[c]:.0f}–{100 * high[c]:.0f}", low[c]),
                number(100 * in_top5[c] / count[c]),
                number(100 * right[c] / called[c] if called[c] else None),
                as_other,
            ]
        )
    columns = [
        "class",
        ("top-1 %", "share of the class's videos that were called so (recall)"),
        "videos",
        ("95% interval", "of top-1, by Wilson's formula"),
        "top-5 %",
        ("precision %", "share of the videos called so that are of the class"),
        ("most often taken for", "and how many of its videos were"),
    ]
    num_absent = int((count == 0).sum())
    note = f"{num_absent} classes without a video in this test are left out." if num_absent else None
    grid = table(columns, rows, "Accuracy by class", "classes-table", "Filter by name", is_tall=True)
    return join([grid, note and el("p", note, class_="note")])


def confusions(test: TestResult) -> Html:
    names = test.class_names
    confusion = confusion_matrix(test.outcomes.labels, test.outcomes.predicted, len(names))
    occurs = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    groups, order = group_classes(confusion[np.ix_(occurs, occurs)])
    groups = [[int(occurs[c]) for c in group] for group in groups]
    pairs = confused_pairs(confusion, NUM_PAIRS)
    rows_total = confusion.sum(axis=1)
    pair_rows = [
        [names[i], names[j], number(count, 0), number(100 * count / rows_total[i]), number(confusion[j, i], 0)]
        for i, j, count in pairs
    ]
    group_rows = [
        [", ".join(names[c] for c in group), number(len(group), 0), number(num_lost(confusion, group), 0)]
        for group in groups[:NUM_GROUPS]
    ]
    rows, columns = np.nonzero(confusion)
    data = {
        "names": names,
        "totals": rows_total.tolist(),
        "cells": np.stack([rows, columns, confusion[rows, columns]], axis=1).ravel().tolist(),
        "orders": {"groups": occurs[order].tolist(), "listed": occurs.tolist()},
    }
    said = (
        "Rows are true classes, columns what their videos were called. Blue is right, red is wrong; the stronger, the "
        "larger the share of the row."
    )
    return join(
        [
            el("p", said),
            _matrix_controls(),
            el("div", el("div", el("canvas", id="matrix-canvas"), id="matrix-room"), id="matrix", class_="box",
               tabindex="0", role="img", aria_label="Confusion matrix; the tables below say the same in words"),
            el("output", "Point at a cell.", id="matrix-says", class_="says"),
            data_block("matrix-data", data),
            el("h3", "Groups of classes that are taken for each other"),
            table(["classes", "size", "videos lost"], group_rows, "Groups of confused classes", is_tall=True)
            if groups
            else el("p", "None.", class_="note"),
            el("h3", "Most confused pairs"),
            table(
                ["class", "called", "videos", "% of the class", ("reverse", "videos of the second called the first")],
                pair_rows, "Most confused pairs", "pairs-table", "Filter by name", is_tall=True,
            )
            if pairs
            else el("p", "No video was called by a wrong class.", class_="note"),
        ]
    )  # fmt: skip


def _matrix_controls() -> Html:
    order = el(
        "select",
        el("option", "groups of confused classes first", value="groups"),
        el("option", "as listed", value="listed"),
        id="matrix-order",
    )
    return el(
        "p",
        el("label", "Order ", order),
        el("label", "Classes with ", el("input", type="search", id="matrix-filter", autocomplete="off")),
        el(
            "span",
            el("button", "−", type="button", id="matrix-out", aria_label="Smaller cells"),
            el("button", "+", type="button", id="matrix-in", aria_label="Larger cells"),
            el("button", "Fit", type="button", id="matrix-fit"),
        ),
        class_="controls",
    )


def embedding_map(test: TestResult) -> Html:
    readable = np.flatnonzero(test.outcomes.is_readable)
    if len(readable) + len(test.text) < 4:
        return el("p", "Too few videos and classes for a map.", class_="note")
    rows = readable
    if len(rows) > MAP_VIDEOS:
        rows = np.sort(np.random.default_rng(0).choice(readable, MAP_VIDEOS, replace=False))
    maps = projection.project(test.table.embeddings[rows], test.text)
    confusion = confusion_matrix(test.outcomes.labels, test.outcomes.predicted, len(test.class_names))
    hue_rank = np.argsort(group_classes(confusion).order)  # classes that are confused get colours alike
    data = {
        "names": test.class_names,
        "hues": np.round(360 * hue_rank / len(hue_rank)).astype(int).tolist(),
        "paths": [test.table.paths[row] for row in rows],
        "labels": test.outcomes.labels[rows].tolist(),
        "predicted": test.outcomes.predicted[rows].tolist(),
        "maps": {name: np.round(points, 4).astype(float).ravel().tolist() for name, points in maps.items()},
    }
    some = (
        f"{len(rows):,} of the {len(readable):,} readable videos, drawn at random, and"
        if len(rows) < len(readable)
        else "Videos and"
    )
    said = (
        f"{some} the class texts that they are compared with. Dots are videos, coloured by their true class, rings "
        "those that were called wrong; diamonds are texts. Videos and texts are each centred at their own mean, for "
        "CLIP keeps the two apart. Distances on such a map are a hint, not a measure."
    )
    kind = el("select", [el("option", name, value=name) for name in maps], id="map-kind")
    return join(
        [
            el("p", said),
            el(
                "p",
                el("label", "Map ", kind),
                el("label", "Classes with ", el("input", type="search", id="map-filter", autocomplete="off")),
                class_="controls",
            ),
            el("canvas", id="map-canvas", role="img", aria_label="Embedding map of videos and class texts"),
            el("output", "Point at a dot.", id="map-says", class_="says"),
            data_block("map-data", data),
        ]
    )
