"""Run folders: path, contents and resuming."""

import shlex
from pathlib import Path

from engine.keeper import BEST, LAST
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.project_paths import from_working_folder
from utils.schema import Config
from utils.stop import launch_folder

PICKS = "few_shot.txt"


def default_run_dir(cfg: Config, log_time: str | None = None) -> Path:
    """The default run folder.

    `exp/<data.dataset>/<network.arch>/f<frames>`; few-shot `exp_fewshot/<dataset>/<arch>/f<frames>_shot<shot>/seed<n>`.
    If `network.arch` is a weights file, its name without extension is used; `log_time` replaces the last part.
    """
    arch = cfg.network.arch
    top, last = "exp", f"f{cfg.data.num_frames}"
    if cfg.data.shot:
        top, last = "exp_fewshot", f"{last}_shot{cfg.data.shot}/seed{cfg.data.shot_seed}"
    name = Path(arch).stem if Path(arch).is_file() else arch
    return Path(from_working_folder(top), cfg.data.dataset, name, log_time or last)


def choose_run_dir(cfg: Config, log_time: str | None = None) -> Path:
    """The run folder of the config, otherwise that of the checkpoint to resume, otherwise the default.

    Processes that are restarted after a failure use the same folder. Raises a UserError if the folder already contains
    a run that this one neither resumes nor validates, or is given twice.
    """
    launch = launch_folder()
    note = launch / "run_dir" if launch else None
    if note and note.exists():
        return Path(note.read_text(encoding="utf-8"))
    path = _named_or_default(cfg, log_time)
    if cfg.resume is None and not cfg.solver.evaluate and (path / LAST).exists():
        raise UserError(
            f"logging.run_dir: {path} already contains a run; add resume=auto to continue it, or choose another folder "
            "with logging.run_dir=..."
        )
    if note:
        write_text_atomic(note, str(path))
    return path


def _named_or_default(cfg: Config, log_time: str | None) -> Path:
    if cfg.logging.run_dir is not None:
        if log_time is not None:
            raise UserError(
                f"--log_time {log_time}: the run folder is also given by logging.run_dir; remove one of them"
            )
        return Path(cfg.logging.run_dir)
    if cfg.resume not in (None, "auto"):
        return Path(cfg.resume).parent
    return default_run_dir(cfg, log_time)


def make_run_dir(path: Path, config_text: str, picks: list[str] | None) -> None:
    """Create the folder, and write the resolved config and any few-shot picks to it. Raises a UserError if it cannot be
    created or written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path / "config.yaml", config_text)
        if picks is not None:
            write_text_atomic(path / PICKS, "".join(f"{line}\n" for line in picks))
    except OSError as error:
        raise UserError(
            f"logging.run_dir: {path} cannot be written ({error.strerror}); choose another folder"
        ) from error


def describe_end(run_dir: Path, best_score: str) -> str:
    """The last lines of a run: its files, and suggested next commands."""
    files = {
        LAST: "checkpoint of the last epoch",
        BEST: f"best checkpoint: {best_score}",
        "config.yaml": "resolved config",
        PICKS: "few-shot videos, as an annotation list",
        "log.txt": "console output",
        "metrics.jsonl": "metrics of each step",
        "tensorboard": f"event files: tensorboard --logdir {run_dir}",
    }
    existing = {str(run_dir / name): description for name, description in files.items() if (run_dir / name).exists()}
    width = max(map(len, existing))
    lines = [f"  {path:{width}}  {description}" for path, description in existing.items()]
    weights = run_dir / (BEST if (run_dir / BEST).exists() else LAST)
    # No --config: the checkpoint contains it, including overrides.
    commands = (("sh", "scripts/run_test.sh", str(weights)), ("python", "report.py", str(run_dir)))
    return "\n".join(["done; the run is in", *lines, "next:", *(f"  {shlex.join(words)}" for words in commands)])
