"""The class descriptions in lists/: facts that published checkpoints and scores depend on."""

import csv
import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
LISTS = REPO / "lists"
LABELS_DIR = Path(os.environ.get("LABELS_DIR", REPO.parent / "shared" / "labels"))
NUM_CLASSES = {
    "anet1.3_labels.csv": 200,
    "hmdb51_labels.csv": 51,
    "k600/k160_labels_split1.csv": 160,
    "k600/k160_labels_split2.csv": 160,
    "k600/k160_labels_split3.csv": 160,
    "kinetics_400_labels.csv": 400,
    "ucf_labels.csv": 101,
}


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def names_of(file_name):
    return [name for _, name in read_rows(LISTS / file_name)[1:]]


def test_every_list_has_its_number_of_classes_here():
    assert {path.relative_to(LISTS).as_posix() for path in LISTS.glob("**/*_labels*.csv")} == set(NUM_CLASSES)


@pytest.mark.parametrize("file_name", NUM_CLASSES)
def test_ids_count_up_and_names_differ(file_name):
    rows = read_rows(LISTS / file_name)
    assert rows[0] == ["id", "name"]
    assert [row[0] for row in rows[1:]] == [str(id) for id in range(NUM_CLASSES[file_name])]
    names = names_of(file_name)
    assert len({name.lower() for name in names}) == len(names)
    assert all(name and name == name.strip() for name in names)


@pytest.mark.parametrize("file_name", NUM_CLASSES)
def test_alphabetical_order(file_name):
    names = names_of(file_name)
    # ActivityNet's names are sorted by bytes ("BMX" before "Baking cookies"), the others ignoring case.
    assert names == sorted(names, key=None if file_name.startswith("anet") else str.lower)


def test_zero_shot_classes_of_kinetics_600_are_new_to_kinetics_400():
    seen = set(names_of("kinetics_400_labels.csv"))
    for split in (1, 2, 3):
        assert not seen & set(names_of(f"k600/k160_labels_split{split}.csv"))


@pytest.mark.parametrize("file_name", NUM_CLASSES)
def test_same_facts_as_the_published_labels(file_name):
    if not LABELS_DIR.is_dir():
        pytest.skip(f"no published labels at {LABELS_DIR}; set LABELS_DIR")
    assert read_rows(LISTS / file_name) == read_rows(LABELS_DIR / Path(file_name).name)
