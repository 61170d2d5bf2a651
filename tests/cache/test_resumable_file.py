"""A file that arrives in blocks: whose it is, what is kept, and what a dead writer leaves."""

import errno
import hashlib
import os

import pytest

from cache import store
from cache.store import resumable_file
from cache.store.resumable_file import Growing
from cache.store.temporary_names import TemporaryName
from common.errors import CacheError

DATA = bytes(range(256)) * 40
NAME = hashlib.sha256(DATA).hexdigest()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_when_it_is_placed_and_not_before(tmp_path):
    with Growing(tmp_path / "a.h5", NAME) as file:
        for begin in range(0, len(DATA), 1000):
            file.write(DATA[begin : begin + 1000])
        assert file.size == len(DATA) and not (tmp_path / "a.h5").exists()
        assert file.place(replace=False)
    assert files(tmp_path) == ["a.h5"] and (tmp_path / "a.h5").read_bytes() == DATA


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_is_there_wins_unless_it_is_replaced(tmp_path, replace):
    (tmp_path / "a.h5").write_bytes(b"old")
    with Growing(tmp_path / "a.h5", NAME) as file:
        file.write(DATA)
        assert file.place(replace=replace) == replace
    assert files(tmp_path) == ["a.h5"] and (tmp_path / "a.h5").read_bytes() == (DATA if replace else b"old")


def test_what_one_writer_leaves_the_next_of_the_same_content_continues(tmp_path, monkeypatch):
    monkeypatch.setattr(resumable_file, "BLOCK", 300)
    with pytest.raises(RuntimeError), Growing(tmp_path / "a.h5", NAME) as file:
        file.write(DATA[:1000])
        raise RuntimeError
    with Growing(tmp_path / "b.h5", "f" * 64) as other:
        assert other.size == 0
    with Growing(tmp_path / "a.h5", NAME) as file:
        assert file.size == 1000 and b"".join(file.blocks()) == DATA[:1000]
        file.write(DATA[1000:])
        file.place(replace=False)
    assert files(tmp_path) == ["a.h5"] and (tmp_path / "a.h5").read_bytes() == DATA
    assert store.sweep(tmp_path) == 0


def test_the_file_of_a_living_writer_is_not_taken(tmp_path):
    with Growing(tmp_path / "a.h5", NAME) as first:
        first.write(DATA[:1000])
        with Growing(tmp_path / "a.h5", NAME) as second:
            assert second.size == 0
            second.write(DATA)
            assert second.place(replace=False)
        first.write(DATA[1000:])
        assert not first.place(replace=False)
    assert files(tmp_path) == ["a.h5"] and (tmp_path / "a.h5").read_bytes() == DATA


def test_nothing_is_left_of_an_empty_or_cleared_file_and_a_sweep_takes_the_rest(tmp_path):
    with Growing(tmp_path / "a.h5", NAME):
        pass
    with Growing(tmp_path / "a.h5", NAME) as file:
        file.write(DATA)
        file.clear()
    assert files(tmp_path) == []
    with Growing(tmp_path / "a.h5", NAME) as file:
        file.write(DATA)
    assert len(files(tmp_path)) == 1 and store.sweep(tmp_path) == 1


def test_short_writes_are_continued_and_a_full_disk_keeps_what_arrived(tmp_path, monkeypatch):
    inner, written = os.pwrite, []

    def pwrite(descriptor, data, offset):
        if sum(written) >= 500:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(inner(descriptor, data[:70], offset))
        return written[-1]

    monkeypatch.setattr(os, "pwrite", pwrite)
    message = r"cannot write .*a\.h5: No space left on device\. What has arrived is kept"
    with pytest.raises(CacheError, match=message), Growing(tmp_path / "a.h5", NAME) as file:
        file.write(DATA)
    monkeypatch.undo()
    with Growing(tmp_path / "a.h5", NAME) as file:
        assert file.size == sum(written) and b"".join(file.blocks()) == DATA[: file.size]


def test_a_link_under_a_temporary_name_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"mine")
    trap = tmp_path / str(TemporaryName.new(NAME).left())
    trap.symlink_to(tmp_path / "secret")
    with Growing(tmp_path / "a.h5", NAME) as file:
        assert file.size == 0
        file.write(DATA)
        file.place(replace=False)
    assert (tmp_path / "secret").read_bytes() == b"mine"
