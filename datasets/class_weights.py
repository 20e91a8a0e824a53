"""`solver.class_weights`: loss weights of K classes."""

import math

import numpy as np

from datasets.entries import Entries
from datasets.lists import csv_rows
from utils.errors import UserError
from utils.schema import Config


def class_weights(cfg: Config, entries: Entries) -> np.ndarray | None:
    """float32 (K,) for the training clips of an epoch, or None if all classes have the same weight. Raises a UserError
    if the CSV file of the config is invalid."""
    setting = cfg.solver.class_weights
    if setting is None:
        return None
    if setting == "balanced":
        return balanced_weights(entries.labels, cfg.data.num_classes)
    return read_class_weights(setting, cfg.data.num_classes)


def balanced_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 (K,): mean number of clips of the classes that occur / number of clips of the class.

    As "balanced" in scikit-learn. The mean over the clips is 1. Classes without clips have weight 1.

    Args:
        labels: int (N,).
    """
    counts = np.bincount(labels, minlength=num_classes)
    occurs = counts > 0
    return np.where(occurs, len(labels) / (occurs.sum() * np.maximum(counts, 1)), 1.0).astype(np.float32)


def read_class_weights(path: str, num_classes: int) -> np.ndarray:
    """Read float32 (K,) from a CSV with the header `id,weight` and a line per class. Raises a UserError if invalid."""
    rows = csv_rows(path)
    if not rows or [field.strip().lower() for field in rows[0][1]] != ["id", "weight"]:
        raise UserError(f"{path}: expected the header 'id,weight' and a line per class (solver.class_weights)")
    weights = np.full(num_classes, np.nan)
    for line, fields in rows[1:]:
        try:
            id_field, weight_field = fields
            class_id, weight = int(id_field), float(weight_field)
        except ValueError:
            raise UserError(f"{path}:{line}: {','.join(fields)!r} is not a class id and a number") from None
        if not 0 <= class_id < num_classes or not np.isnan(weights[class_id]):
            raise UserError(f"{path}:{line}: class id {class_id} is outside 0..{num_classes - 1}, or given twice")
        if not (math.isfinite(weight) and weight >= 0):
            raise UserError(f"{path}:{line}: weight is {weight}; it must be at least 0")
        weights[class_id] = weight
    missing = np.flatnonzero(np.isnan(weights))
    if len(missing):
        raise UserError(f"{path}: no line for class id {missing[0]}; data.num_classes is {num_classes}")
    if not weights.any():
        raise UserError(f"{path}: all weights are 0")
    return weights.astype(np.float32)
