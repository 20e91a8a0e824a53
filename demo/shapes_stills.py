"""Captioned images of the demo's shapes (see `shapes_world`), for contrastive training of its tiny CLIP.

There are two kinds of picture. A plain still shows a shape at rest, and its caption names some of what can be seen:
shape, colour, size, place, the way its mark faces, and whether it is faint. A long exposure shows a whole motion at
once, as a trail that is denser towards its end, and its caption is a class description ("a square moving left"). Long
exposures are made of the seen classes only: no picture or caption pairs a shape with a motion that is held out for it.

A caption may also be true of other pictures in the batch; `caption_is_true` finds them, so that the contrastive loss
does not treat them as negatives.
"""

from dataclasses import dataclass

import numpy as np

from demo import shapes_world
from demo.shapes_world import COLOURS, INK, MOTIONS, SEEN_CLASSES, SHAPES, STILL_SIZE, Track

SIZES = ("tiny", "small", "big", "huge")
_SIZE_LIMITS = (8.5, 11.0, 14.0)  # radius in pixels
COLUMNS = ("at the far left", "at the left", "at the centre", "at the right", "at the far right")
ROWS = ("at the top", "in the upper part", "in the middle", "in the lower part", "at the bottom")
_PLACE_LIMITS = (-14.0, -5.0, 5.0, 14.0)  # offset from the middle of the picture in pixels
FACINGS = ("north", "north east", "east", "south east", "south", "south west", "west", "north west")
FAINTNESS = ("faint", "solid")
ATTRIBUTES = ("shape", "colour", "size", "column", "row", "facing", "faintness", "motion")
NUM_VALUES = (len(SHAPES), len(COLOURS), len(SIZES), len(COLUMNS), len(ROWS), len(FACINGS), 2, len(MOTIONS) + 1)
_UNKNOWN = -1  # the value of an attribute that the picture does not show
_AT_REST = len(MOTIONS)

# fmt: off
TEMPLATES = (
    "{}", "{}.", "a photo of {}.", "a picture of {}", "a video of {}.", "a video of {}", "a clip of {}.",
    "a short film of {}.", "this is {}.", "there is {} in the video.", "one can see {}.", "look, it is {}!",
    "a video that shows {}.", "a photo of the action: {}.", "the action of {}", "an example of {}",
    "a video of a person, {}.",
)
# fmt: on

_EXPOSURE_STEPS = 12
_MAX_MENTIONED = 4  # attributes that the caption of a plain still names, at most


@dataclass(frozen=True)
class Stills:
    """N captioned pictures."""

    pictures: np.ndarray  # uint8 (N, 64, 64, 3)
    captions: list[str]
    attributes: np.ndarray  # int64 (N, 8), the value of each of ATTRIBUTES, -1 for one that the picture does not show
    mentioned: np.ndarray  # bool (N, 8), whether the caption names it


def caption_is_true(attributes: np.ndarray, mentioned: np.ndarray) -> np.ndarray:
    """For N pictures and their captions, (N, N) bool: whether caption j is true for picture i."""
    agree = attributes[:, None] == attributes[None]
    return (agree | ~mentioned[None]).all(axis=2)


def _resting_track(rng: np.random.Generator) -> Track:
    """One frame of a shape of any size, place and angle, faint in one picture of five."""
    radius = 6.5 * 2.9 ** rng.uniform()
    margin = 30 - radius
    opacity = rng.uniform(0.08, 0.25) if rng.uniform() < 0.2 else rng.uniform(0.8, 1)
    angle = rng.uniform(-0.5, 0.5) if rng.uniform() < 0.5 else rng.uniform(0, 2 * np.pi)
    values = (*rng.uniform(-margin, margin, 2), radius, angle, opacity)
    return Track(*(np.array([value], dtype=np.float32) for value in values))


def _still_attributes(shape: int, colour: int, track: Track) -> list[int]:
    facing = int(np.rint(track.angle[0] / (np.pi / 4))) % 8
    size = int(np.searchsorted(_SIZE_LIMITS, track.radius[0]))
    column, row = (int(np.searchsorted(_PLACE_LIMITS, place[0])) for place in (track.x, track.y))
    return [shape, colour, size, column, row, facing, int(track.opacity[0] > 0.5), _AT_REST]


def _exposure_weights(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A rising weight for each step of an exposure, and a flash of light at its end; they sum to 1."""
    if steps == 1:
        return np.ones(1, dtype=np.float32)
    weights = np.linspace(0.3, 1, steps, dtype=np.float32)
    flash = np.float32(rng.uniform(0.25, 0.45))
    weights *= (1 - flash) / weights.sum()
    weights[-1] += flash
    return weights


def _expose(shape: str, colour: int, track: Track, rng: np.random.Generator) -> np.ndarray:
    """A long exposure of a track: uint8 (64, 64, 3)."""
    body_colour = shapes_world.paint_colour(rng, colour)
    body, ink = shapes_world.coverage(shape, track, STILL_SIZE, STILL_SIZE)
    weights = _exposure_weights(rng, len(track.x)) * track.opacity
    body, ink = (np.tensordot(weights, cover, axes=1)[..., None] for cover in (body, ink))
    scenery = shapes_world.background_with_blobs(rng, body_colour, STILL_SIZE, STILL_SIZE)
    return shapes_world.finish(scenery * (1 - body) + body_colour * (body - ink) + INK * ink, rng)


def _choose_mentioned(attributes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which of the attributes (8,) a caption names: bool (8,).

    One to four for a plain still. For a long exposure usually shape and motion, sometimes only one of them, and rarely
    the colour as well.
    """
    mentioned = np.zeros(len(ATTRIBUTES), dtype=bool)
    if attributes[-1] == _AT_REST:
        mentioned[rng.permutation(len(ATTRIBUTES) - 1)[: rng.integers(1, _MAX_MENTIONED + 1)]] = True
        return mentioned
    shape, colour, motion = (ATTRIBUTES.index(name) for name in ("shape", "colour", "motion"))
    choice = rng.uniform()
    mentioned[shape] = choice > 0.15
    mentioned[motion] = not 0.15 < choice < 0.3
    mentioned[colour] = rng.uniform() < 0.1
    return mentioned


def write_caption(attributes: np.ndarray, mentioned: np.ndarray, template: str) -> str:
    """A caption with those of the attributes (8,) that are mentioned (8,)."""
    values: dict[str, np.integer] = dict(zip(ATTRIBUTES, np.where(mentioned, attributes, _UNKNOWN)))
    words = ["a"]
    for attribute, names in (("size", SIZES), ("faintness", FAINTNESS), ("colour", tuple(COLOURS)), ("shape", SHAPES)):
        if values[attribute] != _UNKNOWN:
            words.append(names[values[attribute]])
    if values["shape"] == _UNKNOWN:
        words.append("shape")
    if values["motion"] != _UNKNOWN:
        words.append(MOTIONS[values["motion"]])
    if values["facing"] != _UNKNOWN:
        words.append(f"facing {FACINGS[values['facing']]}")
    for attribute, names in (("column", COLUMNS), ("row", ROWS)):
        if values[attribute] != _UNKNOWN:
            words.append(names[values[attribute]])
    caption = " ".join(words)
    if caption.startswith("a orange"):
        caption = "an" + caption[1:]
    return template.format(caption)


def render_stills(num_stills: int, rng: np.random.Generator, trail_share: float = 0.4) -> Stills:
    """Random captioned pictures, a `trail_share` of them long exposures of the seen classes."""
    pictures = np.empty((num_stills, STILL_SIZE, STILL_SIZE, 3), dtype=np.uint8)
    attributes = np.empty((num_stills, len(ATTRIBUTES)), dtype=np.int64)
    mentioned = np.empty((num_stills, len(ATTRIBUTES)), dtype=bool)
    captions = []
    for i in range(num_stills):
        colour = int(rng.integers(len(COLOURS)))
        if rng.uniform() < trail_share:
            shape, motion = SEEN_CLASSES[rng.integers(len(SEEN_CLASSES))]
            track = shapes_world.make_track(motion, _EXPOSURE_STEPS, rng)
            attributes[i] = [SHAPES.index(shape), colour, *[_UNKNOWN] * 5, MOTIONS.index(motion)]
        else:
            shape, track = SHAPES[rng.integers(len(SHAPES))], _resting_track(rng)
            attributes[i] = _still_attributes(SHAPES.index(shape), colour, track)
        mentioned[i] = _choose_mentioned(attributes[i], rng)
        pictures[i] = _expose(shape, colour, track, rng)
        captions.append(write_caption(attributes[i], mentioned[i], TEMPLATES[rng.integers(len(TEMPLATES))]))
    return Stills(pictures, captions, attributes, mentioned)
