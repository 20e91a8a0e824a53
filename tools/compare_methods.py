"""Trains each method on the demo's clips with several seeds, tests it on others, and writes the tables of two pages.

The tables are those of docs/methods.md (scores of all methods) and docs/tuning.md (scores and costs of adapters).
Scores are top-1 in percent: on the validation clips of the seen classes (seen), zero-shot on combinations of colour,
shape and motion that are not in the training set (held-out), zero-shot in another visual style (drawn), and the
harmonic mean of base and novel classes after training on the base classes only (H). Needs the clips that
scripts/run_demo.sh renders; the other test sets are rendered here. Finished runs are skipped and interrupted ones are
resumed.

Examples:
    python -m tools.compare_methods
    python -m tools.compare_methods --seeds 1 --only transf lora --page exp/methods.md
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from demo.make_transfer_sets import make_sets
from tools.comparison import Usage, chosen_names, of_test, run, write_after
from utils.checkpoint import load_checkpoint
from utils.cli import Parser, run_command
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.project_paths import REPOSITORY
from utils.protocols import harmonic_mean, mean_and_deviation
from utils.records import read_records

Figures = dict[str, float]
CONFIGS = REPOSITORY / "configs" / "shapes"
# Training config -> tests of its checkpoint, as {column of the table: config}.
TRAININGS = {
    "transf": {"seen": "transf", "held_out": "zero_shot_coloured", "drawn": "zero_shot_drawn"},
    "base": {"base": "base", "novel": "zero_shot_novel"},
}
METHODS_MARK, TUNING_MARK = "## On the demo's data\n", "| method | seen |"
MEAN, HEAD = "network.sim_header=None", "network.sim_header=Transf"
BOTH_TOWERS = ("network.fix_text=false", "solver.text_ratio=0.3")
RATE = "solver.lr=3e-3"  # adapters train at higher rates; published ones are 3e-4 to 8e-3


class Plan(NamedTuple):
    """Settings of all trainings.

    Attributes:
        configs: folder of the configs, adapted to the demo folder.
    """

    configs: Path
    epochs: int
    shots: int
    frames: int

    @property
    def overrides(self) -> list[str]:
        cache = f"logging.cache_dir={self.configs.with_name('cache')}"
        return [f"data.num_segments={self.frames}", "data.workers=0", cache]


def train_and_test(method: "Method", plan: Plan, seed: int, folder: Path) -> Figures:
    """Run both trainings of a method and test their last checkpoints: scores, and costs of the first training."""
    figures: Figures = {"cpu": 0}
    for name, tests in TRAININGS.items():
        run_dir = folder / name
        usage = train(method, plan, seed, plan.configs / f"{name}.yaml", run_dir)
        weights = run_dir / "last_model.pt"
        figures["cpu"] += usage.cpu
        if name == "transf":
            figures |= costs_of(run_dir) | {"peak": usage.peak}
        if method.mix:
            mixed = run_dir / "mixed.pt"
            figures["cpu"] += run(
                "tools/interpolate.py", "--weights", str(weights), "--save", str(method.mix), str(mixed)
            ).cpu
            weights = mixed
        configs = [word for test in tests.values() for word in ("--config", str(plan.configs / f"{test}.yaml"))]
        figures["cpu"] += run(
            "test_zeroshot.py", *configs, "--weights", str(weights), "--out", str(run_dir / "tests"),
            *of_test(method.overrides), *plan.overrides,
        ).cpu  # fmt: skip
        summary = json.loads((run_dir / "tests" / "summary.json").read_text(encoding="utf-8"))["tests"]
        top1 = {name.split(",")[0]: one["full_top1"] for name, one in summary.items()}
        figures |= {column: top1[test] for column, test in tests.items()}
    return figures


def train(method: "Method", plan: Plan, seed: int, config: Path, run_dir: Path) -> Usage:
    return run(
        "train.py", "--config", str(config), *plan.overrides, f"solver.epochs={plan.epochs}",
        f"data.shot={plan.shots}", f"data.shot_seed={seed}", f"seed={seed}", *method.overrides, "solver.save=trained",
        f"logging.run_dir={run_dir}", "logging.eval_freq=100", "logging.tensorboard=false", "resume=auto",
    )  # fmt: skip


def costs_of(run_dir: Path) -> Figures:
    """Costs of a finished training: trained parameters, bytes of the checkpoint, seconds of a fast step."""
    records = read_records(run_dir / "metrics.jsonl", f"remove {run_dir} to measure again")
    seconds = [record["seconds"] for record in records if record["kind"] == "train"]
    state = load_checkpoint(run_dir / "last_model.pt")["model_state_dict"]
    return {
        "trained": sum(value.numel() for value in state.values()),
        "size": (run_dir / "last_model.pt").stat().st_size,
        # The fastest tenth, because other processes may slow down the rest.
        "seconds": statistics.quantiles(seconds, n=10, method="inclusive")[0] if len(seconds) > 1 else seconds[0],
    }


def probe(method: "Method", plan: Plan, seed: int, folder: Path) -> Figures:
    """A probe on frozen CLIP, which only knows its training classes."""
    usage = run(
        "test_frozen.py", "--config", str(plan.configs / "transf.yaml"), *method.overrides, "--weight_decays", "0.1",
        "--epochs", str(plan.epochs), "--out", str(folder), *plan.overrides, f"data.shot={plan.shots}",
        f"data.shot_seed={seed}", f"seed={seed}",
    )  # fmt: skip
    (best,) = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["best"].values()
    return {"seen": best["top1"], "trained": best["trained"], "cpu": usage.cpu}


def clip_alone(method: "Method", plan: Plan, seed: int, folder: Path) -> Figures:
    """CLIP without training."""
    figures: Figures = {"cpu": 0, "trained": 0}
    for column, test in (TRAININGS["transf"] | TRAININGS["base"]).items():
        out = folder / column
        figures["cpu"] += run(
            "test.py", "--config", str(plan.configs / f"{test}.yaml"), "--out", str(out), *plan.overrides
        ).cpu
        figures[column] = json.loads((out / "summary.json").read_text(encoding="utf-8"))["top1"]
    return figures


class Method(NamedTuple):
    """A row.

    Attributes:
        overrides: config keys of the training; for a probe, options of test_frozen.py.
        mix: mixing weight of the trained weights with CLIP's in tests; 0: no interpolation.
        in_methods, in_tuning: whether the row is in docs/methods.md and docs/tuning.md.
    """

    what: str
    overrides: tuple[str, ...] = ()
    mix: float = 0
    in_methods: bool = True
    in_tuning: bool = False
    measure: "Callable[[Method, Plan, int, Path], Figures]" = train_and_test


def tuning_method(what: str, *overrides: str, in_methods: bool = False) -> Method:
    return Method(what, overrides, in_methods=in_methods, in_tuning=True)


def adapter(name: str, *overrides: str) -> Method:
    return tuning_method(f"`{name}`", MEAN, f"network.adapter={name}", RATE, *overrides, in_methods=True)


METHODS = {
    "clip": Method("CLIP without training", measure=clip_alone),
    "linear": Method("linear probe", ("--probes", "linear", "--lrs", "1,0.3,0.1,0.03"), measure=probe),
    "attentive": Method(
        "attentive probe", ("--probes", "attentive", "--lrs", "3e-3", "components.attentive.num_heads=4"), measure=probe
    ),
    "mean": tuning_method("mean of the frames", MEAN),
    "transf": tuning_method("Text4Vis: temporal head", HEAD, in_methods=True),
    "frozen": tuning_method("temporal head, frozen tower", HEAD, "network.fix_video=true"),
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
    "tsm": tuning_method("`tsm`", MEAN, "network.tm=tsm", in_methods=True),
    "tokenshift": tuning_method("`tokenshift`", MEAN, "network.tm=tokenshift"),
    "tokent1d": tuning_method("`tokent1d`", MEAN, "network.tm=tokent1d"),
    "joint_st": tuning_method("`joint_st`", MEAN, "network.joint_st=true"),
}


def figures_of(name: str, plan: Plan, seed: int, out: Path) -> Figures:
    """The results of a method with a seed, measured or read from an earlier run."""
    folder, method = out / name / f"seed{seed}", METHODS[name]
    settings = {"overrides": list(method.overrides), "mix": method.mix, "of all": list(plan[1:])}
    path = folder / "figures.json"
    if not path.exists():
        figures = method.measure(method, plan, seed, folder)
        write_text_atomic(path, json.dumps({"settings": settings, "figures": figures}, indent=1))
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["settings"] != settings:
        raise UserError(f"{path}: was created with other settings; remove {folder}, or choose another --out")
    return found["figures"]


def methods_row(what: str, seeds: list[Figures]) -> str:
    """A row of docs/methods.md: mean and deviation over the seeds, or a dash if a score does not exist."""
    if "base" in seeds[0]:
        seeds = [figures | {"h": harmonic_mean(figures["base"], figures["novel"])} for figures in seeds]
    cells = []
    for column in ("seen", "held_out", "drawn", "h"):
        values = [figures[column] for figures in seeds if column in figures]
        mean, deviation = mean_and_deviation(values) if values else (0.0, 0.0)
        cells.append(f"{mean:.1f}" + f"±{deviation:.1f}" * (len(values) > 1) if values else "–")
    return f"| {what} | {' | '.join(cells)} | {seeds[0]['trained']:,} |"


def methods_section(found: dict[str, list[Figures]], plan: Plan, num_seeds: int) -> str:
    """The end of docs/methods.md, from METHODS_MARK on."""
    of_seeds = f"mean and deviation of {num_seeds} seeds" if num_seeds > 1 else "one seed"
    minutes = sum(figures["cpu"] for seeds in found.values() for figures in seeds) / 60
    lines = [
        METHODS_MARK,
        f"Top-1, {of_seeds}: on the seen classes (seen); zero-shot on 24 held-out combinations of colour, shape",
        "and motion (held-out), and on 40 classes in another visual style (drawn); harmonic mean H of base and novel",
        f"classes. {plan.epochs} epochs, {plan.shots} clips per class, {plan.frames} frames: too short for any method",
        "to converge, and learning rates are not tuned (5e-4, adapters 3e-3, towers 0.3 of it). Losses are those of",
        f"the recipes (VCS: NCE). `python -m tools.compare_methods` took about {minutes:.0f} minutes on one core.",
        "",
        "| method | seen | held-out | drawn | H | trained |",
        "| --- | --- | --- | --- | --- | --- |",
        *(methods_row(METHODS[name].what, seeds) for name, seeds in found.items() if METHODS[name].in_methods),
    ]
    return "\n".join(lines) + "\n"


def tuning_section(found: dict[str, Figures], plan: Plan) -> str:
    """The end of docs/tuning.md, from TUNING_MARK on."""
    lines = [
        f"{TUNING_MARK} held-out | trained parameters | checkpoint, MB | process, MB | step, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in found.items():
        lines.append(
            f"| {METHODS[name].what.removeprefix('Text4Vis: ')} | {figures['seen']:.1f} | {figures['held_out']:.1f} | "
            f"{figures['trained']:,} | {figures['size'] / 1e6:.2f} | {figures['peak'] / 1e6:.0f} | "
            f"{figures['seconds'] * 1e3:.0f} |"
        )
    lines += [
        "",
        f"{plan.epochs} epochs, {plan.shots} clips per class, {plan.frames} frames, one seed",
        "([methods.md](methods.md): three). Made by `python -m tools.compare_methods` on one core.",
    ]
    return "\n".join(lines) + "\n"


def write_configs(demo: Path, out: Path) -> Path:
    """Copy the configs with the folder `demo` instead of exp/demo; returns their folder."""
    folder = out / "configs"
    for name in {name for one, tests in TRAININGS.items() for name in (one, *tests.values())}:
        text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
        write_text_atomic(folder / f"{name}.yaml", text.replace("exp/demo/", f"{demo}/"))
    return folder


def main(args: argparse.Namespace) -> None:
    names = chosen_names(args.only, METHODS, "method")
    demo, out = Path(args.demo).absolute(), Path(args.out).absolute()
    if not (demo / "transfer").exists():
        make_sets(demo / "world", demo / "transfer")
    plan = Plan(write_configs(demo, out), args.epochs, args.shots, args.frames)
    # First one seed of all methods; those in docs/tuning.md only need no others.
    runs = [(name, seed) for seed in range(args.seeds) for name in names if METHODS[name].in_methods or seed == 0]
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for name, seed in tqdm(runs, unit="run", disable=None):
        if seed == 0 or METHODS[name].measure is not clip_alone:  # CLIP has no seed
            found[name].append(figures_of(name, plan, seed, out))
    methods = methods_section(found, plan, args.seeds)
    tuning = tuning_section({name: seeds[0] for name, seeds in found.items() if METHODS[name].in_tuning}, plan)
    if args.page or args.only:
        print(f"{methods}\n{tuning}", end="")
        if args.page:
            write_text_atomic(Path(args.page), f"{methods}\n{tuning}")
        return
    write_after(REPOSITORY / "docs" / "methods.md", METHODS_MARK, methods)
    write_after(REPOSITORY / "docs" / "tuning.md", TUNING_MARK, tuning)
    print(methods)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="number of seeds per method (default 3)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each training (default 4)")
    parser.add_argument("--shots", type=int, default=16, help="training clips per class (default 16)")
    parser.add_argument("--frames", type=int, default=6, help="frames per clip (default 6)")
    parser.add_argument("--demo", default="exp/demo", metavar="DIR", help="folder of the demo (default exp/demo)")
    parser.add_argument("--out", default="exp/methods", help="folder of the runs (default exp/methods)")
    parser.add_argument("--page", metavar="FILE", help="write the tables to this file, and not into docs/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of {', '.join(METHODS)}; prints the tables")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
