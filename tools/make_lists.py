"""Creates annotation lists and the label CSV of a data set from its official files and the files on disk.

Clips in the official files that are missing from --root (or unreadable) are left out of the lists, counted, and written
to *_missing.csv. At the end, the keys for the config are printed. docs/data.md covers each data set.

Examples:
    python -m tools.make_lists folders --root my_frames --out my_lists
    python -m tools.make_lists ucf101 --splits ucfTrainTestlist --root UCF101_frames --out exp/lists
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.folder_lock import folder_lock
from inference.video_inputs import SYSTEM_FOLDERS, natural_key
from tools import list_sources, list_writing, untrimmed
from tools.annotation_folders import ANNOTATED, mirrored_pairs
from tools.list_sources import Sample
from tools.list_writing import Disk, Labels, choose_labels, compare_names, read_label_csv
from tools.media_files import check_template
from utils.cli import Parser, run_command
from utils.errors import UserError
from utils.files import check_writable
from utils.odd_names import is_utf8

PARTS = ("train", "val")
VAL_SHARE = 0.2  # of the clips of a folder without split folders
UNTRIMMED = ("activitynet", "hacs")
# Names of split folders, in lower case.
SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
Parts = Mapping[str, Sequence[Sample]]  # by "train" and "val", if they exist
Lists = tuple[dict[str, Sequence[Sample]], dict[str, str]]
"""Samples by the name of their list without `.txt`, and the names in the printed config by part."""


def disk_of(args: argparse.Namespace) -> Disk:
    """The files below `--root`."""
    return Disk(args.root, args.kind, args.template)


def write_all(
    args: argparse.Namespace, dataset: str, disk: Disk, labels: Labels, lists: Lists, keys: dict[str, Any] | None = None
) -> None:
    """Write the label CSV and the lists, and print the keys for the config, including further `keys` of `data`."""
    list_writing.write_labels(args.out, labels)
    samples_by_list, names = lists
    for name, samples in samples_by_list.items():
        entries, missing, num_other = list_writing.locate(samples, disk, labels)
        list_writing.write_list(args.out, name, entries, missing, labels)
        if num_other:
            print(f"  left out: {num_other} clips of classes that are not in {labels.origin}")
    in_config = {part: (args.root, names[part]) for part in PARTS if part in names}  # a config has no test list
    list_writing.print_config(dataset, disk, labels, args.out, in_config, keys or {})


def plain_names(parts: Parts, name: str = "{part}") -> Lists:
    """Lists with the names of their parts."""
    names = {part: name.replace("{part}", part) for part in parts}
    return {names[part]: samples for part, samples in parts.items()}, names


def split_names(splits: Sequence[Parts], kind: str, dataset: str) -> Lists:
    """The published names of the lists of the splits, and of the list of all clips for zero-shot tests."""
    of_kind = "rgb" if kind == "frames" else "video"
    names = [{part: f"{part}_{of_kind}_split_{number}" for part in PARTS} for number in range(1, len(splits) + 1)]
    samples = {named[part]: parts[part] for named, parts in zip(names, splits) for part in PARTS}
    clips = dict.fromkeys(sample for parts in splits for samples in parts.values() for sample in samples)
    return {**samples, f"{dataset}_full_for_zeroshot": list(clips)}, names[0]


def official_labels(source_names: Sequence[str], label_csv: Path | None, shipped: str) -> Labels:
    """--labels if given, otherwise the shipped list. Differences are printed, and are an error without --labels."""
    labels = read_label_csv(label_csv or list_writing.LISTS_FOLDER / shipped)
    differences = compare_names(source_names, labels)
    for line in differences:
        print(f"names: {line}")
    if label_csv is None and any(name not in labels for name in source_names):
        raise UserError(f"{differences[0]}; the names printed above must agree")
    return labels


def samples_in_folders(disk: Disk, below: str = "") -> list[Sample]:
    """All clips below the folder `below`; the first folder is the class. Raises a UserError if a clip is in no class
    folder, also beside `below`, or a class cannot be written to a CSV."""
    prefix = f"{below}/" if below else ""
    samples = []
    for name in [*disk.by_name, *disk.faulty]:
        if name.startswith(prefix) or "/" not in name:
            class_name, slash, _ = name.removeprefix(prefix).partition("/")
            if not slash:
                path = Path(disk.by_name[name].path if name in disk.by_name else name)
                raise UserError(f"{disk.root / path}: is not in a class folder; expected {prefix}CLASS/{path.name}")
            if not is_utf8(class_name):
                raise UserError(f"{disk.root / prefix / class_name}: the name is not UTF-8; rename the class folder")
            samples.append(Sample((name,), (class_name,)))
    return samples


def split_by_seed(samples: Sequence[Sample], val_share: float, seed: int) -> dict[str, Sequence[Sample]]:
    """Split each class: shuffled by (seed, class), the first `val_share` for validation, at least one clip per part.
    With 1 all are for validation."""
    if val_share == 1:
        return {"val": sorted(samples, key=lambda sample: sample.candidates)}
    by_class: dict[str, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.class_name, []).append(sample)
    parts: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for class_name, members in by_class.items():
        random.Random(f"{seed} {class_name}").shuffle(members)
        num_val = min(max(round(val_share * len(members)), 1), len(members) - 1)
        parts["val"] += members[:num_val]
        parts["train"] += members[num_val:]
    return {part: sorted(members, key=lambda sample: sample.candidates) for part, members in parts.items()}


def make_folders(args: argparse.Namespace) -> None:
    """Write the lists of a folder of class folders, or of split folders."""
    val_share = VAL_SHARE if args.val_share is None else args.val_share
    if not 0 < val_share <= 1:
        raise UserError(f"--val_share {val_share:g}: must be above 0 and at most 1 (all clips, for a test)")
    disk = disk_of(args)
    folders = split_folders(args.root)
    if len(folders) > 1:
        if args.val_share is not None:
            raise UserError(
                f"--val_share {val_share:g}: {args.root} is already split into {' and '.join(folders.values())}; "
                "remove the option, or give one of them as --root"
            )
        parts = {part: samples_in_folders(disk, folder) for part, folder in folders.items()}
        print(f"the splits are the folders in {args.root}: {', '.join(folders.values())}")
        if "val" not in parts:
            parts["val"] = parts.pop("test")
            print(f"{folders['test']} is used for validation")
    else:
        only_split = folders.get("train", "")
        parts = split_by_seed(samples_in_folders(disk, only_split), val_share, args.seed)
        of_split = f" in {args.root / only_split}, the only split folder," if only_split else ""
        if val_share == 1:
            print(f"all clips{of_split} are used for validation")
        else:
            print(f"random split of each class{of_split} with --seed {args.seed} and --val_share {val_share:g}")
    if empty := [part for part, samples in parts.items() if not samples]:
        raise UserError(
            f"{args.root}: no clip for {empty[0]}.txt; each split folder needs one, and a class two for a random split"
        )
    class_names = sorted({sample.class_name for samples in parts.values() for sample in samples}, key=natural_key)
    labels = choose_labels(class_names, args.labels)
    if all(name.strip().isdecimal() for name in labels.names):
        print(
            "WARNING: the class names are numbers, which are meaningless to a text encoder; rename the folders, or "
            "write descriptions into labels.csv"
        )
    write_all(args, args.root.resolve().name, disk, labels, plain_names(parts))


def split_folders(root: Path) -> dict[str, str]:
    """train, val, test -> name of the folder with this split; {} if `root` contains class folders. Raises a UserError
    if two folders for one split, or both class folders and split folders."""
    folders = [path.name for path in root.iterdir() if path.is_dir()]
    names = sorted(name for name in folders if not name.startswith(".") and name not in SYSTEM_FOLDERS)
    by_part: dict[str, str] = {}
    others = []
    for name in names:
        part = SPLIT_FOLDERS.get(name.lower())
        if part is None:
            others.append(name)
        elif part in by_part:
            raise UserError(f"{root}: {by_part[part]} and {name} are both folders of the {part} split; remove one")
        else:
            by_part[part] = name
    if others and "train" in by_part and len(by_part) > 1:
        raise UserError(
            f"{root}: contains {' and '.join(by_part.values())} and other folders, such as {others[0]}; expected "
            "either class folders or split folders"
        )
    if others:  # classes, one of which may be named "train"
        return {}
    if by_part and "train" not in by_part:
        raise UserError(
            f"{root}: contains only {' and '.join(by_part.values())}; add the folder train, or give one of them as "
            "--root for a random split"
        )
    return by_part


def make_ucf101(args: argparse.Namespace) -> None:
    """Write the lists of UCF101's three splits."""
    labels = official_labels(list_sources.read_ucf101_classes(args.splits), args.labels, "ucf_labels.csv")
    splits = [list_sources.read_ucf101_split(args.splits, split) for split in (1, 2, 3)]
    write_all(args, "ucf101", disk_of(args), labels, split_names(splits, args.kind, "ucf"))


def make_hmdb51(args: argparse.Namespace) -> None:
    """Write the lists of HMDB51's three splits."""
    labels = official_labels(list_sources.read_hmdb51_classes(args.splits), args.labels, "hmdb51_labels.csv")
    splits = [list_sources.read_hmdb51_split(args.splits, split) for split in (1, 2, 3)]
    write_all(args, "hmdb51", disk_of(args), labels, split_names(splits, args.kind, "hmdb"))


def make_kinetics(args: argparse.Namespace) -> None:
    """Write the lists of Kinetics, or of some of its classes."""
    paths = {"train": args.train_csv, "val": args.val_csv}
    parts = {part: list_sources.read_kinetics(path) for part, path in paths.items() if path is not None}
    if not parts:
        raise UserError("give --train_csv, --val_csv or both")
    if len(parts) == 2 and "{part}" not in args.name:
        raise UserError(f"--name {args.name}: two lists would have this name; include {{part}}")
    class_names = sorted({sample.class_name for samples in parts.values() for sample in samples})
    labels = choose_labels(class_names, args.labels)
    if args.labels is not None:
        # --labels may be a subset of the classes in the CSV, so only its own missing classes are reported.
        for line in compare_names([name for name in class_names if name in labels], labels):
            print(f"names: {line}")
    write_all(args, "kinetics", disk_of(args), labels, plain_names(parts, args.name))


def make_annotated(args: argparse.Namespace) -> None:
    """Write the lists of a data set of `tools.annotation_folders`."""
    data_set = ANNOTATED[args.name]
    class_names, parts = data_set.read(args.annotations)
    labels = Labels(class_names, data_set.files.split(",")[0])
    names_in_samples = {name for samples in parts.values() for sample in samples for name in sample.class_names}
    for line in compare_names(names_in_samples, labels):
        print(f"names: {line}")
    keys = dict(data_set.keys)
    if pairs := mirrored_pairs(class_names):
        keys["flip_pairs"] = pairs
    write_all(args, data_set.dataset, disk_of(args), labels, plain_names(parts), keys)


def make_activitynet(args: argparse.Namespace) -> None:
    """Write the lists of ActivityNet 1.3."""
    check_segment_options(args)
    videos = untrimmed.read_activitynet(args.json)
    labels = official_labels(untrimmed.class_names(videos), None, "anet1.3_labels.csv")
    names = {"train": "anet_train_instance_fps1", "val": "anet_val_video_fps1", "full": "anet_full_for_zeroshot"}
    make_untrimmed(args, "anet", videos, labels, names)


def make_hacs(args: argparse.Namespace) -> None:
    """Write the lists of HACS Segments or HACS Clips."""
    check_segment_options(args)
    is_segments = args.annotations.suffix.lower() == ".json"
    read = untrimmed.read_activitynet if is_segments else untrimmed.read_hacs_clips
    videos = read(args.annotations)
    labels = choose_labels(untrimmed.class_names(videos), None)
    make_untrimmed(args, "hacs", videos, labels, {part: part for part in PARTS}, cuts_val=not is_segments)


def check_segment_options(args: argparse.Namespace) -> None:
    """Raise a UserError for invalid `--fps` or `--instances`."""
    if not 0 < args.fps < math.inf:
        raise UserError(f"--fps {args.fps:g}: must be finite and above 0")
    if args.instances is None:
        return
    if args.kind == "video":
        raise UserError("--instances: needs frame folders; remove it, or use --kind frames")
    if args.instances.resolve() == args.root.resolve():
        raise UserError(f"{args.instances}: --instances must be another folder than --root")
    check_writable(args.instances, "--instances", is_folder=True)


def make_untrimmed(
    args: argparse.Namespace,
    dataset: str,
    videos: untrimmed.Untrimmed,
    labels: Labels,
    names: Mapping[str, str],
    cuts_val: bool = False,
) -> None:
    """Write the lists of training segments, of validation segments or whole videos, and of all whole videos. `names`:
    names of the lists by "train", "val" and, if it exists, "full"."""
    disk = disk_of(args)
    list_writing.write_labels(args.out, labels)
    roots: dict[str, Path] = dict.fromkeys(PARTS, args.root)
    cut_parts = PARTS if cuts_val else PARTS[:1]
    of_parts = {"train": videos["training"], "val": videos["validation"]}
    of_parts["full"] = [*of_parts["train"], *of_parts["val"]]
    for part, name in names.items():
        if args.instances is None:
            entries, missing = untrimmed.timed(of_parts[part], disk, labels, part in cut_parts)
        elif part in cut_parts:
            with folder_lock(args.instances, "--instances"):
                entries, missing = untrimmed.cut_instances(of_parts[part], disk, labels, args.instances, args.fps)
            roots[part] = args.instances
        else:
            entries, missing, _ = list_writing.locate(untrimmed.whole(of_parts[part]), disk, labels)
        list_writing.write_list(args.out, name, entries, missing, labels)
    if not cuts_val:
        num_several = sum(len({part.class_name for part in video.segments}) > 1 for video in videos["validation"])
        print(f"  {num_several} videos have several classes: the one with the most annotated seconds counts")
    keys: dict[str, Any] = {} if args.instances else {"list_times": True}
    if keys and args.kind == "frames":
        keys["frame_rate"] = args.fps
    in_config = {part: (roots[part], names[part]) for part in PARTS}
    list_writing.print_config(dataset, disk, labels, args.out, in_config, keys)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="DATASET")

    def add(name: str, make: Callable[[argparse.Namespace], None], help: str) -> Parser:
        command = subparsers.add_parser(name, help=help, description=help)
        command.set_defaults(make=make)
        command.add_argument("--root", type=Path, required=True, help="folder of the frame folders or videos")
        command.add_argument("--out", type=Path, required=True, help="folder for the lists and labels.csv")
        command.add_argument("--template", default="img_{:05d}.jpg", help="frames' file name (default: img_{:05d}.jpg)")
        command.add_argument("--kind", choices=("frames", "video"), default="frames", help="(default: frames)")
        if name not in (*UNTRIMMED, *ANNOTATED):
            command.add_argument(
                "--labels", type=Path, help="CSV id,name with the classes and their order, instead of the default"
            )
        return command

    command = add("folders", make_folders, "class folders, or train and val folders with class folders")
    command.add_argument("--val_share", type=float, help=f"share of validation clips (default: {VAL_SHARE}; 1: all)")
    command.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    command = add("ucf101", make_ucf101, "UCF101, three splits")
    command.add_argument("--splits", type=Path, required=True, help="ucfTrainTestlist: classInd.txt, trainlist01.txt")
    command = add("hmdb51", make_hmdb51, "HMDB51, three splits")
    command.add_argument("--splits", type=Path, required=True, help="testTrainMulti_7030_splits")
    command = add("kinetics", make_kinetics, "Kinetics-400, -600 or -700, or only the classes of --labels")
    command.add_argument("--train_csv", type=Path, help="official CSV or JSON of the training clips")
    command.add_argument("--val_csv", type=Path, help="official CSV or JSON of the validation (or test) clips")
    command.add_argument(
        "--name", default="{part}", help="file name of the lists; {part} becomes train or val (default: {part})"
    )
    command = add("activitynet", make_activitynet, "ActivityNet 1.3: training segments, validation videos")
    command.add_argument("--json", type=Path, required=True, help="activity_net.v1-3.min.json")
    add_segment_options(command)
    command = add("hacs", make_hacs, "HACS Segments (like activitynet) or HACS Clips")
    command.add_argument(
        "--annotations", type=Path, required=True, help="HACS_segments_v1.1.1.json, or HACS_clips_v1.1.1.csv"
    )
    add_segment_options(command)
    for name, data_set in ANNOTATED.items():
        command = add(name, make_annotated, data_set.described)
        command.set_defaults(name=name)
        command.add_argument("--annotations", type=Path, required=True, help=f"folder of {data_set.files}")
    return parser.parse_args(arguments)


def add_segment_options(command: Parser) -> None:
    """Add `--instances` and `--fps`."""
    command.add_argument(
        "--instances",
        type=Path,
        help="output folder for links to the frames of segments (default: lists with start and end times, "
        "data.list_times)",
    )
    command.add_argument("--fps", type=float, default=1.0, help="frame rate of the extracted frames (default: 1)")


def main(args: argparse.Namespace) -> None:
    check_template(args.template, ".jpg", ".jpeg", ".png")
    check_writable(args.out, "--out", is_folder=True)
    args.make(args)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
