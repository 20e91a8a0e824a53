"""The cache of fetched clips: its size, several processes, interruptions, damage."""

import multiprocessing
import os
from pathlib import Path

import pytest

from datasets.clip_cache import ClipCache
from utils.errors import UserError

SIZE = 100  # bytes of a clip


def clip(number: int) -> bytes:
    return bytes([number]) * SIZE


def is_fetched(cache: ClipCache, number: int) -> bool:
    """Whether the clip, which has the right bytes, did not come from the cache."""
    fetched = []
    found = cache.get(f"{number:02d}key", SIZE, lambda: fetched.append(1) or clip(number))
    assert found.read(2 * SIZE, 0) == clip(number) and found.read(10, SIZE - 5) == clip(number)[:5]
    found.close()
    return bool(fetched)


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{number:02d}" / f"{number:02d}key"


def num_bytes(folder: Path) -> int:
    """Of all files but the ledger, unfinished ones too."""
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_a_full_cache_keeps_its_clips_and_stores_no_more(tmp_path):
    caches = [ClipCache(tmp_path, 350) for _ in range(2)]  # of two processes
    assert [is_fetched(caches[n % 2], n) for n in range(6)] == [True] * 6
    assert [is_fetched(caches[n % 2], n) for n in range(6)] == [False] * 3 + [True] * 3
    assert num_bytes(tmp_path) == 300


@pytest.mark.parametrize("ledger", [None, b"", bytes(32), b"corrupted"])
def test_corrupted_clips_are_fetched_again_and_a_corrupted_ledger_is_rebuilt(tmp_path, ledger):
    cache = ClipCache(tmp_path, 350)
    assert [is_fetched(cache, n) for n in range(2)] == [True] * 2
    path_of(tmp_path, 1).write_bytes(b"cut")
    assert is_fetched(cache, 1) and not is_fetched(cache, 1) and not is_fetched(cache, 0)
    if ledger is None:
        (tmp_path / "bytes").unlink()
    else:
        (tmp_path / "bytes").write_bytes(ledger)
    others = ClipCache(tmp_path, 299), ClipCache(tmp_path, 300)
    assert is_fetched(others[0], 7) and not path_of(tmp_path, 7).exists()
    assert is_fetched(others[1], 7) and path_of(tmp_path, 7).exists()


def read_all(folder: Path, first: int) -> None:
    cache = ClipCache(folder, 10 * SIZE)
    for number in range(30):
        is_fetched(cache, (first + number) % 30)


def test_processes_that_read_at_the_same_time_stay_within_the_size(tmp_path):
    context = multiprocessing.get_context("fork")
    # The first two read the same clips at the same time.
    readers = [context.Process(target=read_all, args=(tmp_path, first)) for first in (0, 0, 7, 20)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0] * 4
    whole = sorted(path.name for path in tmp_path.glob("??/*"))
    assert 5 <= len(whole) <= 10 and num_bytes(tmp_path) == len(whole) * SIZE
    assert not any(is_fetched(ClipCache(tmp_path, SIZE), int(name[:2])) for name in whole)


def test_a_clip_that_another_process_stored_meanwhile_counts_once(tmp_path):
    def fetch() -> bytes:
        assert is_fetched(ClipCache(tmp_path, 1000), 0)
        return clip(0)

    ClipCache(tmp_path, 1000).get("00key", SIZE, fetch).close()
    assert int((tmp_path / "bytes").read_text()) == SIZE


def test_an_interrupted_download_leaves_no_file(tmp_path):
    def fetch() -> bytes:
        raise UserError("s3://clips/000000.tar: could not be read in 5 attempts")

    cache = ClipCache(tmp_path, SIZE)
    with pytest.raises(UserError, match="5 attempts"):
        cache.get("00key", SIZE, fetch)
    assert not list(tmp_path.iterdir())
    assert is_fetched(cache, 0) and not is_fetched(cache, 0)


def test_a_process_killed_while_it_writes_leaves_no_clip_and_no_more_bytes_than_allowed(tmp_path, monkeypatch):
    def write_half(self: Path, data: bytes) -> None:
        self.open("wb").write(data[: SIZE // 2])
        os._exit(9)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_half)
        child = multiprocessing.get_context("fork").Process(target=is_fetched, args=(ClipCache(tmp_path, 350), 0))
        child.start()
        child.join()
    assert child.exitcode == 9 and not path_of(tmp_path, 0).exists()
    cache = ClipCache(tmp_path, 350)
    assert [is_fetched(cache, n) for n in (0, 0, 1, 2, 3)] == [True, False, True, True, True]
    assert num_bytes(tmp_path) <= 350 and path_of(tmp_path, 1).exists() and not path_of(tmp_path, 3).exists()


def test_an_unusable_cache_is_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="data.cache_dir: .*file/x cannot be used .*; free space, lower data.cache_gb"):
        ClipCache(tmp_path / "file" / "x", 100).get("00", 1, lambda: b"1")
