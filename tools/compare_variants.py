"""Trains variants of the model on the demo's clips, tests them on others, and writes the tables of two pages.

docs/methods.md has the scores of published methods, with several seeds, and docs/tuning.md scores and costs of full
fine-tuning, adapters, additions and text sides. Scores are top-1 in percent: on the validation clips of the seen
classes (seen), zero-shot on combinations of colour, shape and motion that are not in the training set (held-out),
zero-shot in another visual style (drawn), and the harmonic mean of base and novel classes after training on the base
classes only (H). Needs the clips that scripts/run_demo.sh renders; the other test sets are rendered here. Finished runs
are skipped and interrupted ones are resumed.

Examples:
    python -m tools.compare_variants
    python -m tools.compare_variants --table tuning
    python -m tools.compare_variants --table methods --seeds 1 --only transf lora
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from demo.make_transfer_sets import make_sets
from engine.plan import bytes_of_a_step
from tools.comparison import Usage, of_test, run, write_after
from utils.checkpoint import load_checkpoint
from utils.cli import Parser, run_command
from utils.config import load_config
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.progress import progress
from utils.project_paths import REPOSITORY
from utils.protocols import harmonic_mean, mean_and_deviation
from utils.records import Keys, read_json, read_records

Figures = dict[str, float]
CONFIGS = REPOSITORY / "configs" / "shapes"
# Training config -> tests of its checkpoint, as {column of the table: config}.
TRAININGS = {
    "transf": {"seen": "transf", "held_out": "zero_shot_coloured", "drawn": "zero_shot_drawn"},
    "base": {"base": "base", "novel": "zero_shot_novel"},
}
TUNING = {"transf": {"seen": "transf", "held_out": "zero_shot_coloured"}}  # of the rows of docs/tuning.md
SUMMARY = ("the summary of a test", "remove it to test again")  # for messages
MARK = "## On the demo's data\n"
MEAN, HEAD = "network.sim_header=None", "network.sim_header=Transf"
BOTH_TOWERS = ("network.fix_text=false", "solver.text_ratio=0.3")
RATE = "solver.lr=3e-3"  # adapters train at higher rates; published ones are 3e-4 to 8e-3


class Plan(NamedTuple):
    """Settings of all trainings.

    Attributes:
        configs: folder of the configs, adapted to the demo folder.
        trainings: as `TRAININGS`.
    """

    configs: Path
    trainings: dict[str, dict[str, str]]
    epochs: int
    shots: int
    frames: int

    @property
    def overrides(self) -> list[str]:
        cache = f"logging.cache_dir={self.configs.with_name('cache')}"
        return [f"data.num_segments={self.frames}", "data.workers=0", cache]


def train_and_test(method: "Method", plan: Plan, seed: int, folder: Path) -> Figures:
    """Run the trainings of a method and test their last checkpoints: scores, and costs of the first training."""
    figures: Figures = {"cpu": 0}
    for name, tests in plan.trainings.items():
        run_dir = folder / name
        usage = train(method, plan, seed, plan.configs / f"{name}.yaml", run_dir)
        weights = run_dir / "last_model.pt"
        figures["cpu"] += usage.cpu
        if name == "transf":
            figures |= costs_of(run_dir)
        if method.mix:
            mixed = run_dir / "mixed.pt"
            words = ("--weights", str(weights), "--save", str(method.mix), str(mixed))
            figures["cpu"] += run("tools/interpolate.py", *words).cpu
            weights = mixed
        configs = [word for test in tests.values() for word in ("--config", str(plan.configs / f"{test}.yaml"))]
        figures["cpu"] += run(
            "test_zeroshot.py", *configs, "--weights", str(weights), "--out", str(run_dir / "tests"),
            *of_test(method.overrides), *plan.overrides,
        ).cpu  # fmt: skip
        summary = read_json(run_dir / "tests" / "summary.json", *SUMMARY)["tests"]
        top1 = {name.split(",")[0]: scores["full_top1"] for name, scores in summary.items()}
        figures |= {column: top1[test] for column, test in tests.items()}
    return figures


def train(method: "Method", plan: Plan, seed: int, config: Path, run_dir: Path) -> Usage:
    """Train a method, or resume its training; returns the usage of the process."""
    return run(
        "train.py", "--config", str(config), *plan.overrides, f"solver.epochs={plan.epochs}",
        f"data.shot={plan.shots}", f"data.shot_seed={seed}", f"seed={seed}", *method.overrides, "solver.save=trained",
        f"logging.run_dir={run_dir}", "logging.eval_freq=100", "logging.tensorboard=false", "resume=auto",
    )  # fmt: skip


def costs_of(run_dir: Path) -> Figures:
    """Costs of a finished training: trained parameters, bytes of the checkpoint, seconds of a fast step and its peak
    memory in bytes, counted by `train.py --check`."""
    records = read_records(run_dir / "metrics.jsonl", f"remove {run_dir} to measure again")
    seconds = [record["seconds"] for record in records if record["kind"] == "train"]
    state = load_checkpoint(run_dir / "last_model.pt")["model_state_dict"]
    return {
        "trained": sum(value.numel() for value in state.values()),
        "size": (run_dir / "last_model.pt").stat().st_size,
        # The fastest tenth, because other processes may slow down the rest.
        "memory": bytes_of_a_step(load_config(run_dir / "config.yaml", purpose="train").config),
        "seconds": statistics.quantiles(seconds, n=10, method="inclusive")[0] if len(seconds) > 1 else seconds[0],
    }


def probe(method: "Method", plan: Plan, seed: int, folder: Path) -> Figures:
    """A probe on frozen CLIP, which only knows its training classes."""
    usage = run(
        "test_frozen.py", "--config", str(plan.configs / "transf.yaml"), *method.overrides, "--weight_decays", "0.1",
        "--epochs", str(plan.epochs), "--out", str(folder), *plan.overrides, f"data.shot={plan.shots}",
        f"data.shot_seed={seed}", f"seed={seed}",
    )  # fmt: skip
    (best,) = read_json(folder / "summary.json", *SUMMARY)["best"].values()
    return {"seen": best["top1"], "trained": best["trained"], "cpu": usage.cpu}


def clip_alone(method: "Method", plan: Plan, seed: int, folder: Path) -> Figures:
    """CLIP without training."""
    figures: Figures = {"cpu": 0, "trained": 0}
    for column, test in (TRAININGS["transf"] | TRAININGS["base"]).items():
        out = folder / column
        figures["cpu"] += run(
            "test.py", "--config", str(plan.configs / f"{test}.yaml"), "--out", str(out), *plan.overrides
        ).cpu
        figures[column] = read_json(out / "summary.json", *SUMMARY)["top1"]
    return figures


class Method(NamedTuple):
    """A row.

    Attributes:
        overrides: config keys of the training; for a probe, options of test_frozen.py.
        mix: mixing weight of the trained weights with CLIP's in tests; 0: no interpolation.
        tables: pages of docs/ with the row.
    """

    title: str
    overrides: tuple[str, ...] = ()
    mix: float = 0
    tables: tuple[str, ...] = ("methods",)
    measure: "Callable[[Method, Plan, int, Path], Figures]" = train_and_test


BOTH, TUNING_ONLY = ("methods", "tuning"), ("tuning",)


def adapter(name: str, *overrides: str) -> Method:
    """A row of an adapter, by its name in `network.adapter`."""
    return Method(f"`{name}`", (MEAN, f"network.adapter={name}", RATE, *overrides), tables=BOTH)


def addition(name: str, key: str, tables: tuple[str, ...] = TUNING_ONLY) -> Method:
    """A row of a temporal addition, switched on by the override `key`."""
    return Method(f"`{name}`", (MEAN, key), tables=tables)


def text_side(title: str, *overrides: str) -> Method:
    """A row of a way to train the text side, with the temporal head."""
    return Method(f"temporal head, {title}", (HEAD, *overrides), tables=TUNING_ONLY)


METHODS = {
    "clip": Method("CLIP without training", measure=clip_alone),
    "linear": Method("linear probe", ("--probes", "linear", "--lrs", "1,0.3,0.1,0.03"), measure=probe),
    "attentive": Method(
        "attentive probe", ("--probes", "attentive", "--lrs", "3e-3", "components.attentive.num_heads=4"), measure=probe
    ),
    "mean": Method("mean of the frames", (MEAN,), tables=TUNING_ONLY),
    "transf": Method("Text4Vis: temporal head", (HEAD,), tables=BOTH),
    "frozen": Method("temporal head, frozen tower", (HEAD, "network.fix_video=true"), tables=TUNING_ONLY),
    "vifi_clip": Method("ViFi-CLIP: both towers", (MEAN, *BOTH_TOWERS, "solver.label_smoothing=0.1")),
    "mote": Method(
        "MoTE", ("network.sim_header=MoTE", "network.scorer=modulated", "solver.loss_type=mixture"), mix=0.99
    ),
    "vcs": Method("BIKE's VCS", (HEAD, "network.scorer=vcs", "solver.loss_type=NCE")),
    "xclip": Method(
        "X-CLIP", ("network.tm=message", "network.sim_header=MIT", "network.head_layers=1", "network.scorer=xclip")
    ),
    "open_vclip": Method("Open-VCLIP", (MEAN, "solver.interpolated_loss=0.5", "solver.average_epochs=true"), mix=0.5),
    "froster": Method("FROSTER", (MEAN, *BOTH_TOWERS, "solver.distill=2.0")),
    "st_adapter": adapter("st_adapter", "components.st_adapter.width=32"),
    "aim": adapter("aim"),
    "deep_prompts": adapter("deep_prompts", "components.deep_prompts.tokens=4"),
    "lora": adapter("lora"),
    "bitfit": adapter("bitfit", "solver.clip_ratio=1"),
    "tsm": addition("tsm", "network.tm=tsm", BOTH),
    "tokenshift": addition("tokenshift", "network.tm=tokenshift"),
    "tokent1d": addition("tokent1d", "network.tm=tokent1d"),
    "message": addition("message", "network.tm=message"),
    "joint_st": addition("joint_st", "network.joint_st=true"),
    "drop_out": addition("drop_out", "network.drop_out=0.1"),
    "emb_dropout": addition("emb_dropout", "network.emb_dropout=0.1"),
    "patch_dropout": addition("patch_dropout", "network.patch_dropout=0.5"),
    "nce": text_side("NCE, text tower trained", "solver.loss_type=NCE", "network.fix_text=false"),
    "ds": text_side("DS, text tower trained", "solver.loss_type=DS", "network.fix_text=false"),
    "coop": text_side("learned context of 4 tokens", "network.context_tokens=4"),
    "random": text_side("random classifier", "network.classifier=random"),
    "orthogonal": text_side("orthogonal classifier", "network.classifier=orthogonal"),
}


class SavedFigures(Keys):
    """The contents of figures.json."""

    settings: dict[str, Any]
    figures: Figures


def figures_of(name: str, plan: Plan, seed: int, out: Path) -> Figures:
    """The results of a method with a seed, measured or read from an earlier run."""
    folder, method = out / name / f"seed{seed}", METHODS[name]
    settings = {"overrides": list(method.overrides), "mix": method.mix, "of all": list(plan[1:])}
    path = folder / "figures.json"
    if not path.exists():
        figures = method.measure(method, plan, seed, folder)
        write_text_atomic(path, json.dumps({"settings": settings, "figures": figures}, indent=1))
    saved = read_json(path, "the results of a row", "remove it to measure again", SavedFigures)
    if saved["settings"] != settings:
        raise UserError(f"{path}: was created with other settings; remove {folder}, or choose another --out")
    return saved["figures"]


def methods_row(title: str, seeds: list[Figures]) -> str:
    """A row of docs/methods.md: mean and deviation over the seeds, or a dash if a score does not exist."""
    if "base" in seeds[0]:
        seeds = [figures | {"h": harmonic_mean(figures["base"], figures["novel"])} for figures in seeds]
    cells = []
    for column in ("seen", "held_out", "drawn", "h"):
        values = [figures[column] for figures in seeds if column in figures]
        if not values:
            cells.append("–")
            continue
        mean, deviation = mean_and_deviation(values)
        cells.append(f"{mean:.1f}±{deviation:.1f}" if len(values) > 1 else f"{mean:.1f}")
    return f"| {title} | {' | '.join(cells)} | {seeds[0]['trained']:,} |"


def methods_section(results: dict[str, list[Figures]], plan: Plan, num_seeds: int) -> str:
    """The end of docs/methods.md, from MARK on. `results`: of each seed, by method."""
    of_seeds = f"mean and deviation of {num_seeds} seeds" if num_seeds > 1 else "one seed"
    minutes = sum(figures["cpu"] for seeds in results.values() for figures in seeds) / 60
    lines = [
        MARK,
        f"Top-1, {of_seeds}: on the seen classes (seen); zero-shot on 24 held-out combinations of colour, shape",
        "and motion (held-out), and on 40 classes in another visual style (drawn); harmonic mean H of base and novel",
        f"classes. {plan.epochs} epochs, {plan.shots} clips per class, {plan.frames} frames: too short for any method",
        "to converge, and learning rates are not tuned (5e-4, adapters 3e-3, towers 0.3 of it). Losses are those of",
        f"the recipes (VCS: NCE). `python -m tools.compare_variants --table methods` took about {minutes:.0f} minutes",
        "on one core.",
        "",
        "| method | seen | held-out | drawn | H | trained |",
        "| --- | --- | --- | --- | --- | --- |",
        *(methods_row(METHODS[name].title, seeds) for name, seeds in results.items()),
    ]
    return "\n".join(lines) + "\n"


def tuning_section(results: dict[str, list[Figures]], plan: Plan, num_seeds: int) -> str:
    """The end of docs/tuning.md, from MARK on. `results`: of each seed, by method; costs are of the first seed."""
    of_seeds = f"the mean of {num_seeds} seeds" if num_seeds > 1 else "one seed"
    lines = [
        MARK,
        f"Top-1 on the seen classes, and zero-shot on 24 held-out combinations: {plan.epochs} epochs, {plan.shots}",
        f"clips per class, {plan.frames} frames, {of_seeds} ([methods.md](methods.md): more). The first two rows are",
        "full fine-tuning. Memory is the peak of a step, as `--check`",
        "counts it. Times are wall times on a shared machine; some are twice as long as on a quiet one. Random and",
        "orthogonal classifiers contain no information about held-out classes (chance: 4.2). Measured by",
        "`python -m tools.compare_variants --table tuning` on one core.",
        "",
        "| method | seen | held-out | trained parameters | checkpoint, MB | memory, MB | step, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, seeds in results.items():
        seen, held_out = (statistics.fmean(figures[column] for figures in seeds) for column in ("seen", "held_out"))
        first = seeds[0]
        lines.append(
            f"| {METHODS[name].title.removeprefix('Text4Vis: ')} | {seen:.1f} | {held_out:.1f} | "
            f"{first['trained']:,} | {first['size'] / 1e6:.2f} | {first['memory'] / 1e6:.0f} | "
            f"{first['seconds'] * 1e3:.0f} |"
        )
    return "\n".join(lines) + "\n"


# Page in docs/ -> trainings of its rows, its default number of seeds, and what writes its end.
TABLES = {"methods": (TRAININGS, 3, methods_section), "tuning": (TUNING, 1, tuning_section)}


def write_configs(demo: Path, out: Path) -> Path:
    """Copy the configs with the folder `demo` instead of exp/demo; returns their folder."""
    folder = out / "configs"
    for training, tests in TRAININGS.items():
        for name in {training, *tests.values()}:
            text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
            write_text_atomic(folder / f"{name}.yaml", text.replace("exp/demo/", f"{demo}/"))
    return folder


def main(args: argparse.Namespace) -> None:
    demo, out = Path(args.demo).absolute(), Path(args.out).absolute()
    if not (demo / "transfer").exists():
        make_sets(demo / "world", demo / "transfer")
    for table in [args.table] if args.table else TABLES:
        trainings, default_seeds, section = TABLES[table]
        num_seeds = args.seeds or default_seeds
        plan = Plan(write_configs(demo, out), trainings, args.epochs, args.shots, args.frames)
        rows = [name for name in args.only or METHODS if table in METHODS[name].tables]
        results: dict[str, list[Figures]] = {name: [] for name in rows}
        for name, seed in progress([(name, seed) for seed in range(num_seeds) for name in rows], unit="run"):
            if seed == 0 or METHODS[name].measure is not clip_alone:  # CLIP has no seed
                results[name].append(figures_of(name, plan, seed, out / table))
        text = section(results, plan, num_seeds)
        print(text)
        if not args.only:
            write_after(REPOSITORY / "docs" / f"{table}.md", MARK, text)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--table", choices=TABLES, help="the table of this page of docs/ (default: all)")
    parser.add_argument("--seeds", type=int, metavar="N", help="number of seeds (default: 3 for methods, 1 for tuning)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each training (default 4)")
    parser.add_argument("--shots", type=int, default=16, help="training clips per class (default 16)")
    parser.add_argument("--frames", type=int, default=6, help="frames per clip (default 6)")
    parser.add_argument("--demo", default="exp/demo", metavar="DIR", help="folder of the demo (default exp/demo)")
    parser.add_argument("--out", default="exp/variants", help="folder of the runs (default exp/variants)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=METHODS,
        metavar="NAME",
        help=f"only print the rows of some of {', '.join(METHODS)}",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
