"""A deadline of progress: a remote that drips, or says nothing at all, is left; one that is slow but goes on is not."""

import os
import threading
from types import SimpleNamespace

import pytest

from cache.remotes import base, folder, patience
from cache.remotes.base import SlowError
from cache.remotes.patience import LEAST, WINDOW, LateError, Patience, within
from cache.sharing import signing
from common.errors import CacheError
from extract.config import ExtractConfig
from extract.remote import Shared


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets forward."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(patience, "clock", found)
    return found


def test_each_window_must_bring_enough(clock):
    waiting = Patience()
    for _ in range(5):
        clock.now += WINDOW / 2
        assert waiting.came(LEAST) == pytest.approx(WINDOW / 2)
        clock.now += WINDOW / 2
        assert waiting.came() == WINDOW  # a new one begins
    clock.now += WINDOW - 1
    waiting.came(LEAST - 1)
    clock.now += 1
    with pytest.raises(LateError):
        waiting.came()


def test_a_byte_a_second_is_late_after_one_window_and_so_is_silence(clock):
    def drip(came):
        while True:
            clock.now += 1
            came(1)

    with pytest.raises(LateError):
        within(drip)
    assert clock.now == WINDOW
    silent = threading.Event()

    def nothing(came):
        clock.now += WINDOW
        silent.wait()

    with pytest.raises(LateError):
        within(nothing)
    silent.set()


def test_what_is_sent_has_its_time_before_the_answer_begins(clock):
    def send(came):
        clock.now += WINDOW * 10
        came(1)
        return "sent"

    assert within(send, 10 * LEAST) == "sent"
    with pytest.raises(LateError):
        within(send, 8 * LEAST)


def test_what_an_action_returns_or_raises_is_as_without(clock):
    assert within(lambda came: "done") == "done"
    for error in (KeyboardInterrupt(), TimeoutError("mine"), CacheError("mine")):

        def action(came, error=error):
            raise error

        with pytest.raises(type(error)) as caught:
            within(action)
        assert caught.value is error


def test_a_disk_of_a_network_that_stalls_is_one_line_and_is_not_asked_again(clock, tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(bytes(1000))
    place, real = folder.Folder(tmp_path), os.pread
    assert place.block("a.h5", 10, 500) == bytes(500)

    def pread(descriptor, size, start):
        calls.append(start)
        clock.now += 1
        return real(descriptor, 1, start)

    calls = []
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(SlowError, match=rf"cannot read {tmp_path}: less than 65\.5 kB came in 60 s\..* what arrived"):
        place.block("a.h5", 10, 500)
    assert len(calls) == WINDOW


def test_a_listing_is_progress_file_by_file_but_has_an_end(clock, tmp_path, monkeypatch):
    def files(names):
        for name in names:
            clock.now += WINDOW / 2
            yield name, 1

    place = folder.Folder(tmp_path)
    monkeypatch.setattr(base, "MAX_LISTED", 50)
    listed = place.stream("list", lambda came: base.counted(files(map(str, range(50))), came))
    assert len(listed) == 50
    with pytest.raises(CacheError, match="more than 50 files are listed there"):  # be it the same one again and again
        place.stream("list", lambda came: base.counted(files(["a"] * 51), came))


@pytest.mark.parametrize("error", [KeyError("ETag"), TypeError("'NoneType'"), MemoryError(), EOFError(), ValueError()])
def test_an_answer_that_nobody_expects_is_one_line(tmp_path, error):
    def action():
        raise error

    with pytest.raises(CacheError, match=rf"^cannot read {tmp_path}: an unexpected answer \({type(error).__name__}"):
        folder.Folder(tmp_path).ask("read", action)


def test_a_slow_signature_ends_the_search_for_others(tmp_path, monkeypatch):
    def slow(name, limit):
        raise SlowError("slow")

    remote = folder.Folder(tmp_path)
    monkeypatch.setattr(remote, "read", slow)
    with pytest.raises(SlowError):
        signing.of_remote(remote, "0" * 64)
    shared = Shared(ExtractConfig(dataset="demo", shards=tmp_path, remote=""))
    shared.remote, shared._signers = remote, tmp_path / "signers"
    with pytest.raises(SlowError):
        shared._trusts(SimpleNamespace(id="0" * 64))
