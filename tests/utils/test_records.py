"""Files of JSON and CSV that commands read back are checked: one line that names the file, the key and a remedy."""

import json
import math

import pytest

from tests.faults_of import fault_of
from utils.csv_files import read_csv
from utils.records import Count, Keys, read_json, read_records


class Example(Keys):
    name: str
    sizes: list[Count] = []
    score: float | None = None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Expecting value"),
        ("[1]", "it contains no keys with values"),
        ("null", "it contains no keys with values"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "Exceeds the limit"),
        (b"\xff\xfe", "can't decode byte"),
        ("{}", "it lacks name"),
        ('{"name": 3}', "name: Input should be a valid string"),
        ('{"name": "x", "sizes": [1, true]}', "sizes.1: Input should be a valid integer"),
        ('{"name": "x", "sizes": [-1]}', "sizes.0: Input should be greater than or equal to 0"),
        ('{"name": "x", "score": "3"}', "score: Input should be a valid number"),
    ],
)
def test_json_of_another_form_is_one_line(tmp_path, text, fault):
    path = tmp_path / "example.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = fault_of(read_json, path, "an example", "write it again", Example)
    assert message.startswith(f"{path}: not an example (") and fault in message and message.endswith("write it again")


def test_other_keys_are_kept_and_scores_may_be_nan(tmp_path):
    path = tmp_path / "example.json"
    path.write_text('{"name": "x", "score": NaN, "more": {"a": 1}}')
    content = read_json(path, "an example", "write it again", Example)
    assert content["more"] == {"a": 1} and math.isnan(content["score"])


@pytest.mark.parametrize("key", ["step", "epoch", "loss", "kind"])
@pytest.mark.parametrize("value", ["text", [], {}, True, 10**400, -1.5])
def test_a_record_has_a_kind_a_step_an_epoch_and_numbers(tmp_path, key, value):
    if key == "loss" and value in (True, -1.5):
        return  # numbers
    record = {"kind": "train", "step": 1, "epoch": 0, "loss": 0.5} | {key: value}
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert f"{path}: invalid metrics file ({key}: " in fault_of(read_records, path, "move it away")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "it has no column path"),
        (b"path;size\na;1\n", "it has no column path"),
        (b"path,size\na,1\nb\n", "row 2 has another number of columns"),
        (b"path,size\na,1,2\n", "row 1 has another number of columns"),
        (b"path,size\na,1.5\n", "'1.5' is not a whole number"),
        (b"path,size\n" + b"x" * 200_000 + b",1\n", "field larger than field limit"),
    ],
)
def test_csv_of_another_form_is_one_line(tmp_path, data, fault):
    path = tmp_path / "report.csv"
    path.write_bytes(data)
    message = fault_of(read_csv, path, ("path", "size"), "remove it", ("size",))
    assert message.startswith(f"{path}: not a file that this command wrote (") and fault in message


def test_a_row_of_csv_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "report.csv"
    path.write_bytes(b"path,size\nna\xefve.mp4,\nb,1")
    assert read_csv(path, ("path", "size"), "remove it", ("size",)) == [{"path": "na\udcefve.mp4", "size": ""}]
