"""The embedding map: videos and class texts on a plane, with names on its clusters."""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from reporting.confusion import group_classes, group_names
from reporting.html import Html, data_block, el, join
from reporting.inputs import RunReport
from reporting.projection import project

MAP_VIDEOS = 1500  # of more videos, this number is sampled with a fixed seed
NUM_LABELS = 12


def embedding_map(report: RunReport) -> Html:
    """Section: videos and class texts in the plane, by t-SNE and PCA."""
    test = report.test
    readable = np.flatnonzero(test.outcomes.is_readable)
    if len(readable) == 0 or len(readable) + len(test.text) < 4:
        return el("p", "Too few videos and classes for a map.", class_="note")
    rows = readable
    if len(rows) > MAP_VIDEOS:
        rows = np.sort(np.random.default_rng(0).choice(readable, MAP_VIDEOS, replace=False))
    maps = project(test.scorer.vectors(test.table.embeddings)[rows], test.class_vectors)
    hue_rank = np.argsort(group_classes(report.confusion).order)  # confused classes get similar colours
    labels = test.outcomes.labels[rows]
    videos = {name: points[: len(rows)] for name, points in maps.items()}
    data = {
        "names": test.class_names,
        "hues": np.round(360 * hue_rank / len(hue_rank)).astype(int).tolist(),
        "paths": [test.table.paths[row] for row in rows],
        "labels": labels.tolist(),
        "predicted": test.outcomes.predicted[rows].tolist(),
        "maps": {name: np.round(points, 4).astype(float).ravel().tolist() for name, points in maps.items()},
        "clusters": {name: cluster_names(points, labels, test.class_names) for name, points in videos.items()},
    }
    shown = "Videos"
    if len(rows) < len(readable):
        shown = f"{len(rows):,} of the {len(readable):,} readable videos, drawn at random,"
    explanation = (
        f"{shown} and the class texts that they are compared with. Dots are videos, coloured by their true class, "
        "rings those that are predicted wrongly; diamonds are texts. Videos and texts are centred separately, because "
        "CLIP embeds them far apart. Distances on such a map are only approximate."
    )
    kind = el("select", [el("option", name, value=name) for name in maps], id="map-kind")
    field = el("input", type="search", id="map-filter", autocomplete="off")
    label = "Embedding map of videos and class texts. Arrow keys move from point to point."
    return join(
        [
            el("p", explanation),
            el("p", el("label", "Map ", kind), el("label", "Classes with ", field), class_="controls"),
            el("canvas", id="map-canvas", tabindex="0", role="application", aria_label=label),
            el("output", "Point at a dot, tap it, or move with the arrow keys.", id="map-says", class_="says"),
            data_block("map-data", data),
        ]
    )


def cluster_names(points: np.ndarray, labels: np.ndarray, names: list[str]) -> list[list]:
    """[x, y, name] of clusters of the videos on a map by Ward's method, the largest first.

    A cluster is named after the classes that have more videos in it than in any other.

    Args:
        points: float32 (n,2). labels: int (n,), of the videos.
    """
    if len(points) < 2:
        return []
    limit = min(NUM_LABELS, len(np.unique(labels)))
    cluster_of = fcluster(linkage(points, "ward"), limit, "maxclust") - 1
    counts = np.zeros((len(names), limit), dtype=int)
    np.add.at(counts, (labels, cluster_of), 1)
    places, members = [], []
    for cluster in np.argsort(-counts.sum(axis=0), kind="stable"):
        inside = [names[c] for c in np.flatnonzero(counts[:, cluster]) if counts[c].argmax() == cluster]
        if inside:
            members.append(inside)
            places.append(np.median(points[cluster_of == cluster], axis=0).astype(float).round(4).tolist())
    return [[x, y, name] for (x, y), name in zip(places, group_names(members, names))]
