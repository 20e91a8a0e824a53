"""Renders the demo's data: short clips of moving shapes, and captioned still pictures of the same shapes.

A class is a shape and a motion ("a square moving left"). Most motions come in pairs (left and right, up and down,
growing and shrinking) whose clips show the same set of frames in opposite order, so that neither a frame nor the
unordered set of frames distinguishes them. Every shape has an off-centre mark, so that the spinning of a circle is
visible. Each of the eight held-out classes, which are for zero-shot tests, pairs a shape and a motion that both occur
in other classes.

Everything is drawn with numpy from signed distance functions (antialiased), and all random numbers come from the given
generator.

Legend: T frames, H, W height and width in pixels; pictures are uint8 (..., H, W, 3), RGB. Lengths are in pixels, x runs
right and y down, angles are in radians, clockwise on the screen, 0 with the mark on top.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 80, 64  # size of a clip
STILL_SIZE = 64  # of a still picture: the central square of a clip
MIN_FRAMES, MAX_FRAMES = 25, 60
FRAMES_PER_SECOND = 25

SHAPES = ("circle", "square", "triangle", "star", "cross")
MOTIONS = ("moving left", "moving right", "moving up", "moving down", "growing", "shrinking", "spinning", "flashing")
# Every motion is held out with one shape, every shape with one or two motions. Opposite motions are held out with the
# same shape, so that the zero-shot test also depends on the order of the frames.
_HELD_OUT_SHAPE = ("square", "square", "circle", "circle", "triangle", "triangle", "star", "cross")

COLOURS = {
    "red": (225, 50, 50),
    "orange": (240, 140, 30),
    "yellow": (235, 225, 50),
    "green": (60, 190, 70),
    "cyan": (60, 205, 215),
    "blue": (70, 105, 235),
    "purple": (165, 80, 215),
    "white": (240, 240, 240),
}
_COLOUR_VALUES = np.array(list(COLOURS.values()), dtype=np.float32)

_SHAKE_MARGIN = 6  # pixels of background rendered beyond each edge, for the camera to shake into
_MARK_DISTANCE, _MARK_RADIUS = 0.36, 0.26  # of the off-centre mark, relative to the shape's radius
_OUTLINE = 1.6  # thickness in pixels of the dark line along the edge, inside the shape
INK = np.array((22, 22, 28), dtype=np.float32)  # colour of the mark and the outline


class ClipClass(NamedTuple):
    """One class: a shape and a motion."""

    shape: str
    motion: str

    @property
    def name(self) -> str:
        """The class description, e.g. "a square moving left"."""
        return f"a {self.shape} {self.motion}"

    @property
    def folder(self) -> str:
        """The description without blanks, for paths."""
        return f"{self.shape}_{self.motion}".replace(" ", "_")


HELD_OUT_CLASSES = tuple(ClipClass(shape, motion) for shape, motion in zip(_HELD_OUT_SHAPE, MOTIONS))
SEEN_CLASSES = tuple(c for c in (ClipClass(s, m) for s in SHAPES for m in MOTIONS) if c not in HELD_OUT_CLASSES)


@dataclass(frozen=True)
class Track:
    """Where the shape is and how it looks in each frame, before the camera shakes: arrays of (T,) float32.

    `x`, `y` and `radius` are in pixels, relative to the centre of the picture; `angle` in radians; `opacity` in 0..1.
    """

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    opacity: np.ndarray


# ---------------------------------------------------------------------------------------------- shapes


def _folded(x: np.ndarray, y: np.ndarray, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Fold the plane onto half of one of `sectors` equal sectors, whose middle ray is (0, -1), "up"."""
    sector = 2 * np.pi / sectors
    angle = np.arctan2(x, -y)
    angle = np.abs(angle - sector * np.round(angle / sector))
    length = np.hypot(x, y)
    return length * np.cos(angle), length * np.sin(angle)


def shape_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the outline of a shape of radius 1 about the origin (negative inside); a lower bound outside.

    All five shapes cover an area of the same order (1.6 to 2.6), so that size does not reveal the shape.
    """
    if shape == "circle":
        return np.hypot(x, y) - 0.9
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.76
    if shape == "triangle":
        along, _ = _folded(x, -y, 3)  # the middle ray of a sector meets the middle of an edge
        return along - 0.56
    if shape == "star":
        along, across = _folded(x, y, 5)
        tip, inner = 1.12, 0.52  # radii of the outer and the inner corners, 36 degrees apart
        edge = np.array([inner * np.cos(np.pi / 5) - tip, inner * np.sin(np.pi / 5)])
        edge /= np.hypot(*edge)
        return ((along - tip) * edge[1] - across * edge[0]).astype(np.float32)
    if shape == "cross":
        long, thick = 1.0, 0.36
        ax, ay = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(ax - long, ay - thick), np.maximum(ay - long, ax - thick))
    raise AssertionError(shape)


def coverage(shape: str, track: Track, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each pixel covered by the shape, and by its ink (outline and mark): float32 (T, H, W) in 0..1."""
    x = np.arange(width, dtype=np.float32)[None, None] - np.float32((width - 1) / 2) - track.x[:, None, None]
    y = np.arange(height, dtype=np.float32)[None, :, None] - np.float32((height - 1) / 2) - track.y[:, None, None]
    cos, sin = np.cos(track.angle)[:, None, None], np.sin(track.angle)[:, None, None]
    radius = track.radius[:, None, None]
    local_x, local_y = (x * cos + y * sin) / radius, (y * cos - x * sin) / radius
    distance = shape_distance(shape, local_x, local_y) * radius
    body, inside = np.clip(0.5 - distance, 0, 1), np.clip(0.5 - distance - _OUTLINE, 0, 1)
    mark = np.clip(0.5 - (np.hypot(local_x, local_y + _MARK_DISTANCE) - _MARK_RADIUS) * radius, 0, 1)
    return body, np.maximum(body - inside, np.minimum(mark, body))


# ---------------------------------------------------------------------------------------------- motions


def _progress(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """A rise from 0 to 1 in T frames with a random, mostly constant speed; its reverse is equally likely."""
    even = np.linspace(0, 1, num_frames, dtype=np.float32)
    bend = rng.uniform(-0.35, 0.35)
    return even + np.float32(bend) * even * (1 - even)


def _wobble(rng: np.random.Generator, num_frames: int, size: float) -> np.ndarray:
    """A slow random oscillation of at most `size`, (T,) float32."""
    turns, phase = rng.uniform(0.3, 1.5), rng.uniform(0, 2 * np.pi)
    wave = np.sin(np.linspace(0, 2 * np.pi * turns, num_frames) + phase)
    return (rng.uniform(0, size) * wave).astype(np.float32)


def make_track(motion: str, num_frames: int, rng: np.random.Generator) -> Track:
    """A random track of one of `MOTIONS`; the whole shape stays inside the central 64 x 64 (up to a pixel or two)."""
    full = np.ones(num_frames, dtype=np.float32)
    opacity = full * np.float32(rng.uniform(0.85, 1))
    angle = full * np.float32(rng.uniform(-0.4, 0.4)) + _wobble(rng, num_frames, 0.2)
    radius = full * np.float32(rng.uniform(10, 14)) * (1 + _wobble(rng, num_frames, 0.06))
    if motion in ("growing", "shrinking"):
        small, ratio = rng.uniform(6.5, 8.5), rng.uniform(1.9, 2.3)
        size = _progress(rng, num_frames)
        size = size if motion == "growing" else size[::-1]
        radius = np.float32(small) * np.float32(ratio) ** size
    elif motion == "spinning":
        turns = rng.uniform(0.7, 1.8) * rng.choice([-1, 1])
        start = rng.uniform(0, 2 * np.pi)
        angle = angle + np.float32(start) + np.float32(2 * np.pi * turns) * _progress(rng, num_frames)
    elif motion == "flashing":
        periods, phase = rng.uniform(1.4, 3.2), rng.uniform(0, 2 * np.pi)
        wave = np.sin(np.linspace(0, 2 * np.pi * periods, num_frames) + phase)
        opacity = opacity * (0.54 + 0.46 * np.clip(2.5 * wave, -1, 1)).astype(np.float32)

    margin = 29 - float(radius.max())  # the centre may be this far from the middle of the picture
    place = rng.uniform(-margin, margin, 2)
    x = np.float32(place[0]) + _wobble(rng, num_frames, 1.5)
    y = np.float32(place[1]) + _wobble(rng, num_frames, 1.5)
    if motion.startswith("moving"):
        length = rng.uniform(0.55, 1) * 2 * margin
        path = np.float32(rng.uniform(-margin, margin - length)) + np.float32(length) * _progress(rng, num_frames)
        path = path if motion in ("moving right", "moving down") else path[::-1]
        x, y = (path, y) if motion in ("moving left", "moving right") else (x, path)
    return Track(x, y, radius.astype(np.float32), angle.astype(np.float32), opacity)


# ---------------------------------------------------------------------------------------------- scenery


def _upsample(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation of (h, w, C) to (height, width, C), corners on corners."""

    def matrix(size: int, knots: int) -> np.ndarray:
        position = np.linspace(0, knots - 1, size, dtype=np.float32)[:, None]
        return np.maximum(0, 1 - np.abs(position - np.arange(knots, dtype=np.float32)))

    rows = np.tensordot(matrix(height, grid.shape[0]), grid, axes=1)
    return np.einsum("wk,hkc->hwc", matrix(width, grid.shape[1]), rows, optimize=True)


def _background(rng: np.random.Generator, avoid: np.ndarray, height: int, width: int) -> np.ndarray:
    """A texture of noise in three octaves and stripes, float32 (H, W, 3) in 0..255, unlike the colour `avoid` (3,)."""
    while True:
        base = rng.uniform(60, 225, 3)
        base = base.mean() + 0.6 * (base - base.mean())  # rather grey
        if np.abs(base - avoid).max() > 90:
            break
    picture = np.broadcast_to(base.astype(np.float32), (height, width, 3)).copy()
    for knots, size in ((3, 18), (8, 11), (24, 7)):
        grey = rng.standard_normal((knots, knots, 1)) + 0.4 * rng.standard_normal((knots, knots, 3))
        picture += _upsample((rng.uniform(0.3, 1) * size * grey).astype(np.float32), height, width)
    direction, wavelength = rng.uniform(0, np.pi), rng.uniform(5, 20)
    along = np.arange(width) * np.cos(direction) + np.arange(height)[:, None] * np.sin(direction)
    stripes = np.sin(along * (2 * np.pi / wavelength) + rng.uniform(0, 2 * np.pi))
    picture += (rng.uniform(0, 9) * stripes).astype(np.float32)[..., None]
    return picture


def _blobs(rng: np.random.Generator, num_frames: int, height: int, width: int):
    """Two to five soft distractors that drift a little: yields (coverage (T, H, W), colour (3,))."""
    time = np.linspace(-0.5, 0.5, num_frames, dtype=np.float32)[:, None]
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    for _ in range(rng.integers(2, 6)):
        place = rng.uniform((0, 0), (width, height))
        drift = rng.uniform(-7, 7, 2)
        spread = rng.uniform(1.8, 4, 2)
        across = np.exp(-0.5 * ((columns - np.float32(place[0]) - time * np.float32(drift[0])) / spread[0]) ** 2)
        down = np.exp(-0.5 * ((rows - np.float32(place[1]) - time * np.float32(drift[1])) / spread[1]) ** 2)
        strength = np.float32(rng.uniform(0.5, 0.9))
        colour = rng.uniform(20, 235, 3).astype(np.float32)
        yield strength * down.astype(np.float32)[:, :, None] * across.astype(np.float32)[:, None, :], colour


def camera_shake(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Offsets of the picture in pixels, (T, 2) float32, x then y: a slow sway and a jitter, within the margin."""
    size = rng.uniform(0, 1)
    sway = np.stack([_wobble(rng, num_frames, 2.5) for _ in range(2)], axis=1)
    jitter = rng.standard_normal((num_frames, 2)) * 0.5
    return np.clip(size * (sway + jitter), 1 - _SHAKE_MARGIN, _SHAKE_MARGIN - 1).astype(np.float32)


def shaken(track: Track, shake: np.ndarray) -> Track:
    """The track as a camera with offsets (T, 2) sees it."""
    return replace(track, x=track.x + shake[:, 0], y=track.y + shake[:, 1])


def _shifted(picture: np.ndarray, shake: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture with its margin, moved by each of the offsets (T, 2), bilinear: (T, H, W, 3) float32."""
    frames = np.empty((len(shake), height, width, 3), dtype=np.float32)
    for frame, (dx, dy) in zip(frames, _SHAKE_MARGIN - shake):
        left, top = int(dx), int(dy)
        fx, fy = np.float32(dx - left), np.float32(dy - top)
        rows = picture[top : top + height + 1, left : left + width + 1]
        rows = rows[:-1] * (1 - fy) + rows[1:] * fy
        np.add(rows[:, :-1] * (1 - fx), rows[:, 1:] * fx, out=frame)
    return frames


def _blend(frames: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Paint `colour` (3,) over `frames` (T, H, W, 3) in place, with opacity `cover` (T, H, W)."""
    frames += cover[..., None] * (colour - frames)


def paint_colour(rng: np.random.Generator, colour: int) -> np.ndarray:
    """The colour of a shape, (3,) float32: one of COLOURS by number, varied."""
    return np.clip(_COLOUR_VALUES[colour] + rng.uniform(-18, 18, 3).astype(np.float32), 0, 255)


def finish(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, sensor noise, and rounding to uint8."""
    frames *= np.float32(rng.uniform(0.85, 1.1))
    frames += rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(rng.uniform(2, 7))
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def background_with_blobs(rng: np.random.Generator, avoid: np.ndarray, height: int, width: int) -> np.ndarray:
    """The scenery of one still picture, float32 (H, W, 3) in 0..255, unlike the colour `avoid` (3,)."""
    scene = _background(rng, avoid, height, width)
    for cover, colour in _blobs(rng, 1, height, width):
        _blend(scene[None], cover, colour)
    return scene


# ---------------------------------------------------------------------------------------------- clips


def render_track(shape: str, track: Track, rng: np.random.Generator, colour: int | None = None) -> np.ndarray:
    """Render a shape along a track: uint8 (T, 64, 80, 3), with random scenery, camera shake and noise. `colour`: number
    in COLOURS; None: random."""
    num_frames = len(track.x)
    body_colour = paint_colour(rng, int(rng.integers(len(COLOURS))) if colour is None else colour)
    shake = camera_shake(rng, num_frames)
    scene = _background(rng, body_colour, HEIGHT + 2 * _SHAKE_MARGIN, WIDTH + 2 * _SHAKE_MARGIN)
    frames = _shifted(scene, shake, HEIGHT, WIDTH)
    for cover, blob_colour in _blobs(rng, num_frames, HEIGHT, WIDTH):
        _blend(frames, cover, blob_colour)
    body, ink = coverage(shape, shaken(track, shake), HEIGHT, WIDTH)
    opacity = track.opacity[:, None, None]
    _blend(frames, body * opacity, body_colour)
    _blend(frames, ink * opacity, INK)
    return finish(frames, rng)


def random_track(motion: str, rng: np.random.Generator) -> Track:
    """A random track of T frames, T in 25..60."""
    return make_track(motion, int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1)), rng)


def render_clip(clip_class: ClipClass, rng: np.random.Generator) -> np.ndarray:
    """One random clip of a class: uint8 (T, 64, 80, 3), T in 25..60."""
    return render_track(clip_class.shape, random_track(clip_class.motion, rng), rng)
