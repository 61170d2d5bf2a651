"""Machines that share no folder divide the work in a remote: each group once, one cache, and nothing left there."""

import errno
import hashlib
import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import melcache
from cache import manifests
from cache.checks.verify import verify
from cache.meeting import contact
from cache.remotes.base import SlowError
from cache.remotes.folder import Folder
from cache.remotes.meeting_names import MEETING
from cache.sharing import board
from cache.sharing.board import Board
from cache.store.resumable_file import Growing
from cache.writing.draft import Draft
from common.errors import CacheError
from torture.clusters.tiny_machine import Machine
from torture.processes import doomed, until
from torture.tiny_cache import PARTS, shards

pytestmark = pytest.mark.usefixtures("without_fsync", "hasty")
GROUPS = 5  # of PARTS: three ranges of entities, two of mentions
SEED = 5


@pytest.fixture
def hasty(monkeypatch):
    """Let seconds pass faster: claims are void after a third of one."""
    for name, seconds in {"BEAT": 0.03, "QUIET": 0.3, "POLL": 0.01}.items():
        monkeypatch.setattr(board, name, seconds)
    monkeypatch.setattr(contact, "RETRY", 0.01)
    monkeypatch.setattr(contact, "CALM", 60.0)
    monkeypatch.setattr("cache.remotes.base.WAITS", ())


@pytest.fixture
def unpublished(monkeypatch):
    """Let machines finish their caches, and not publish them."""
    monkeypatch.setattr("torture.clusters.tiny_machine.push.push", lambda folder, url: None)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "remote"


@pytest.fixture
def machine(tmp_path, place):
    """What makes a machine with a folder of its own, by its letter."""

    def made(letter, seed=SEED, url=None, **more):
        given = {"seconds": 0.02, "parts": PARTS, "poll": 0.01} | more
        return Machine(tmp_path / letter / "tiny", url or str(place), tmp_path / f"log-{letter}", seed, **given)

    return made


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The id of the cache that a machine makes which nobody meets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        folder = tmp_path_factory.mktemp("alone")
        return Machine(folder / "tiny", str(folder / "remote"), folder / "log", SEED, parts=PARTS).work()


def at_once(*machines):
    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(Machine.work, machines))


def computed(tmp_path, letters="abc"):
    """The groups that machines have made."""
    logs = [tmp_path / f"log-{letter}" for letter in letters]
    return [line[6:] for log in logs if log.exists() for line in log.read_text().splitlines() if line[:5] == "range"]


def is_sound(folder):
    return not [found for found in verify(folder) if found.problem] and not list(folder.glob(".*"))


def left(place):
    return sorted(os.listdir(place / MEETING)) if (place / MEETING).exists() else []


# --- together


@pytest.mark.parametrize("letters", ["a", "ab", "abc"])
def test_machines_divide_the_work_and_each_has_the_cache_of_one(alone, machine, place, tmp_path, letters, capsys):
    assert set(at_once(*map(machine, letters))) == {alone}
    made = computed(tmp_path)
    assert len(made) == len(set(made)) == GROUPS
    assert melcache.open(place).id == alone and is_sound(place) and left(place) == []
    for letter in letters:
        assert is_sound(tmp_path / letter / "tiny")
    assert f" at {place}: 0 of {GROUPS} tasks are finished there" in capsys.readouterr().err


def test_two_workers_of_one_folder_and_another_machine_make_nothing_twice(alone, machine, place, tmp_path):
    here = [Machine(tmp_path / "a/tiny", str(place), tmp_path / f"log-{n}", SEED, seconds=0.02, parts=PARTS, poll=0.01)
            for n in "ab"]  # fmt: skip
    assert set(at_once(*here, machine("c"))) == {alone}
    made = computed(tmp_path)
    assert len(made) == len(set(made)) == GROUPS and left(place) == []


def test_who_comes_late_takes_what_is_there_even_when_the_others_have_gone(
    alone, machine, place, tmp_path, monkeypatch
):
    """The cache is published, and all of the meeting removed, after the late one has seen some of it."""
    late, inner, looks = machine("b"), Board.look, []

    def look(self, *, now=False):
        inner(self, now=now)
        looks.append(now)
        if len(looks) == 1:
            assert machine("a").work() == alone

    monkeypatch.setattr(Board, "look", look)
    assert late.work() == alone and computed(tmp_path, "b") == [] and left(place) == []


def test_what_is_gone_when_it_is_fetched_is_taken_from_the_cache_that_was_published(
    alone, met, machine, place, tmp_path, monkeypatch
):
    late, inner, asked = machine("b"), Board.receipt, []

    def receipt(self, *given):
        asked.append(given)
        if len(asked) == 1:
            assert machine("a").work() == alone
        return inner(self, *given)

    monkeypatch.setattr(Board, "receipt", receipt)
    copied(met, place)
    assert late.work() == alone and computed(tmp_path) == [] and left(place) == []


def test_what_was_finished_before_is_shown_to_those_who_wait(alone, machine, place, tmp_path):
    """A machine was ended behind three groups, and goes on beside another."""
    first, folder = machine("a"), tmp_path / "a/tiny"
    folder.mkdir(parents=True)
    draft = Draft(folder)
    for shard in [shard for shard in shards(SEED, parts=PARTS) if shard.plan.index == 0]:
        draft.save(shard)
    assert at_once(first, machine("b", seconds=0.1)) == [alone] * 2
    made = computed(tmp_path)
    assert "entity-00000" not in computed(tmp_path, "a") and len(made) <= GROUPS + 1


# --- the dead


def test_what_a_killed_machine_was_at_is_taken_over_once(alone, machine, place, tmp_path):
    with doomed(machine("a", seconds=3600).work):
        until(lambda: computed(tmp_path, "a"), "a machine begins")
        assert [name.partition(".")[2] for name in left(place)] == ["claim"]
    assert set(at_once(machine("b"), machine("c"))) == {alone}
    assert len(computed(tmp_path, "bc")) == GROUPS and left(place) == []


@pytest.fixture
def boards(place, monkeypatch):
    """Two boards of one meeting, and a clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(board, "clock", lambda: now[0])
    place.mkdir()
    return Board(Folder(place), "0" * 16, {"x", "y"}), Board(Folder(place), "0" * 16, {"x", "y"}), now


def test_a_claim_holds_while_it_is_written_anew_and_is_void_when_it_is_not(boards):
    ours, theirs, now = boards
    assert theirs.claim("x") and not ours.claim("x") and ours.busy("x")
    for _ in range(50):
        now[0] += board.QUIET / 5
        theirs.beat()
        ours.look()
        assert ours.busy("x") and not ours.claim("x")
    now[0] += board.QUIET
    assert not ours.claim("x")
    now[0] += board.QUIET / 100
    assert not ours.busy("x") and ours.claim("x")
    theirs.beat()  # sees that it has lost it
    theirs.look(now=True)
    assert theirs.busy("x") and not theirs.claim("x")
    theirs.drop("x")
    ours.beat()
    assert ours.claim("y") and not theirs.claim("y")


def test_a_claim_whose_answer_was_lost_is_still_held(boards, monkeypatch):
    """A line breaks behind a write, which is then sent once more and refused."""
    ours, theirs, _ = boards
    inner = Folder.swap

    def swap(self, name, data, version):
        inner(self, name, data, version)
        return inner(self, name, data, version)

    monkeypatch.setattr(Folder, "swap", swap)
    assert ours.claim("x")
    ours.beat()
    assert not theirs.claim("x") and ours.claim("x")


def test_of_many_who_take_over_one_claim_exactly_one_has_it(place, monkeypatch):
    now, count = [0.0], 8
    monkeypatch.setattr(board, "clock", lambda: now[0])
    place.mkdir()
    assert Board(Folder(place), "0" * 16, {"x"}).claim("x")
    many = [Board(Folder(place), "0" * 16, {"x"}) for _ in range(count)]
    for one in many:
        one.look()
    now[0] += 1000
    barrier = threading.Barrier(count)

    def take(one):
        barrier.wait()
        return one.claim("x")

    with ThreadPoolExecutor(count) as pool:
        assert sum(pool.map(take, many)) == 1
    assert len(left(place)) == 1


# --- who may not be trusted


def receipts(place):
    return [place / MEETING / name for name in left(place) if name.endswith(".json")]


def _edit(change):
    def edited(path):
        told = json.loads(path.read_bytes())
        change(told["shards"], told)
        path.write_bytes(manifests.written(told))

    return edited


HOSTILE = {
    "no JSON": lambda path: path.write_bytes(b"\xff{"),
    "huge": lambda path: os.truncate(path, board.RECEIPT_BYTES + 1),
    "deep": lambda path: path.write_bytes(b"[" * 10_000),
    "a list": lambda path: path.write_bytes(b"[]\n"),
    "empty": lambda path: path.write_bytes(b""),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "no shards": _edit(lambda entries, told: entries.clear()),
    "shards of text": _edit(lambda entries, told: told.update(shards="x")),
    "another field": _edit(lambda entries, told: told.update(more=1)),
    "a path": _edit(lambda entries, told: entries[0].update(file="../../x-00000.0123456789ab.h5")),
    "another shard twice": _edit(lambda entries, told: entries.append(entries[0])),
    "another key": _edit(lambda entries, told: entries[0].update(key=entries[0]["key"][:12] + "0" * 52)),
    "another sha256": _edit(lambda entries, told: entries[0].update(sha256="0" * 64)),
    "more bytes": _edit(lambda entries, told: entries[0].update(bytes=1 << 45)),
    "fewer bytes": _edit(lambda entries, told: entries[0].update(bytes=100)),
    "a size of text": _edit(lambda entries, told: entries[0].update(bytes="1")),
    "no columns": _edit(lambda entries, told: entries[0].update(columns={})),
    "columns of numbers": _edit(
        lambda entries, told: entries[0].update(columns=dict.fromkeys(entries[0]["columns"], 1))
    ),
    "another part": _edit(lambda entries, told: entries[0].update(part="entity.objects")),
}


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """A remote at which all groups have receipts, and no cache is published."""
    folder = tmp_path_factory.mktemp("met")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        patch.setattr("torture.clusters.tiny_machine.push.push", lambda folder, url: None)
        Machine(folder / "a/tiny", str(folder / "remote"), folder / "log", SEED, parts=PARTS).work()
    assert len(receipts(folder / "remote")) == GROUPS
    return folder / "remote"


def copied(met, place):
    """A copy of the remote that a test may damage."""
    for path in met.rglob("*"):
        if path.is_file():
            (place / path.relative_to(met)).parent.mkdir(parents=True, exist_ok=True)
            (place / path.relative_to(met)).write_bytes(path.read_bytes())
    return place


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_receipt_costs_a_warning_and_computing(alone, met, machine, place, tmp_path, name, capsys):
    HOSTILE[name](receipts(copied(met, place))[0])
    assert machine("a").work() == alone and is_sound(tmp_path / "a/tiny") and left(place) == []
    assert computed(tmp_path) == ["entity-00000"]
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert 0 < len(warned) <= 4 and all(len(line) < 600 for line in warned)


def _not_finite(path, receipt):
    """Put NaN into a shard, and the sha256 of that into its receipt."""
    told, data = json.loads(receipt.read_bytes()), bytearray(path.read_bytes())
    shard = next(shard for shard in told["shards"] if shard["file"] == path.name)
    begin = shard["columns"]["sentence"]["offset"]
    data[begin : begin + 2] = b"\xff\x7f"
    path.write_bytes(data)
    shard["sha256"] = hashlib.sha256(data).hexdigest()
    receipt.write_bytes(manifests.written(told))


BAD = {
    "flipped": lambda path, receipt: path.write_bytes(path.read_bytes()[:-1] + b"x"),
    "shorter": lambda path, receipt: os.truncate(path, 100),
    "gone": lambda path, receipt: path.unlink(),
    "not finite": _not_finite,
}


@pytest.mark.parametrize("bad", BAD)
def test_a_shard_that_is_not_what_its_receipt_says_is_computed(alone, met, machine, place, tmp_path, unpublished, bad):
    receipt = receipts(copied(met, place))[0]
    BAD[bad](next(place.glob("entity.text-00000.*")), receipt)
    assert machine("a").work() == alone and is_sound(tmp_path / "a/tiny")
    assert computed(tmp_path) == ["entity-00000"]


def test_a_folder_without_end_is_left(alone, machine, place, unpublished, monkeypatch, capsys):
    monkeypatch.setattr(board, "MOST_FILES", 10)
    (place / MEETING).mkdir(parents=True)
    for number in range(20):
        (place / MEETING / f"{number:016x}-x.claim").touch()
    assert machine("a").work() == alone
    assert "more than 10 files are listed there" in capsys.readouterr().err


# --- what fails


@pytest.mark.parametrize("method", ["swap", "versions", "create", "remove", "read"])
@pytest.mark.parametrize("after", [0, 9])
def test_a_remote_that_fails_costs_a_warning_and_no_number(
    alone, met, machine, place, tmp_path, unpublished, monkeypatch, capsys, method, after
):
    copied(met, place)
    for path in receipts(place)[:3]:
        path.unlink()
    inner, calls = getattr(Folder, method), []

    def failing(self, *given, **more):
        calls.append(given)
        if len(calls) > after:
            raise CacheError("cannot reach remote: no connection")
        return inner(self, *given, **more)

    monkeypatch.setattr(Folder, method, failing)
    assert machine("a").work() == alone and is_sound(tmp_path / "a/tiny")
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warned) <= 4
    assert all("no connection" in line for line in warned)
    assert warned or after or not calls  # the last may fail when all is done


@pytest.mark.parametrize(
    ("method", "first", "told"), [("create", 2, 0), ("versions", 9, 1), ("versions", 1, 1), ("swap", 1, 1)]
)
def test_a_failure_that_passes_costs_little(alone, machine, place, tmp_path, monkeypatch, capsys, method, first, told):
    inner, calls = getattr(Folder, method), []

    def failing(self, *given, **more):
        calls.append(given)
        if first <= len(calls) < first + 2:
            raise CacheError("cannot reach remote: no connection")
        return inner(self, *given, **more)

    monkeypatch.setattr(Folder, method, failing)
    assert set(at_once(machine("a"), machine("b"))) == {alone}
    assert (capsys.readouterr().err.count("goes on without others, and asks again in 0.01 s") >= 1) is bool(told)
    assert GROUPS <= len(computed(tmp_path)) <= GROUPS + 2 * told and left(place) == []


def test_a_disk_there_that_is_full_costs_no_number_and_is_waited_for_once(
    alone, machine, place, tmp_path, unpublished, monkeypatch, capsys
):
    inner, tried = Growing._new, Counter()

    def new(self):
        if self._path.parent == place:
            tried[self._path.name] += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return inner(self)

    monkeypatch.setattr(Growing, "_new", new)
    assert machine("a").work() == alone and is_sound(tmp_path / "a/tiny")
    again = {(name.split(".")[0], name.split("-")[1][:5]) for name, count in tried.items() if count > 1}
    assert len(again) == 1, "one group is tried again, behind a wait each time"
    assert "No space left on device" in (said := capsys.readouterr().err) and said.count("warning") == 1


def test_a_place_that_is_removed_while_it_is_written_to_is_told(place, monkeypatch):
    monkeypatch.setattr("pathlib.Path.mkdir", lambda path, **more: None)
    with pytest.raises(CacheError, match=r"cannot write to .*No such file"):
        Folder(place).swap(f"{MEETING}/x", b"", "")


def test_failures_count_until_there_were_none_for_long(monkeypatch, capsys):
    """Listings go on where nothing can be written: such a remote is left, and one that fails now and then is not."""
    now, told = [1000.0], CacheError("cannot write to remote: full")
    monkeypatch.setattr(board, "clock", lambda: now[0])

    def fail():
        raise told

    rare, often = contact.Contact(), contact.Contact()
    for _ in range(2 * contact.FAILURES):
        assert rare.asked(fail, "other") == "other" and rare.asked(lambda: "it", "other") == "other"
        now[0] += contact.RETRY + contact.CALM + 1
        assert rare.asked(lambda: "it", "other") == "it" and not rare.over
    for count in range(1, contact.FAILURES + 1):
        assert often.asked(fail, "other") == "other" and often.over is (count == contact.FAILURES)
        now[0] += contact.RETRY
        assert (often.asked(lambda: "it", "other") == "it") is not often.over
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 * contact.FAILURES + 2 and said[-1].endswith("This machine makes the rest alone")


def test_a_remote_that_is_too_slow_is_asked_no_more(alone, machine, unpublished, monkeypatch, capsys):
    def versions(self, *given):
        asked.append(given)
        raise SlowError("cannot list remote: less than 65.5 kB came in 60 s")

    asked = []
    monkeypatch.setattr(Folder, "versions", versions)
    assert machine("a").work() == alone and len(asked) == 1
    assert "came in 60 s. This machine makes the rest alone" in capsys.readouterr().err


def test_a_store_that_ignores_conditions_is_no_place_to_meet(alone, machine, place, tmp_path, monkeypatch, capsys):
    def swap(self, name, data, version):
        (self.path / name).parent.mkdir(exist_ok=True)
        (self.path / name).write_bytes(data)
        return board.fingerprint.digest(str(data))

    monkeypatch.setattr(Folder, "swap", swap)
    assert set(at_once(machine("a"), machine("b"))) == {alone}
    assert len(computed(tmp_path)) == 2 * GROUPS
    assert capsys.readouterr().err.count("does not support conditional writes, so no machines meet there") == 2
    assert left(place) == []


def test_a_claim_that_cannot_be_written_is_done_without(alone, machine, place, tmp_path, monkeypatch, capsys):
    inner = Folder.swap

    def swap(self, name, data, version):
        return None if name.endswith("mention-00001.claim") else inner(self, name, data, version)

    monkeypatch.setattr(Folder, "swap", swap)
    assert machine("a").work() == alone and len(computed(tmp_path)) == GROUPS
    assert f"warning: mention-00001 cannot be claimed at {place}" in capsys.readouterr().err


def test_an_error_here_gives_up_what_was_claimed(machine, place, monkeypatch):
    def save(self, shard):
        raise CacheError("the disk is full")

    monkeypatch.setattr(Draft, "save", save)
    with pytest.raises(CacheError, match="the disk is full"):
        machine("a").work()
    assert left(place) == []


# --- other plans, other bytes


def test_machines_of_other_plans_do_not_meet_and_are_told(alone, met, machine, place, tmp_path, capsys):
    copied(met, place)
    machine("a", seed=SEED + 1).work()
    assert "warning: machines of another plan meet or have met at" in (said := capsys.readouterr().err)
    assert f"({MEETING}/{receipts(place)[0].name[:16]}-...)" in said
    assert len(computed(tmp_path)) == GROUPS and len(receipts(place)) == GROUPS, "it leaves those of others"


def test_machines_of_other_processors_have_one_cache(alone, machine, place, tmp_path):
    """Both make every group, as if each thought that the other has died, and of other bytes."""
    inner = Board.claim

    def claim(self, name):
        return name not in self.finished and (inner(self, name) or True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Board, "claim", claim)
        patch.setattr(Board, "busy", lambda self, name: False)
        ids = at_once(machine("a"), machine("b", numbers=1))
    assert len(set(ids)) == 1 and melcache.open(place).id == ids[0]
    assert len(computed(tmp_path)) > GROUPS
    assert all(is_sound(tmp_path / letter / "tiny") for letter in "ab")


def test_what_was_made_here_and_never_sent_gives_way_to_what_others_have_sent(alone, met, machine, place, tmp_path):
    """As when workers made all that was left, one of them died before it had sent its group, and processors differ."""
    folder = tmp_path / "a/tiny"
    folder.mkdir(parents=True)
    draft = Draft(folder)
    for shard in shards(SEED, 1, parts=PARTS):
        draft.save(shard)
    copied(met, place)
    assert machine("a", numbers=1).work() == alone and computed(tmp_path) == []
    assert is_sound(folder) and left(place) == []
