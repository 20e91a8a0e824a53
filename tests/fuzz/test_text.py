"""Configs, lists and labels: any bytes give a correct result or a `UserError` that names the file."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from datasets.lists import read_labels
from tests.fuzz.settings import fuzz_text
from tests.reading import read_frame_list, read_video_list
from utils.config import dump_config, load_config
from utils.errors import UserError
from utils.schema import dotted_keys

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["None", "5e-5", "auto"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
KEYS = st.sampled_from([*dotted_keys(), "data", "network", "solver.x", "nothing"])
LINES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds("{} {} {}".format, st.text(min_size=1, max_size=10), st.integers(-2, 99), st.integers(-2, 5)),
        st.builds("{},{}".format, st.integers(-1, 4), st.text(max_size=10)),
        st.just("id,name"),
    ),
    max_size=8,
)
BYTES = st.one_of(
    st.binary(max_size=200),
    LINES.map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    LINES.map(lambda lines: "\r\n".join(lines).encode("utf-16", "surrogatepass")),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "input"


@fuzz_text
@given(data=BYTES)
def test_any_bytes_as_config_list_and_labels(path, data):
    path.write_bytes(data)
    for read in (
        lambda: load_config(path),
        lambda: read_frame_list(path, 5),
        lambda: read_video_list(path, 5),
        lambda: read_labels(path),
        lambda: read_labels(path, 3),
    ):
        try:
            answer = read()
        except UserError as error:
            assert str(path) in str(error)
        else:
            assert answer


@fuzz_text
@given(data=BYTES)
def test_entries_are_what_the_lines_say(path, data):
    path.write_bytes(data)
    try:
        entries = read_frame_list(path, 5)
    except UserError:
        return
    lines = data.decode("utf-8-sig").split("\n")
    for entry in entries:
        fields = lines[entry.line - 1].split()
        assert (int(fields[-2]), int(fields[-1])) == (entry.num_frames, entry.label)
        assert entry.path.split() == fields[:-2] and 0 <= entry.label < 5 and entry.num_frames >= 0


@fuzz_text
@given(tree=st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_tree_of_keys(path, tree):
    nested: dict = {}
    for name, value in tree.items():
        *sections, last = name.split(".")
        below = nested
        for section in sections:
            below = below.setdefault(section, {})
            if not isinstance(below, dict):
                break
        else:
            below[last] = value
    path.write_text(yaml.safe_dump(nested), encoding="utf-8")
    try:
        config = load_config(path, purpose="predict").config
    except UserError as error:
        assert str(path) in str(error)
        return
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path, purpose="predict").config == config


@fuzz_text
@given(
    words=st.lists(st.one_of(st.text(max_size=20), st.builds("{}={}".format, KEYS, st.text(max_size=12))), max_size=4)
)
def test_any_overrides(path, words):
    path.write_text("seed: 1\n", encoding="utf-8")
    try:
        load_config(path, words, purpose="predict")
    except UserError as error:
        assert str(error)


BOMBS = {
    "aliases": "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]\n" for i in range(9)),
    "nesting": "data: " + "[" * 20000,
    "python object": "seed: !!python/object/apply:os.system ['touch exploded']\n",
    "long number": "seed: " + "9" * 10000 + "\n",
    "base 60": "seed: " + "1:" * 5000 + "1\n",
    "merge of itself": "data: &d\n  <<: *d\n",
}  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", BOMBS)
def test_yaml_bombs_are_refused_at_once(path, name):
    path.write_text(BOMBS[name], encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_config(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 5000
