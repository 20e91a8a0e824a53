"""The commands that `failing_calls` tests: those that write files, on a small data set."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from datasets.frame_cache import _read
from modules.embed import load_table
from tests.commands.world import World, call
from tests.tools.loading import run_tool
from tools import check_data, extract_features, extract_frames, make_lists, pack_videos
from utils.checkpoint import load_checkpoint
from utils.hashing import content_hash, file_hash


class Activity(NamedTuple):
    """`run` writes below a folder and returns an exit code; `files` maps each file there to a hash of its content.

    `is_final`: a file that is there is as it will be; checkpoints change on the way, and need only be whole.
    """

    run: Callable[[Path], int]
    files: Callable[[Path], dict[str, str]]
    is_final: bool = True


def activities(world: World, weights: Path) -> dict[str, Activity]:
    """All activities. The one that trains must run first: `weights` is its checkpoint."""
    few, one_worker = f"{world.root}/few", ("--workers", "1")
    model = ("--config", world.config, "--weights", weights)
    cached = ("network.fix_video=true", "data.cached_draws=1")
    remote = (f"data.val_root=file://{world.root}/shards", f"data.val_list={world.root}/val_packed.txt")
    remote = ("data.modality=video", *remote, "data.cache_gb=1")

    def train(out: Path, *overrides: str) -> int:
        return call("train", "--config", world.config, f"logging.run_dir={out}/run", "resume=auto", *overrides)

    def check(out: Path) -> int:
        return run_tool(check_data, "--config", world.config, "--out", f"{out}/check", *one_worker)

    def features(out: Path) -> int:
        return run_tool(extract_features, few, f"{out}/features", "--window", "0.2", *model, *one_worker)

    return {
        "train": Activity(lambda out: train(out, "solver.save_every=3"), checkpoints, is_final=False),
        "cache": Activity(lambda out: train(out, *cached, f"logging.cache_dir={out}/cache"), frame_cache),
        "test": Activity(lambda out: call("test", *model, "--out", out / "test"), tables),
        "clips": Activity(
            lambda out: call("test", *model, *remote, f"data.cache_dir={out}/clips", "--out", out / "test"),
            lambda out: tables(out) | files_of("clips/??/*")(out),
        ),
        "predict": Activity(
            lambda out: call("predict", few, *model, "--csv", out / "found.csv", "--json", out / "found.json"),
            files_of("found.*"),
        ),
        "features": Activity(features, files_of("features/*.npy", "features/*.json")),
        "check": Activity(check, files_of("check/*")),
        "lists": Activity(
            lambda out: run_tool(make_lists, "folders", "--root", f"{world.root}/classes", "--out", f"{out}/lists"),
            files_of("lists/*"),
        ),
        "frames": Activity(lambda out: run_tool(extract_frames, few, f"{out}/frames", *one_worker), frame_folders),
        "pack": Activity(
            lambda out: run_tool(pack_videos, few, f"{out}/packed", *one_worker), files_of("packed/*.mkv")
        ),
        "tars": Activity(
            lambda out: run_tool(pack_videos, few, f"{out}/tars", *one_worker, "--shards", "2"),
            files_of("tars/*.tar", "tars/shards.csv"),
        ),
    }


def checkpoints(out: Path) -> dict[str, str]:
    found = {}
    for path in out.glob("run/*_model.pt"):
        state = load_checkpoint(path)
        found[path.name] = content_hash([state["model_state_dict"], state["progress"], state["epoch"]])
    return found


def frame_cache(out: Path) -> dict[str, str]:
    parts = [path for path in out.glob("cache/frames-*/*.npy") if path.with_suffix(".npz").exists()]
    return {str(path.relative_to(out)): content_hash([_read(path, check=True).rows.tobytes()]) for path in parts}


def tables(out: Path) -> dict[str, str]:
    found = {path.name: load_table(path) for path in out.glob("test/*.npz")}
    return {name: content_hash([list(content[0].paths), content[0].embeddings]) for name, content in found.items()}


def frame_folders(out: Path) -> dict[str, str]:
    folders = [path for path in out.glob("frames/*") if path.is_dir() and not path.name.startswith(".")]
    return {path.name: content_hash([file_hash(frame) for frame in sorted(path.iterdir())]) for path in folders}


def files_of(*patterns: str) -> Callable[[Path], dict[str, str]]:
    def paths(out: Path) -> Iterator[Path]:
        for pattern in patterns:
            yield from out.glob(pattern)

    return lambda out: {path.name: file_hash(path) for path in paths(out) if not path.name.startswith(".")}


def make_inputs(world: World) -> None:
    """Frame folders by class, a few videos, and the videos in tar files."""
    root = world.root
    (root / "few").mkdir()
    for path in sorted((root / "videos").iterdir())[:3]:
        (root / "few" / path.name).symlink_to(path)
    for path in (root / "frames").iterdir():
        folder = root / "classes" / path.name.split("_")[1]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    (root / "val_packed.txt").write_text((root / "val_videos.txt").read_text().replace(".mp4", ".mkv"))
    assert run_tool(pack_videos, f"{root}/videos", f"{root}/shards", "--workers", "1", "--shards", "2") == 0
