"""tools/make_lists.py on data sets whose official files are in one folder: small examples in their published format."""

import csv
import json

import pytest

from datasets.build import read_entries
from datasets.lists import read_labels
from tests.tools.list_inputs import add_frames, add_video, lines, missing, printed_yaml, run
from tools.annotation_folders import ANNOTATED, mirrored_pairs
from utils.schema import Config

# Each function writes a data set of two or three classes to a folder, in its published format.


def write_ssv2(folder):
    labels = {"Pushing something from left to right": "1", "Holding something next to something": "0"}
    labels["Pushing something from right to left"] = "2"
    train = {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    }
    val = {"id": "5", "label": "pushing a cup", "template": "Pushing [something] from left to right"}
    for name, content in (("labels", labels), ("train", [train]), ("validation", [val])):
        (folder / f"{name}.json").write_text(json.dumps(content))


def write_diving48(folder):
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Forward", "1som", "NoTwis", "PIKE"]]
    vocabulary += [["Inward", "Dive", "NoTwis", "STR"]]
    (folder / "Diving48_vocab.json").write_text(json.dumps(vocabulary))
    for name, video, label in (("train", "_8Vy3dlHg2w_00000", 2), ("test", "-mONT7jPEBE_00099", 0)):
        entry = {"vid_name": video, "label": label, "start_frame": 0, "end_frame": 124}
        (folder / f"Diving48_V2_{name}.json").write_text(json.dumps([entry]))


def write_jester(folder):
    (folder / "jester-v1-labels.csv").write_text("Swiping Left\nNo gesture\nSwiping Right\n")
    (folder / "jester-v1-train.csv").write_text("34870;No gesture\n56557;Swiping Right\n")
    (folder / "jester-v1-validation.csv").write_text("9223;Swiping Left\n")


def write_moments(folder):
    (folder / "moments_categories.txt").write_text("adult+male+singing,1\napplauding,0\n")
    (folder / "trainingSet.csv").write_text(
        'applauding/yt-a_1.mp4,applauding,3,0\n"applauding/b,c.mp4",applauding,2,1\n'
    )
    (folder / "validationSet.csv").write_text("adult+male+singing/vine-1.mp4,adult+male+singing,4,0\n")


CHARADES_COLUMNS = ("id", "subject", "scene", "quality", "relevance", "verified", "script", "objects", "descriptions",
                    "actions", "length")  # fmt: skip


def write_charades(folder):
    (folder / "Charades_v1_classes.txt").write_text("c000 Holding some clothes\nc001 Closing a door\nc002 Smiling\n")
    for name, rows in (
        ("train", {"46GP8": "c002 11.90 21.20;c000 0.00 12.60;c002 1.00 2.00", "N11GT": ""}),
        ("test", {"YSKX3": "c001 3.30 9.20"}),
    ):
        with (folder / f"Charades_v1_{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, CHARADES_COLUMNS, restval="x")
            writer.writeheader()
            writer.writerows(
                {"id": id, "script": 'A "script",\nof two lines', "actions": actions} for id, actions in rows.items()
            )


# Of each data set: the function that writes it, the videos on disk, and the expected lists, classes and keys.
EXPECTED = {
    "ssv2": (
        write_ssv2,
        ["78687.webm", "5.webm"],
        (["78687.webm 0"], ["5.webm 1"]),
        [
            "Holding something next to something",
            "Pushing something from left to right",
            "Pushing something from right to left",
        ],
        {"dataset": "something-something-v2", "scale": [240, 320], "crop": "multi_scale", "flip_pairs": [[1, 2]]},
    ),
    "diving48": (
        write_diving48,
        ["_8Vy3dlHg2w_00000.mp4", "-mONT7jPEBE_00099.mp4"],
        (["_8Vy3dlHg2w_00000.mp4 2"], ["-mONT7jPEBE_00099.mp4 0"]),
        [
            "back takeoff, 1.5 somersaults, 0.5 twists, free position",
            "forward takeoff, 1 somersault, no twist, pike position",
            "inward takeoff, dive, no twist, straight position",
        ],
        {"dataset": "diving48"},
    ),
    "jester": (
        write_jester,
        ["34870.mp4", "56557.mp4", "9223.mp4"],
        (["34870.mp4 1", "56557.mp4 2"], ["9223.mp4 0"]),
        ["Swiping Left", "No gesture", "Swiping Right"],
        {"dataset": "jester", "flip_pairs": [[0, 2]]},
    ),
    "moments": (
        write_moments,
        ["training/applauding/yt-a_1.mp4", "training/applauding/b,c.mp4", "validation/adult+male+singing/vine-1.mp4"],
        (
            ["training/applauding/yt-a_1.mp4 0", "training/applauding/b,c.mp4 0"],
            ["validation/adult+male+singing/vine-1.mp4 1"],
        ),
        ["applauding", "adult male singing"],
        {"dataset": "moments"},
    ),
    "charades": (
        write_charades,
        ["46GP8.mp4", "N11GT.mp4", "YSKX3.mp4"],
        (["46GP8.mp4 0,2", "N11GT.mp4 -"], ["YSKX3.mp4 1"]),
        ["Holding some clothes", "Closing a door", "Smiling"],
        {"dataset": "charades", "multi_label": True},
    ),
}  # fmt: skip
FILE_KEYS = {"modality", "num_classes", "train_root", "train_list", "val_root", "val_list", "label_list"}


def make(name, folder):
    paths = ("--annotations", folder, "--root", folder / "videos", "--out", folder / "out")
    return run(name, *paths, "--kind", "video")


def test_every_data_set_is_tested():
    assert set(EXPECTED) == set(ANNOTATED)


@pytest.mark.parametrize("name", EXPECTED)
def test_lists_classes_and_keys_are_those_of_the_official_files(tmp_path, capsys, name):
    write, videos, (train, val), class_names, keys = EXPECTED[name]
    write(tmp_path)
    for video in videos:
        add_video(tmp_path / "videos", video)
    assert make(name, tmp_path) == 0
    assert (lines(tmp_path / "out/train.txt"), lines(tmp_path / "out/val.txt")) == (train, val)
    assert read_labels(tmp_path / "out/labels.csv") == class_names
    printed = printed_yaml(capsys.readouterr().out)
    assert {key: value for key, value in printed.items() if key not in FILE_KEYS} == keys
    assert printed["num_classes"] == len(class_names)
    cfg = Config.model_validate({"data": printed})
    assert [entry.text for entry in read_entries(cfg, printed["train_list"])] == train


def test_frames_and_what_is_missing(tmp_path, capsys):
    write_jester(tmp_path)
    add_frames(tmp_path / "videos", "34870", num_frames=37, template="{:05d}.jpg")
    add_frames(tmp_path / "videos", "9223", num_frames=30, template="{:05d}.jpg")
    paths = ("--annotations", tmp_path, "--root", tmp_path / "videos", "--out", tmp_path / "out")
    assert run("jester", *paths, "--template", "{:05d}.jpg") == 0
    assert lines(tmp_path / "out/train.txt") == ["34870 37 1"]
    assert missing(tmp_path / "out/train_missing.csv") == {"56557": "not found"}
    assert printed_yaml(capsys.readouterr().out)["image_tmpl"] == "{:05d}.jpg"


def test_something_something_under_the_names_of_the_official_download(tmp_path):
    write_ssv2(tmp_path)
    for name in ("labels.json", "train.json", "validation.json"):
        (tmp_path / name).rename(tmp_path / f"something-something-v2-{name}")
    add_video(tmp_path / "videos", "78687.webm")
    add_video(tmp_path / "videos", "5.webm")
    assert make("ssv2", tmp_path) == 0
    assert lines(tmp_path / "out/val.txt") == ["5.webm 1"]


def test_mirrored_pairs_are_the_published_ones_of_something_something():
    """Its six class names with left or right, at their official ids."""
    names = [f"class {id}" for id in range(174)]
    for verb, first in (("Pulling", 86), ("Pushing", 93)):
        names[first] = f"{verb} something from left to right"
        names[first + 1] = f"{verb} something from right to left"
    names[166:168] = (f"Turning the camera {side} while filming something" for side in ("left", "right"))
    assert mirrored_pairs(names) == [[86, 87], [93, 94], [166, 167]]
    gestures = ["Turning Hand Counterclockwise", "Leftover", "Sliding Two Fingers Left", "Turning Hand Clockwise"]
    assert mirrored_pairs(gestures) == [[0, 3]]


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("ssv2", "labels.json", '{"a": "zero"}', "labels.json: the id of 'a' is 'zero', not an integer"),
        ("ssv2", "labels.json", '{"a": "0", "b": "0"}', "labels.json: ids are not 0 to 1"),
        ("ssv2", "validation.json", '[{"id": "5"}]', 'validation.json: entry 1 has no "template"; the test set has'),
        ("ssv2", "train.json", "[", "train.json: not valid JSON"),
        (
            "diving48",
            "Diving48_vocab.json",
            '[["Back", "15som"]]',
            "vocab.json: entry 1: ['Back', '15som'] is",
        ),
        ("diving48", "Diving48_V2_test.json", '[{"vid_name": "a"}]', 'V2_test.json: entry 1 has no "label"'),
        ("diving48", "Diving48_V2_test.json", '[{"vid_name": "a", "label": 3}]', "entry 1: label 3 is outside 0..2"),
        ("jester", "jester-v1-train.csv", "1;No gesture\n2\n", 'jester-v1-train.csv:2: "2" is not "ID;Class name"'),
        ("moments", "moments_categories.txt", "applauding\n", "moments_categories.txt:1: the id of"),
        ("moments", "trainingSet.csv", "a.mp4,b\n", 'trainingSet.csv:1: "a.mp4,b" is not "class/video.mp4,class'),
        ("moments", "trainingSet.csv", "\xff", "trainingSet.csv: is not UTF-8"),
        ("charades", "Charades_v1_train.csv", "id,actions\n\xe9,\n", "Charades_v1_train.csv: is not UTF-8"),
        ("charades", "Charades_v1_classes.txt", "Smiling\n", 'Charades_v1_classes.txt:1: "Smiling" is not "c000 Class'),
        ("charades", "Charades_v1_test.csv", "id,script\n", "Charades_v1_test.csv:1: missing column actions"),
        (
            "charades",
            "Charades_v1_test.csv",
            "id,actions\na,\nb,c9 0 1\n",
            "v1_test.csv:3: action c9 is not in",
        ),
    ],
)
def test_errors_name_file_and_line_or_entry(tmp_path, capsys, name, file, text, message):
    EXPECTED[name][0](tmp_path)
    (tmp_path / file).write_text(text, encoding="latin-1")
    assert make(name, tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_file_that_is_missing_is_named(tmp_path, capsys):
    assert make("moments", tmp_path) == 2
    assert "moments_categories.txt: no such file" in capsys.readouterr().err
