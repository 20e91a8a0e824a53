"""A run's folder: where it is, what is in it, what it goes on from."""

import datetime
from pathlib import Path

from utils.errors import UserError
from utils.files import write_text_atomic
from utils.keeper import BEST, LAST
from utils.stop import launch_folder

PICKS = "few_shot.txt"


def choose_run_dir(run_dir: str | None, resume: str | None, config_path: str) -> Path:
    """The folder named in the config, else that of the checkpoint to resume, else a new one under exp/.

    A launcher that starts its processes anew after a failure finds the folder that it had.

    Raises:
        UserError: the folder already holds a run and this one does not resume it.
    """
    note = launch_folder() and launch_folder() / "run_dir"
    if note and note.exists():
        return Path(note.read_text(encoding="utf-8"))
    path = _named_or_new(run_dir, resume, config_path)
    if note:
        write_text_atomic(note, str(path))
    return path


def _named_or_new(run_dir: str | None, resume: str | None, config_path: str) -> Path:
    if run_dir is None and resume is not None and resume != "auto":
        return Path(resume).parent
    if run_dir is None:
        if resume == "auto":
            raise UserError("resume=auto looks for the run's own checkpoint; name the folder: logging.run_dir=...")
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        return Path("exp") / Path(config_path).stem / stamp
    path = Path(run_dir)
    if resume is None and (path / LAST).exists():
        raise UserError(
            f"logging.run_dir: {path} already holds a run; add resume=auto to go on with it, or name another folder"
        )
    return path


def make_run_dir(path: Path, config_text: str, picks: list | None) -> None:
    """Make the folder and write the resolved config into it, and the few-shot picks where there are any.

    Args:
        picks: list entries, with `path`, `num_frames` (None for video files) and `label`.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path / "config.yaml", config_text)
        if picks is not None:
            fields = [(p.path, p.num_frames, p.label) for p in picks]
            lines = [" ".join(str(f) for f in line if f is not None) + "\n" for line in fields]
            write_text_atomic(path / PICKS, "".join(lines))
    except OSError as error:
        raise UserError(f"logging.run_dir: {path} cannot be written ({error.strerror}); name another folder") from error


def describe_end(run_dir: Path, best_top1: float) -> str:
    """Where everything is, for the last lines of a run."""
    files = {
        LAST: "the last epoch's checkpoint",
        BEST: f"the best one: top-1 {best_top1:.2f}%",
        "config.yaml": "the resolved config",
        PICKS: "the few-shot videos, as an annotation list",
        "log.txt": "what was printed",
        "metrics.jsonl": "one line a step",
        "tensorboard": f"event files: tensorboard --logdir {run_dir}",
    }
    found = [f"  {run_dir / name}  {what}" for name, what in files.items() if (run_dir / name).exists()]
    return "\n".join(["done; the run is in", *found])
