"""Renders data for comparing methods: two more test sets of the demo, and lists of base and novel classes.

    OUT/frames/coloured/<class>/<clip>/img_00001.jpg ...    held-out pairs of shape and motion, with a named colour
    OUT/frames/drawn/<class>/<clip>/img_00001.jpg ...       all pairs, drawn with pen or chalk
    OUT/lists/{coloured,drawn}.txt                          path num_frames label   (paths relative to OUT/frames)
    OUT/lists/{base_train,base_val,novel_val}.txt           the same of WORLD's clips   (relative to WORLD/frames)
    OUT/lists/{coloured,drawn,base,novel}_labels.csv        id,name
    OUT/transfer.json                                       what was rendered, written last

WORLD is the folder of `demo.make_shapes_world`, whose seen classes are split into base and novel ones. Shapes and
motions of both are the same; opposite motions of a shape are both base or both novel.

Examples:
    python -m demo.make_transfer_sets exp/demo/world exp/demo/transfer
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.lists import read_list
from demo import shapes_world
from demo.make_shapes_world import read_settings, write_frames
from demo.shapes_world import COLOURS, HEIGHT, HELD_OUT_CLASSES, MOTIONS, SEEN_CLASSES, SHAPES, WIDTH, ClipClass
from utils.cli import Parser, check_counts, run_command
from utils.csv_files import write_csv
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.progress import progress

COLOURS_PER_PAIR = 3
SETTINGS = "transfer.json"  # different from that of a WORLD
_PENS = np.array([(25, 35, 140), (150, 25, 40), (20, 100, 50), (30, 30, 30)], dtype=np.float32)
_BOARDS = np.array([(30, 60, 45), (40, 45, 60), (50, 40, 40)], dtype=np.float32)


class TestClass(NamedTuple):
    """A class of a test set. `colour` is a number of COLOURS; None: random, and not in the name."""

    pair: ClipClass
    colour: int | None = None

    @property
    def name(self) -> str:
        if self.colour is None:
            return self.pair.name
        colour = list(COLOURS)[self.colour]
        return f"{'an' if colour == 'orange' else 'a'} {colour} {self.pair.shape} {self.pair.motion}"


def _colours(pair: ClipClass) -> list[int]:
    """Three colours, the same for opposite motions of a shape, so that colour does not distinguish them."""
    first = SHAPES.index(pair.shape)
    return [(first + 3 * step) % len(COLOURS) for step in range(COLOURS_PER_PAIR)]


COLOURED_CLASSES = tuple(TestClass(pair, colour) for pair in HELD_OUT_CLASSES for colour in _colours(pair))
DRAWN_CLASSES = tuple(TestClass(ClipClass(shape, motion)) for shape in SHAPES for motion in MOTIONS)


def is_base(pair: ClipClass) -> bool:
    """Whether a seen class is one of the base half: every other pair of opposite motions of a shape."""
    return (SHAPES.index(pair.shape) + MOTIONS.index(pair.motion) // 2) % 2 == 0


BASE_CLASSES = tuple(pair for pair in SEEN_CLASSES if is_base(pair))
NOVEL_CLASSES = tuple(pair for pair in SEEN_CLASSES if not is_base(pair))


def render_coloured(test_class: TestClass, rng: np.random.Generator) -> np.ndarray:
    """A clip in the demo's style: uint8 (T, 64, 80, 3)."""
    track = shapes_world.random_track(test_class.pair.motion, rng)
    return shapes_world.render_track(test_class.pair.shape, track, rng, test_class.colour)


def render_drawn(test_class: TestClass, rng: np.random.Generator) -> np.ndarray:
    """A clip in the second style, uint8 (T, 64, 80, 3): lines and a thin wash on squared paper, or chalk on a board."""
    track = shapes_world.random_track(test_class.pair.motion, rng)
    if rng.uniform() < 0.5:
        ground, pen = rng.uniform(205, 245, 3).astype(np.float32), _PENS[rng.integers(len(_PENS))]
    else:
        ground, pen = _BOARDS[rng.integers(len(_BOARDS))], rng.uniform(190, 250, 3).astype(np.float32)
    frames = np.tile(_ruled(ground, pen, rng), (len(track.x), 1, 1, 1))
    track = shapes_world.shaken(track, shapes_world.camera_shake(rng, len(track.x)))
    body, ink = shapes_world.coverage(test_class.pair.shape, track, HEIGHT, WIDTH)
    wash = np.float32(rng.uniform(0, 0.35))
    cover = np.maximum(ink, wash * body) * track.opacity[:, None, None]
    frames += cover[..., None] * (pen - frames)
    return shapes_world.finish(frames, rng)


def _ruled(ground: np.ndarray, pen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paper or board with faint ruled lines in both directions, float32 (64, 80, 3)."""
    spacing, phase = int(rng.integers(6, 13)), rng.integers(0, 6, 2)
    rows, columns = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
    lines = ((rows + phase[0]) % spacing == 0) | ((columns + phase[1]) % spacing == 0)
    return ground + np.float32(rng.uniform(0.05, 0.2)) * lines[..., None] * (pen - ground)


Film = Callable[[TestClass, np.random.Generator], np.ndarray]
# Name -> (its number for the random streams, classes, how they are rendered).
TEST_SETS: dict[str, tuple[int, Sequence[TestClass], Film]] = {
    "coloured": (0, COLOURED_CLASSES, render_coloured),
    "drawn": (1, DRAWN_CLASSES, render_drawn),
}
# Clips per class.
PER_CLASS = {"coloured": 8, "drawn": 4}


def render_set(name: str, per_class: int, frames: Path, seed: int) -> list[str]:
    """Render a test set into the folder `frames`; returns the lines of its list."""
    number, classes, film = TEST_SETS[name]
    lines = []
    for label, test_class in enumerate(progress(classes, desc=name, unit="class")):
        for index in range(per_class):
            path = f"{name}/{test_class.name.replace(' ', '_')}/{index:03d}"
            clip = film(test_class, np.random.default_rng([seed, number, label, index]))
            (frames / path).parent.mkdir(parents=True, exist_ok=True)
            write_frames(frames / path, clip)
            lines.append(f"{path} {len(clip)} {label}")
    return lines


def lines_of_half(world: Path, split: str, half: Sequence[ClipClass]) -> list[str]:
    """The lines of WORLD's list of a split whose classes are in this half, with renumbered labels."""
    labels = {SEEN_CLASSES.index(pair): label for label, pair in enumerate(half)}
    entries = read_list(world / "lists" / f"{split}_frames.txt", len(SEEN_CLASSES), of_frames=True)
    return [f"{e.path} {e.num_frames} {labels[e.label]}" for e in entries if e.label in labels]


def write_lines(path: Path, lines: Sequence[str]) -> None:
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def settings_of(world: Path, per_class: dict[str, int], seed: int) -> dict[str, object]:
    """Everything that determines the files: options, settings of WORLD, and a hash of the code that renders them."""
    world_settings = read_settings(world / "settings.json")
    if world_settings is None:
        raise UserError(f"{world}: not a complete data set; render it: python -m demo.make_shapes_world {world}")
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return {"seed": seed, "per_class": per_class, "world": world_settings, "code": code}


def make_sets(world: Path, out: Path, per_class: dict[str, int] = PER_CLASS, seed: int = 0) -> None:
    """Render both sets and write all lists, unless `out` has them. Raises a UserError if it contains other files."""
    settings = settings_of(world, per_class, seed)
    if read_settings(out / SETTINGS) == settings:
        return
    if out.exists() and not (out / SETTINGS).exists():
        raise UserError(f"{out}: the folder was not made by this command; choose another folder")
    unfinished = out.with_name(out.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    lists = unfinished / "lists"
    for name, (_, classes, _) in TEST_SETS.items():
        write_lines(lists / f"{name}.txt", render_set(name, per_class[name], unfinished / "frames", seed))
        write_csv(lists / f"{name}_labels.csv", ("id", "name"), enumerate(test_class.name for test_class in classes))
    for name, half, splits in (("base", BASE_CLASSES, ("train", "val")), ("novel", NOVEL_CLASSES, ("val",))):
        for split in splits:
            write_lines(lists / f"{name}_{split}.txt", lines_of_half(world, split, half))
        write_csv(lists / f"{name}_labels.csv", ("id", "name"), enumerate(pair.name for pair in half))
    write_lines(unfinished / SETTINGS, [json.dumps(settings, indent=1)])
    shutil.rmtree(out, ignore_errors=True)
    unfinished.replace(out)
    print(f"{out}: {len(COLOURED_CLASSES)} coloured combinations, {len(DRAWN_CLASSES)} drawn ones")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("world", type=Path, metavar="WORLD", help="the folder of demo.make_shapes_world")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to make")
    for name, number in PER_CLASS.items():
        parser.add_argument(f"--{name}_per_class", type=int, default=number, help=f"clips (default {number})")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    check_counts(args, *(f"{name}_per_class" for name in PER_CLASS))
    per_class = {name: getattr(args, f"{name}_per_class") for name in PER_CLASS}
    make_sets(args.world, args.out, per_class, args.seed)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
