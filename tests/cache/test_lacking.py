"""What a file system may lack: it is done without, with one warning, and a failing disk stays an error."""

import errno
import fcntl
import mmap
import os
import stat

import numpy as np
import pytest

from cache import store
from cache.manifests.entries import ShardEntry
from cache.names import PartName
from cache.reader import Reader
from cache.sharing import download
from cache.store import lacking
from cache.writing.draft import Draft
from common.errors import CacheError, DatasetError
from common.records import Entity
from extract.describe import output_file
from torture.tiny_cache import build, shards


@pytest.fixture(autouse=True)
def said(monkeypatch):
    """What is said of file systems in a test."""
    lines = []
    monkeypatch.setattr(lacking, "_told", set())
    monkeypatch.setattr(lacking, "say", lines.append)
    return lines


def failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def of_folders(number):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            failing(number)()

    return fsync


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.EPERM, errno.EOPNOTSUPP, 524])
def test_a_folder_that_cannot_be_synced_costs_one_warning(tmp_path, monkeypatch, said, number):
    monkeypatch.setattr(os, "fsync", of_folders(number))
    for name in ("a", "b"):
        assert store.publish(tmp_path / name, b"whole", replace=False)
        with store.published(tmp_path / f"{name}.tar") as file:
            file.write(b"whole")
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"whole"] * 4
    assert said == [
        f"warning: the file system of {tmp_path} cannot make the names in a folder durable: "
        "a power cut may lose what was just written"
    ]


def test_a_folder_that_may_be_written_but_not_read_is_not_synced(tmp_path, monkeypatch, said):
    real = os.open

    def refused(path, flags, *rest, **more):
        if flags & os.O_DIRECTORY:
            failing(errno.EACCES)()
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refused)
    assert store.publish(tmp_path / "a", b"whole", replace=False) and len(said) == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
@pytest.mark.parametrize("fsync", [failing, of_folders])
def test_a_disk_that_fails_stays_an_error(tmp_path, monkeypatch, said, number, fsync):
    monkeypatch.setattr(os, "fsync", fsync(number))
    with pytest.raises(CacheError, match=f"cannot write .*{os.strerror(number)}"):
        store.publish(tmp_path / "a", b"whole", replace=True)
    with pytest.raises(CacheError, match=os.strerror(number)), store.published(tmp_path / "b") as file:
        file.write(b"whole")
    assert said == [] and not (tmp_path / "b").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EXDEV, errno.EMLINK, errno.EINVAL, errno.EIO, 524])
@pytest.mark.parametrize("atomic", [True, False], ids=["renameat2", "rename"])
def test_without_hard_links_a_file_is_renamed_and_one_that_is_there_wins(tmp_path, monkeypatch, said, number, atomic):
    if not atomic:
        monkeypatch.setattr(lacking.ctypes, "CDLL", lambda *_, **__: None)
    monkeypatch.setattr(os, "link", failing(number))
    assert store.publish(tmp_path / "a", b"first", replace=False)
    assert not store.publish(tmp_path / "a", b"second", replace=False)
    assert store.publish(tmp_path / "a", b"third", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"third"
    assert said == [f"warning: the file system of {tmp_path} has no hard links: files get their names by being renamed"]


def test_without_hard_links_a_file_that_appears_at_the_last_moment_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # it was not there when one looked
    (tmp_path / "a").write_bytes(b"first")
    assert not store.publish(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_at_a_link_stays_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(CacheError, match="No space left"):
        store.publish(tmp_path / "a", b"whole", replace=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EBADF])
def test_without_locks_work_goes_on_with_one_warning(tmp_path, monkeypatch, said, number):
    monkeypatch.setattr(fcntl, "flock", failing(number))
    for _ in range(2):
        with store.alone(tmp_path):
            pass
    with output_file.OutputFile(tmp_path / "texts.jsonl") as file:
        file.begin({"licence": "CC0", "source": "here"})
    assert said == [f"warning: the file system of {tmp_path} has no locks: let only one process at a time work there"]


def test_describe_needs_no_fsync_and_a_disk_that_fails_stays_an_error(tmp_path, monkeypatch, said):
    with output_file.OutputFile(tmp_path / "texts.jsonl") as file:
        file.begin({"licence": "CC0", "source": "here"})
        monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
        file.append([{"entity": "Q1", "text": "one"}])
        assert file.hold(Entity("Q1", "One")) and len(said) == 1
        monkeypatch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(DatasetError, match="Input/output error"):
            file.append([{"entity": "Q2", "text": "two"}])


def test_files_are_mapped_where_there_are_no_shared_maps(tmp_path, monkeypatch):
    real = mmap.mmap

    def private(*given, **more):
        if more.get("flags", mmap.MAP_SHARED) & mmap.MAP_SHARED:
            failing(errno.ENODEV)()  # FUSE with direct_io
        return real(*given, **more)

    build(tmp_path, 1)
    expected = Reader(tmp_path).read("entity.text.sentence")
    monkeypatch.setattr(mmap, "mmap", private)
    draft = Draft(tmp_path)
    assert all(draft.adopt(shard.plan) for shard in shards(1))
    pieces = [rows for _, rows in Reader(tmp_path).pieces("entity.text.sentence")]
    for found in (np.concatenate(pieces), draft.column("entity.text.sentence")):
        np.testing.assert_array_equal(found, expected)


def test_a_file_system_that_does_not_say_what_is_free_is_not_full(tmp_path, monkeypatch):
    shards = [ShardEntry(PartName("entity.ids"), "a", 0, 1, 1 << 60, "0" * 64, "0" * 64, {})]
    with pytest.raises(CacheError, match="Make room"):
        download.check_space(tmp_path, shards, "the pull", "Make room")
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 0)))
    download.check_space(tmp_path, shards, "the pull", "Make room")
    monkeypatch.setattr(os, "statvfs", failing(errno.ENOSYS))
    assert download.free(tmp_path) is None
