"""Rules between config keys about resuming, checkpoints and logging."""

from importlib.util import find_spec

from utils.interval import parse_interval
from utils.schema_rules import Rule, TrainRule


def _is_bad_interval(value: int | str | None) -> bool:
    try:
        parse_interval(value)
    except ValueError:
        return True
    return False


RULES = (
    TrainRule(
        ("solver.start_epoch", "solver.epochs"),
        lambda c: c.solver.start_epoch >= c.solver.epochs,
        "start_epoch must be below epochs",
    ),
    Rule(
        ("solver.save_every",),
        lambda c: _is_bad_interval(c.solver.save_every),
        "must be a number of steps, such as 500, or of minutes, such as 10min",
    ),
    TrainRule(
        ("solver.shard", "solver.save_every"),
        lambda c: c.solver.shard != "none" and str(c.solver.save_every).endswith("min"),
        "save_every must be a number of steps, because all processes gather the weights and their clocks differ",
    ),
    TrainRule(
        ("logging.wandb_project",),
        lambda c: bool(c.logging.wandb_project) and find_spec("wandb") is None,
        "Weights & Biases is not installed; run 'pip install wandb', or set it to null",
    ),
    TrainRule(
        ("resume", "pretrain"),
        lambda c: bool(c.resume) and bool(c.pretrain),
        "are both set; resume continues a run, pretrain starts a new one; remove one",
    ),
)
