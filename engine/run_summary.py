"""Summary table at the end of a run."""

from typing import Any

from utils.results import format_table

MAX_ROWS = 12
SCORES = {"top1": "top-1 %", "top5": "top-5 %", "mean_class": "mean class %", "map": "mAP %"}
"""Keys of validation records and their column titles; the first one present selects best_model.pt."""


def describe_run(records: list[dict[str, Any]]) -> str:
    """A table with one row per validated epoch (at most twelve, evenly spaced, including the best and the last)."""
    steps = [r for r in records if r["kind"] == "train" and "seconds" in r]  # the first versions did not write seconds
    validations = {r["epoch"]: r for r in records if r["kind"] == "val"}
    if not validations:
        return "no validation yet"
    names = [name for name in SCORES if all(name in record for record in validations.values())]
    best = max(validations, key=lambda epoch: validations[epoch][names[0]])  # the first of equals, like best_model.pt
    titles = [SCORES[name] for name in names]
    rows = [("epoch", "loss", *titles, "clips/s", "waiting for data", "training time", "")]
    for epoch in _chosen(list(validations), best):
        scores = validations[epoch]
        of_epoch = [r for r in steps if r["epoch"] == epoch - 1]
        until = sum(r["seconds"] for r in steps if r["epoch"] < epoch)
        seconds = sum(r["seconds"] for r in of_epoch)
        clips = sum(r["clips_per_second"] * r["seconds"] for r in of_epoch)
        wait = sum(r["wait_share"] * r["seconds"] for r in of_epoch)
        rows.append(
            (
                str(epoch),
                f"{sum(r['loss'] for r in of_epoch) / len(of_epoch):.4f}" if of_epoch else "-",
                *(f"{scores[name]:.2f}" for name in names),
                f"{clips / seconds:.1f}" if of_epoch else "-",
                f"{100 * wait / seconds:.0f}%" if of_epoch else "-",
                f"{until / 60:.1f} min",
                "best" if epoch == best else "",
            )
        )
    return format_table(rows)


def _chosen(epochs: list[int], best: int) -> list[int]:
    if len(epochs) <= MAX_ROWS:
        return epochs
    places = {round(i * (len(epochs) - 1) / (MAX_ROWS - 2)) for i in range(MAX_ROWS - 1)}
    return sorted({epochs[place] for place in places} | {best})
