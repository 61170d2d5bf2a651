"""A claim whose process has ended is taken over by one of those that find it, wherever they are meanwhile."""

import contextlib
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cache.store import claims, lacking, temporary_names
from cache.store.claims import OVER, PREFIX, Claims
from cache.store.temporary_names import TemporaryName

NAME = f"{PREFIX}entity-00000"


@pytest.fixture(params=["locks", "no locks"])
def claim(request, tmp_path, monkeypatch):
    """The path of a claim, on a file system with and without locks."""
    if request.param == "no locks":
        monkeypatch.setattr(lacking, "lock", lambda *rest, **more: True)
    return tmp_path / NAME


def dead(path):
    """Leave a claim whose process has ended."""
    path.write_text(str(TemporaryName.new().left()))


def holder(path):
    return path.stat().st_ino, path.read_text()


def between(monkeypatch, step):
    """Let another step happen once, after a claim was found void and before anything follows from that."""
    real, steps = Claims._void, [step]

    def void(claims, path):
        found = real(claims, path)
        if found and steps:
            steps.pop()()
        return found

    monkeypatch.setattr(Claims, "_void", void)


def test_of_two_that_find_a_claim_void_the_second_leaves_what_the_first_has_made(claim, monkeypatch):
    dead(claim)
    first, second = Claims(claim.parent), Claims(claim.parent)
    with contextlib.ExitStack() as held:
        made = []

        def taken():
            assert held.enter_context(first.held("entity", 0))
            made.append(holder(claim))

        between(monkeypatch, taken)
        with second.held("entity", 0) as mine:
            assert not mine and [holder(claim)] == made
        assert [holder(claim)] == made, "nor does the end of its block remove it"
    assert not list(claim.parent.iterdir())


def test_while_one_removes_a_void_claim_no_other_does(claim, monkeypatch):
    dead(claim)
    first, second = Claims(claim.parent), Claims(claim.parent)
    real, asked = Path.unlink, []

    def unlink(path, *rest, **more):
        if path == claim and not asked:
            asked.append(None)
            with second.held("entity", 0) as theirs:
                asked[0] = theirs
        real(path, *rest, **more)

    monkeypatch.setattr(Path, "unlink", unlink)
    with first.held("entity", 0) as mine:
        assert mine and asked == [False]
    assert not list(claim.parent.iterdir())


def test_a_claim_that_was_touched_since_it_was_found_void_stays(claim, monkeypatch):
    """Its process, on another machine, was stopped for a while."""
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    claim.write_text(str(TemporaryName.new()).replace(os.uname().nodename.replace("-", "_")[:40], "elsewhere"))
    monkeypatch.setattr(claims, "abandoned", lambda *given: False)
    ours = Claims(claim.parent)
    with ours.held("entity", 0) as mine:
        assert not mine
    now[0] = claims.QUIET + 1
    between(monkeypatch, lambda: os.utime(claim, ns=(1, 1)))
    with ours.held("entity", 0) as mine:
        assert not mine
    now[0] += claims.QUIET + 1
    with ours.held("entity", 0) as mine:
        assert mine


def test_one_that_died_while_it_took_a_claim_over_stops_nobody(claim):
    for ends in ("", OVER, 2 * OVER):
        dead(claim.with_name(claim.name + ends))
    with Claims(claim.parent).held("entity", 0) as mine:
        assert mine
        with Claims(claim.parent).held("entity", 0) as theirs:
            assert not theirs
    assert not list(claim.parent.iterdir())


def test_a_void_claim_that_cannot_be_removed_stops_nobody(claim, monkeypatch):
    dead(claim)
    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **more: None if path == claim else real(path, **more))
    with Claims(claim.parent).held("entity", 0) as mine:
        assert mine


def test_a_claim_that_this_user_may_not_read_holds(claim, monkeypatch):
    """A colleague's, whose umask is 077: nobody but it can say that its process has ended."""
    claim.write_text(str(TemporaryName.new()))

    def denied(path, *rest, **more):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(claims.store.os, "open", denied)
        assert not claims.void(claim)
    assert claim.exists() and not claims.void(claim)


def test_claims_of_a_finished_cache_go_but_for_those_of_the_living(claim):
    """Which drop their own, or are at other parts of it; of another machine's nobody can tell."""
    names = {end: claim.with_name(f"{PREFIX}{end}") for end in ("dead", "elsewhere", "mine")}
    dead(names["dead"])
    mine = str(TemporaryName.new())
    names["mine"].write_text(mine)
    home = replace(TemporaryName.parse(mine).home, host="elsewhere", boot="0123456789ab")
    names["elsewhere"].write_text(str(replace(TemporaryName.parse(mine), home=home)))
    os.utime(names["elsewhere"], (1e11, 1e11))  # by a clock that is ahead
    claims.clear(claim.parent)
    assert list(claim.parent.iterdir()) == [names["mine"]]


def test_whether_an_empty_file_is_held_is_not_asked_by_a_lock(tmp_path, monkeypatch):
    """Who has made it is about to lock it, and would then find it locked."""
    path, asked = tmp_path / "empty", []
    path.touch()
    monkeypatch.setattr(fcntl, "flock", lambda *given: asked.append(given))
    assert not temporary_names._free(path) and not asked
    path.write_bytes(b"x")
    assert temporary_names._free(path) and asked
