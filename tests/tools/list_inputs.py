"""Small inputs for the tests of tools/make_lists.py, and functions that read its output."""

import csv
import re

import yaml

from datasets.lists import read_labels
from tests.commands.world import REPO
from tests.tools.loading import load_tool, run_tool

make_lists = load_tool("make_lists")


def add_frames(root, name, num_frames=8, first=1, template="img_{:05d}.jpg"):
    folder = root / name
    folder.mkdir(parents=True)
    for number in range(first, first + num_frames):
        (folder / template.format(number)).write_bytes(b"")


def add_video(root, name):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"")


def lines(path):
    return path.read_text().splitlines()


def missing(path):
    with path.open(newline="") as file:
        return {row["name"]: row["reason"] for row in csv.DictReader(file)}


def printed_yaml(output):
    return yaml.safe_load(re.search(r"^data:\n(?:  .*\n)+", output, re.MULTILINE)[0])["data"]


def run(command, *options):
    return run_tool(make_lists, command, *map(str, options))


def shipped_names(file_name):
    return read_labels(REPO / "lists" / file_name)
