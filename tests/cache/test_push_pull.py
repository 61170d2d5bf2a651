"""Push and pull over a directory: whole or not at all, resumed, checked, and one winner where two publish at once."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import xxhash
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

import melcache
from cache import manifests, remotes, store
from cache.checks import hdf5_gate
from cache.checks.verify import verify
from cache.cli import app
from cache.names import ColumnName
from cache.remotes import base, folder, object_store
from cache.schema import READS
from cache.sharing import pull, push, remote_shards
from cache.store import temporary_names
from cache.store.temporary_names import TemporaryName
from cache.writing import synth
from common import output
from common.errors import CacheError, ConfigError
from common.output import size
from tests import worlds

ROOT = Path(__file__).parents[2]
BLOCK = 1200  # bytes at a time here, so that every file takes several


@pytest.fixture(autouse=True)
def no_gate(monkeypatch):
    """The child process that looks at HDF5 files takes 0.2 s a pull; tests/cache/test_hdf5_gate.py is about it."""
    monkeypatch.setattr(hdf5_gate, "problems", lambda folder, found, shards: ((shard.file, "") for shard in shards))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """Two caches of one dataset, in several shards a part, and one with other parts."""
    place = tmp_path_factory.mktemp("sharded")
    for name, seed, heads in (("one", 0, "drin,clip"), ("two", 1, "drin,clip"), ("less", 0, "drin")):
        worlds.synthetic_cache(place / name / "toy", seed, heads, shard_rows=32)
    return place


@pytest.fixture
def one(sharded):
    return sharded / "one/toy"


@pytest.fixture
def two(sharded):
    return sharded / "two/toy"


@pytest.fixture
def remote(tmp_path):
    return tmp_path / "team/toy"


@pytest.fixture
def here(tmp_path):
    return tmp_path / "here/toy"


@pytest.fixture
def single(monkeypatch, without_fsync):
    """One thread and small blocks, so that the k-th call is always the same."""
    monkeypatch.setattr(folder.Folder, "threads", 1)
    monkeypatch.setattr(folder.Folder, "block_size", BLOCK)


def content(path):
    """The bytes of all files under a folder, by name."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def shards(path):
    return json.loads((path / "manifest.json").read_text())["shards"]


def is_sound(path):
    """A folder opens, and every byte is as written."""
    return melcache.open(path).id and not [found for found in verify(path) if found.problem and found.bytes]


def leftovers(path):
    return [p for p in path.rglob("*") if p.name.startswith(".")] if path.exists() else []


class Calls:
    """Replaces a method or function: counts its calls, and fails at the k-th."""

    def __init__(self, monkeypatch, owner, name, fail=None, error=None):
        self.count, self.bytes = 0, 0
        inner = getattr(owner, name)

        def call(*arguments, **named):
            self.count += 1
            if self.count == fail:
                raise error or ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
            found = inner(*arguments, **named)
            self.bytes += len(found) if isinstance(found, bytes) else 0
            return found

        monkeypatch.setattr(owner, name, call)


def test_a_pushed_directory_is_a_cache_itself_and_a_second_push_writes_nothing(one, remote):
    done = push.push(one, str(remote))
    assert melcache.open(remote).id == melcache.open(one).id == done.id and is_sound(remote)
    assert done.sent == done.total == sum(s["bytes"] for s in shards(one))
    assert (remote / f"manifests/{done.id}.json").read_bytes() == (one / "manifest.json").read_bytes()
    assert done.id in (remote / "README.md").read_text() and leftovers(remote) == []
    before = {p: p.stat().st_ino for p in remote.rglob("*")}
    again = push.push(one, str(remote))
    assert "is published already; nothing to do" in str(again) and again.sent == 0
    assert {p: p.stat().st_ino for p in remote.rglob("*")} == before


def test_a_pull_gives_the_same_bytes_and_a_second_pull_takes_nothing(one, remote, here, monkeypatch):
    push.push(one, str(remote))
    done = pull.pull(here, f"file://{remote}")
    assert content(here) == content(one) and leftovers(here) == []
    assert done.taken == done.whole and done.kept == 0 and done.parts == done.all_parts
    blocks = Calls(monkeypatch, folder.Folder, "block")
    assert pull.pull(here, str(remote)).taken == 0 and blocks.count == 0


def test_a_push_cut_off_at_any_upload_publishes_nothing_and_sends_nothing_twice(one, tmp_path, single, monkeypatch):
    total = len(shards(one))
    for k in range(1, total + 1):
        remote = tmp_path / str(k)
        with monkeypatch.context() as patch:
            first = Calls(patch, folder.Folder, "create", fail=k)
            with pytest.raises(ConnectionResetError):
                push.push(one, str(remote))
        assert not (remote / "manifest.json").exists()
        with monkeypatch.context() as patch:
            second = Calls(patch, folder.Folder, "create")
            push.push(one, str(remote))
        assert first.count - 1 + second.count == total  # the failed call sent nothing
        assert is_sound(remote) and leftovers(remote) == []


def test_a_push_whose_disk_fails_at_any_step_leaves_no_cache_or_a_whole_one(one, tmp_path, single, monkeypatch):
    k = 0
    while True:
        k += 1
        remote = tmp_path / str(k)
        with monkeypatch.context() as patch:
            steps = Calls(patch, store, "place", fail=k, error=OSError(errno.EIO, "Input/output error"))
            if steps_done(lambda remote=remote: push.push(one, str(remote))):
                break
        assert not (remote / "manifest.json").exists() or is_sound(remote)
        push.push(one, str(remote))
        assert is_sound(remote) and (remote / "README.md").exists() and leftovers(remote) == []
    assert steps.count == k - 1 == len(shards(one)) + 3  # and the copy, the manifest, the card


def steps_done(action):
    try:
        action()
    except CacheError as error:
        assert "Input/output error" in str(error) and "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("threads", [1, 4])
def test_a_pull_cut_off_at_any_block_resumes_inside_the_file(one, remote, tmp_path, single, monkeypatch, threads):
    monkeypatch.setattr(folder.Folder, "threads", threads)
    push.push(one, str(remote))
    total = sum(s["bytes"] for s in shards(one))
    with monkeypatch.context() as patch:
        blocks = Calls(patch, folder.Folder, "block")
        pull.pull(tmp_path / "uncut", str(remote))
    assert blocks.bytes == total
    for k in range(1, blocks.count + 1, 1 if threads == 1 else 7):
        here = tmp_path / f"{k}"
        with monkeypatch.context() as patch:
            first = Calls(patch, folder.Folder, "block", fail=k)
            with pytest.raises(ConnectionResetError):
                pull.pull(here, str(remote))
        assert not (here / "manifest.json").exists()
        with monkeypatch.context() as patch:
            second = Calls(patch, folder.Folder, "block")
            done = pull.pull(here, str(remote))
        assert first.bytes + second.bytes == total  # not a byte twice
        assert done.taken == second.bytes
        assert content(here) == content(one) and leftovers(here) == []


def test_a_pull_that_is_killed_is_resumed_by_the_next_process(one, remote, here):
    push.push(one, str(remote))
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from cache.sharing import pull\n"
        "from cache.remotes.folder import Folder\n"
        f"Folder.block_size, Folder.threads, inner, calls, fetched = {BLOCK}, 2, Folder.block, [], []\n"
        "def block(*arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) == int(sys.argv[3]):\n"
        "        print(sum(fetched), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    found = inner(*arguments)\n"
        "    fetched.append(len(found))\n"
        "    return found\n"
        "Folder.block = block\n"
        "pull.pull(Path(sys.argv[1]), sys.argv[2])\n"
        "print(sum(fetched))\n"
    )
    fetched = 0
    for kill in (5, 9, 7, 0):
        command = [sys.executable, "-c", code, here, remote, str(kill)]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
        fetched += int(done.stdout)
        assert (here / "manifest.json").exists() == (kill == 0)
    total = sum(s["bytes"] for s in shards(one))
    assert abs(fetched - total) <= 3 * 2 * BLOCK  # three kills, two blocks in hand
    assert content(here) == content(one) and leftovers(here) == []


def parts_of(*heads):
    named = {ColumnName(column).part for head in heads for column in READS[head]}
    return named | {"mention.ids", "pair.candidates"}


def test_a_partial_pull_takes_only_what_the_head_reads_and_goes_by_the_whole_caches_id(one, remote, here, monkeypatch):
    whole_id = push.push(one, str(remote)).id
    blocks = Calls(monkeypatch, folder.Folder, "block")
    done = pull.pull(here, str(remote), heads="clip")
    reader = melcache.open(here)
    assert set(reader.manifest.parts) == parts_of("clip") and reader.require("clip")
    assert reader.id == done.id == whole_id != reader.manifest.id
    assert blocks.bytes == done.taken == sum(s["bytes"] for s in shards(here)) < done.whole / 2
    assert {p.name for p in here.glob("*.h5")} == {s["file"] for s in shards(here)} and is_sound(here)
    with pytest.raises(CacheError, match=r"melcache pull toy URL --for drin$"):
        reader.require("drin")
    with pytest.raises(CacheError, match=r"melcache pull toy URL --for clip,entity\.image$"):
        reader.require("clip", ["entity.image.vector"])

    assert pull.pull(here, str(remote), heads="bert, clip").parts == len(parts_of("clip", "bert"))
    reader = melcache.open(here)
    assert set(reader.manifest.parts) == parts_of("clip", "bert") and reader.id == whole_id
    rest = pull.pull(here, str(remote), heads="drin")
    assert blocks.bytes == rest.whole  # over the three pulls, each file once
    assert (here / "manifest.json").read_bytes() == (one / "manifest.json").read_bytes()
    assert pull.pull(here, str(remote), heads="bert").parts == rest.all_parts  # what is here stays


def test_a_part_is_proved_to_be_of_the_whole_cache_by_its_manifest(one, two, remote, here):
    whole_id = push.push(one, str(remote)).id
    pull.pull(here, str(remote), heads="bert")
    proof = here / manifests.copy_of(whole_id)
    own = manifests.load(here)

    forged = json.loads((here / "manifest.json").read_text())
    forged["shards"][0]["sha256"] = "0" * 64
    (here / "manifest.json").write_bytes(manifests.written(manifests.seal(forged)))
    with pytest.raises(CacheError, match="is not a part of"):
        melcache.open(here)
    (here / "manifest.json").write_bytes(manifests.written(own.as_json()))
    good = proof.read_bytes()
    for bad in ((two / "manifest.json").read_bytes(), good[:-2] + b"\n", b""):
        proof.write_bytes(bad)
        with pytest.raises(CacheError, match=str(proof)):
            melcache.open(here)
    proof.unlink()  # copied without it: then it is a cache of its own
    assert melcache.open(here).id == own.id
    assert pull.pull(here, str(remote), heads="clip").id == whole_id == melcache.open(here).id
    assert proof.read_bytes() == good


def test_a_part_is_not_published(one, remote, here, tmp_path):
    push.push(one, str(remote))
    pull.pull(here, str(remote), heads="bert")
    with pytest.raises(CacheError, match=r"holds only parts of cache .*Pull the rest first"):
        push.push(here, str(tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_asked_for_must_be_a_head_or_a_part_that_the_cache_has(one, remote, here):
    push.push(one, str(remote))
    for heads, error, message in (
        ("gpt", ConfigError, "--for gpt: expected one of the heads drin, "),
        ("ghmfc", CacheError, r"lacks mention\.regions\.present, .*which --for ghmfc asks for"),
        ("entity.objects", CacheError, r"lacks entity\.objects\.boxes, which --for entity\.objects asks for"),
    ):
        with pytest.raises(error, match=message):
            pull.pull(here, str(remote), heads=heads)
    assert not here.exists()
    assert set(pull_parts(here, remote, "entity.image")) == {"entity.image", "mention.ids", "pair.candidates"}


def pull_parts(here, remote, heads):
    pull.pull(here, str(remote), heads=heads)
    return melcache.open(here).manifest.parts


def test_another_cache_is_published_only_with_replace_and_the_older_stays_by_id(one, two, remote, tmp_path):
    first = push.push(one, str(remote)).id
    before = content(remote)
    with pytest.raises(CacheError, match=rf"has another cache: toy {first}, made .*publish yours with --replace"):
        push.push(two, str(remote))
    assert content(remote) == before
    second = push.push(two, str(remote), replace=True).id
    assert melcache.open(remote).id == second
    assert second in (remote / "README.md").read_text()
    assert pull.pull(tmp_path / "new", str(remote)).id == second
    assert pull.pull(tmp_path / "old", str(remote), identity=first).id == first
    assert content(tmp_path / "old") == content(one)
    with pytest.raises(CacheError, match=rf"cache {second} is there, not {'0' * 64}\. Ask whoever gave you the id"):
        pull.pull(tmp_path / "none", str(remote), identity="0" * 64)
    assert not (tmp_path / "none").exists()


def test_a_grown_cache_is_taken_on_top_of_the_smaller_one(sharded, remote, here, monkeypatch):
    less, more = sharded / "less/toy", sharded / "one/toy"
    push.push(less, str(remote))
    pull.pull(here, str(remote))
    with pytest.raises(CacheError, match="has another cache: toy"):
        push.push(more, str(remote))
    push.push(more, str(remote), replace=True)
    with pytest.raises(CacheError, match=r"is cache .*Pull it into another folder, or replace the one here"):
        pull.pull(here, str(remote))
    blocks = Calls(monkeypatch, folder.Folder, "block")
    done = pull.pull(here, str(remote), replace=True)
    assert blocks.bytes == done.taken == done.whole - sum(s["bytes"] for s in shards(less) if s in shards(more))
    assert melcache.open(here).id == melcache.open(more).id


def damages(path):
    """Each of the file's kinds of damage: a flipped byte in the head, the middle and the end, and cut or grown."""
    good = path.read_bytes()
    for position in (0, len(good) // 2, len(good) - 1):
        yield good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
    yield good[:-1]
    yield b""


def test_a_damaged_shard_at_the_remote_gets_no_name_here_and_its_owner_mends_it(one, remote, tmp_path, without_fsync):
    push.push(one, str(remote))
    kinds = {shard["part"]: remote / shard["file"] for shard in shards(one)}
    for part, victim in kinds.items():
        for number, bad in enumerate(damages(victim)):
            victim.write_bytes(bad)
            here = tmp_path / part / str(number)
            with pytest.raises(
                CacheError, match=rf"{victim.name} (does not match its manifest after two tries|ends inside)"
            ):
                pull.pull(here, str(remote))
            assert not (here / "manifest.json").exists() and not (here / victim.name).exists()
            done = push.push(one, str(remote), check=True)
            assert done.sent == victim.stat().st_size and done.news == ()
            assert pull.pull(here, str(remote)).id and content(here) == content(one)


def test_a_damaged_manifest_at_the_remote_is_refused_before_any_shard(one, remote, here, monkeypatch):
    push.push(one, str(remote))
    path, blocks = remote / "manifest.json", Calls(monkeypatch, folder.Folder, "block")
    good = path.read_bytes()
    evil = json.loads(good)
    evil["shards"][0]["file"] = "../../evil-00000.000000000000.h5"
    for bad in (
        *damages(path),
        good[:900] + b"7" + good[901:],
        manifests.written(manifests.seal(evil)),
        b"[" * 100_000,
    ):
        path.write_bytes(bad)
        with pytest.raises(CacheError, match=r"manifest\.json"):
            pull.pull(here, str(remote))
        with pytest.raises(CacheError, match=r"or publish over it: melcache push --replace"):
            push.push(one, str(remote))
    monkeypatch.setattr(manifests, "MAX_BYTES", len(good) - 1)
    path.write_bytes(good)
    with pytest.raises(CacheError, match="more than the"):
        pull.pull(here, str(remote))
    assert blocks.count == 0 and not here.exists()
    monkeypatch.undo()
    path.write_bytes(b"x")
    assert "manifest" in push.push(one, str(remote), replace=True).news and is_sound(remote)


def test_a_cache_published_in_the_middle_of_a_pull_does_not_mix_with_it(one, two, remote, here, single, monkeypatch):
    first = push.push(one, str(remote)).id
    inner, calls = folder.Folder.block, []

    def block(*arguments):
        calls.append(1)
        if len(calls) == 20:
            push.push(two, str(remote), replace=True)
        return inner(*arguments)

    monkeypatch.setattr(folder.Folder, "block", block)
    assert pull.pull(here, str(remote)).id == first
    assert content(here) == content(one) and melcache.open(remote).id != first


def pushed(path, remote, replace):
    """What a push said: a cache id, or its one line."""
    try:
        return push.push(path, str(remote), replace=replace).id
    except CacheError as error:
        return str(error)


@pytest.mark.parametrize("before", ["nothing", "another cache"])
def test_of_two_pushers_at_once_exactly_one_wins_and_a_reader_always_sees_a_whole_cache(
    sharded, one, two, tmp_path, monkeypatch, without_fsync, before
):
    inner, ids = folder.Folder.listing, {melcache.open(path).id: path for path in (one, two)}
    for number in range(6):
        remote, both, met, found, seen = tmp_path / str(number), threading.Barrier(2), threading.local(), [], []
        if before != "nothing":
            push.push(sharded / "less/toy", str(remote))

        def listing(self, both=both, met=met):
            if not hasattr(met, "met"):  # both have seen what is there before either publishes
                met.met = both.wait(600)
            return inner(self)

        def run(path, remote=remote, found=found):
            found.append(pushed(path, remote, before != "nothing"))

        with monkeypatch.context() as patch:
            patch.setattr(folder.Folder, "listing", listing)
            pushers = [threading.Thread(target=run, args=(path,)) for path in (one, two)]
            for pusher in pushers:
                pusher.start()
            while any(pusher.is_alive() for pusher in pushers):
                seen.append(not (remote / "manifest.json").exists() or is_sound(remote))
            for pusher in pushers:
                pusher.join()
        (won,) = ids.keys() & set(found)
        (line,) = set(found) - {won}
        (loser,) = ids.keys() - {won}
        assert f"someone else has just published cache {won} at {remote}" in line and f"--id {loser}" in line
        assert all(seen) and is_sound(remote) and melcache.open(remote).id == won and leftovers(remote) == []
        assert pull.pull(tmp_path / f"lost{number}", str(remote), identity=loser).id == loser  # complete there, too


def test_two_processes_that_push_at_once_agree_on_one(one, two, remote):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from cache.sharing import push\n"
        "from cache.remotes.folder import Folder\n"
        "inner = Folder.listing\n"
        "def listing(self):\n"
        "    if not seen:\n"
        "        print('ready', flush=True), sys.stdin.readline(), seen.append(1)\n"
        "    return inner(self)\n"
        "seen, Folder.listing = [], listing\n"
        "push.push(Path(sys.argv[1]), sys.argv[2])\n"
    )
    pushers = [
        subprocess.Popen(
            [sys.executable, "-c", code, path, remote],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for path in (one, two)
    ]  # fmt: skip
    assert [pusher.stdout.readline() for pusher in pushers] == ["ready\n"] * 2
    ends = []
    for pusher in pushers:
        pusher.stdin.write("go\n")
        pusher.stdin.flush()
    for pusher in pushers:
        ends.append((pusher.communicate(timeout=600)[1], pusher.returncode))
    assert sorted(code for _, code in ends) == [0, 1] and is_sound(remote)
    assert "someone else has just published" in next(errors for errors, code in ends if code)


def test_two_pushers_of_the_same_cache_both_succeed(one, remote, tmp_path):
    both, found = threading.Barrier(2), []
    copy = shutil.copytree(one, tmp_path / "copy/toy")

    def run(path):
        both.wait()
        found.append(pushed(path, remote, False))

    pushers = [threading.Thread(target=run, args=(path,)) for path in (one, copy)]
    for pusher in pushers:
        pusher.start()
    for pusher in pushers:
        pusher.join()
    assert set(found) == {melcache.open(one).id} and is_sound(remote)


def test_the_lock_of_a_dead_push_is_removed_and_that_of_a_living_one_is_waited_for(one, two, remote, monkeypatch):
    push.push(one, str(remote))
    lock, child = remote / folder.LOCK, subprocess.Popen(["true"])
    child.wait()
    dead = str(dataclasses.replace(TemporaryName.new(), pid=child.pid, start=1))
    for holder in (dead, str(TemporaryName.new())):
        lock.write_text(holder)
        if holder == dead:
            assert push.push(two, str(remote), replace=True).news and not lock.exists()
        else:
            monkeypatch.setattr(folder, "LOCK_WAIT", 0.1)
            monkeypatch.setattr(folder, "LOCK_EMPTY", 500.0)  # where the machine may stall
            with pytest.raises(CacheError, match=r"another push holds .* on another machine 10 min after it was taken"):
                push.push(one, str(remote), replace=True)
    for holder in ("", f"{temporary_names.PREFIX}elsewhere-1-1-aa"):  # cut off, or of another machine: by age
        lock.write_text(holder)
        with pytest.raises(CacheError, match="another push holds"):
            push.push(one, str(remote), replace=True)
    monkeypatch.undo()
    os.utime(lock, (0, 0))
    assert push.push(one, str(remote), replace=True).news and not lock.exists()


def test_the_lock_of_a_dead_push_is_removed_once_where_machines_do_not_see_each_others_flock(one, remote, monkeypatch):
    """A second one found it dead, too, and comes when the first has its own lock there."""
    push.push(one, str(remote))
    lock, real = remote / folder.LOCK, temporary_names.abandoned
    lock.write_text(str(TemporaryName.new().left()))
    monkeypatch.setattr(folder.fcntl, "flock", lambda *given: None)
    first, second = folder.Folder(remote), folder.Folder(remote)
    with contextlib.ExitStack() as held:

        def abandoned(*given):
            monkeypatch.setattr(temporary_names, "abandoned", real)
            held.enter_context(first._turn())
            return True

        monkeypatch.setattr(temporary_names, "abandoned", abandoned)
        assert not second._break(lock) and lock.exists()
    assert not lock.exists()


def test_every_shard_that_was_ever_published_is_known(sharded, one, two, remote):
    for path in (one, two):
        push.push(path, str(remote), replace=True)
    (remote / shards(one)[0]["file"]).unlink()
    place = folder.Folder(remote)
    names = [shard["file"] for shard in (*shards(one), *shards(two))]
    listed = remote_shards.shards(place, [*names, "entity.text-00000.000000000000.h5"], place.listing())
    found = {name: shard.entry for name, shard in listed.items()}
    assert {name: entry.as_json() for name, entry in found.items()} == {
        shard["file"]: shard for shard in (*shards(one)[1:], *shards(two))
    }
    damaged = remote / manifests.copy_of(melcache.open(one).id)
    damaged.write_bytes(damaged.read_bytes()[:-2])
    listed = remote_shards.shards(place, names, place.listing())
    assert {name: found.entry.as_json() for name, found in listed.items()} == {
        shard["file"]: shard for shard in shards(two)
    }


def test_a_column_elsewhere_is_read_up_to_a_bound_and_no_other_byte_of_it(one, remote, monkeypatch):
    push.push(one, str(remote))
    place, told = folder.Folder(remote), manifests.load(remote)
    ids = remote_shards.column(place, told, "mention.ids.splits")
    assert ids.tolist() == melcache.open(one).column("mention.ids.splits").tolist()
    monkeypatch.setattr(folder.Folder, "block", None)  # none is read
    with pytest.raises(
        CacheError, match=r"mention\.ids\.splits of the cache at .* has 60 bytes, more than the 59 expected"
    ):
        remote_shards.column(place, told, "mention.ids.splits", 59)
    for name in ("mention.ids.type", "mention.tokens.first"):
        with pytest.raises(CacheError, match=f"the cache at {remote} has no {name}"):
            remote_shards.column(place, told, name)


def test_copies_of_manifests_are_read_up_to_a_bound_and_not_from_one_that_is_too_slow(one, remote, monkeypatch):
    push.push(one, str(remote))
    place, asked = folder.Folder(remote), []
    listing = place.listing() | {manifests.copy_of(f"{i:064x}"): 1 for i in range(50)}
    monkeypatch.setattr(remote_shards, "MOST_COPIES", 20)

    def read(self, name, limit):
        asked.append(name)
        if slow:
            raise base.SlowError("too slow")

    monkeypatch.setattr(folder.Folder, "read", read)
    for slow, count in ((False, 20), (True, 1)):
        asked.clear()
        with pytest.raises(base.SlowError) if slow else contextlib.nullcontext():
            assert list(remote_shards.manifests_of(place, listing, None)) == []
        assert len(asked) == count


def test_the_same_recipe_with_other_numbers_never_overwrites_what_is_published(one, remote, tmp_path):
    push.push(one, str(remote))
    other = renumbered(one, tmp_path / "other/toy")
    before = content(remote)
    with pytest.raises(CacheError, match=r"exists with other bytes: the same recipe, computed on another machine"):
        push.push(other, str(remote), replace=True)
    assert content(remote) == before

    (remote / "manifest.json").unlink()  # as a push that was cut off leaves it: listed by nothing
    (remote / manifests.copy_of(melcache.open(one).id)).unlink()
    with pytest.raises(CacheError, match=r"with other bytes, and no manifest lists it: .*remove that file"):
        push.push(other, str(remote))
    assert push.push(one, str(remote)).sent == 0 and is_sound(remote)


def test_a_file_that_appeared_during_the_push_is_not_overwritten(one, remote, tmp_path, monkeypatch):
    push.push(one, str(remote))
    before = content(remote)
    monkeypatch.setattr(folder.Folder, "listing", lambda self: {})  # what was there when the push began
    with pytest.raises(CacheError, match="exists with other bytes"):
        push.push(renumbered(one, tmp_path / "other/toy"), str(remote), replace=True)
    assert content(remote) == before


def renumbered(path, to):
    """A copy of a cache with another number in one shard: what another processor computes."""
    shutil.copytree(path, to)
    found = json.loads((to / "manifest.json").read_text())
    shard = next(s for s in found["shards"] if s["part"] == "entity.text")
    data = bytearray((to / shard["file"]).read_bytes())
    place = shard["columns"]["sentence"]
    data[place["offset"]] ^= 1
    size = shard["rows"] * worlds.WIDTHS["text_width"] * 2
    place["xxh3"] = xxhash.xxh3_128_hexdigest(bytes(data[place["offset"] : place["offset"] + size]))
    shard["sha256"] = hashlib.sha256(data).hexdigest()
    (to / shard["file"]).write_bytes(data)
    (to / "manifest.json").write_bytes(manifests.written(manifests.seal(found)))
    return to


def test_a_pull_over_the_same_recipe_with_other_numbers_is_the_old_the_new_or_none(
    one, remote, tmp_path, single, monkeypatch
):
    push.push(one, str(remote))
    old = melcache.open(renumbered(one, tmp_path / "other/toy")).id
    states, k = set(), 0
    while "new" not in states:
        k += 1
        here = shutil.copytree(tmp_path / "other/toy", tmp_path / f"{k}")
        with monkeypatch.context() as patch:
            Calls(patch, store, "place", fail=k, error=OSError(errno.EIO, "Input/output error"))
            if steps_done(lambda here=here: pull.pull(here, str(remote), replace=True)):
                states.add("new")
        if (here / "manifest.json").exists():
            assert is_sound(here)
            states.add("old" if melcache.open(here).id == old else "new")
        else:
            states.add("none")
        pull.pull(here, str(remote), replace=True)
        assert content(here) == content(one)
    assert states >= {"none", "new"}


def test_a_full_disk_is_one_line_and_the_pull_goes_on_where_it_ended(one, remote, tmp_path, single, monkeypatch):
    push.push(one, str(remote))
    k, full = 0, OSError(errno.ENOSPC, "No space left on device")
    while True:
        k += 1
        here = tmp_path / f"{k}"
        with monkeypatch.context() as patch:
            Calls(patch, os, "pwrite", fail=k, error=full)
            try:
                pull.pull(here, str(remote))
                break
            except CacheError as error:
                assert "No space left on device. What has arrived is kept" in str(error) and "\n" not in str(error)
        assert not (here / "manifest.json").exists()
        pull.pull(here, str(remote))
        assert content(here) == content(one)
    assert k > len(shards(one))
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda path: os.statvfs_result((1, 1, 9, 9, 9, 0, 0, 0, 0, 0)))
        with pytest.raises(CacheError, match=r"has 9 B free, the pull needs .*Make room, or take fewer parts"):
            pull.pull(tmp_path / "small", str(remote))


def test_links_are_not_followed_at_either_end(one, remote, tmp_path):
    push.push(one, str(remote))
    name, secret = shards(one)[0]["file"], tmp_path / "secret"
    secret.write_bytes((remote / name).read_bytes())
    here = tmp_path / "here"
    here.mkdir()
    (here / name).symlink_to(secret)
    pull.pull(here, str(remote))
    assert not (here / name).is_symlink() and content(here) == content(one)

    (remote / name).unlink()
    (remote / name).symlink_to(secret)
    with pytest.raises(CacheError, match="is a link"):
        pull.pull(tmp_path / "again", str(remote))
    local = shutil.copytree(one, tmp_path / "local/toy")
    (local / name).unlink()
    (local / name).symlink_to(secret)
    with pytest.raises(CacheError, match="is a link"):
        push.push(local, str(tmp_path / "other"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap/manifests").symlink_to(outside)
    with pytest.raises(CacheError, match="is not a directory; remove it"):
        push.push(one, str(tmp_path / "trap"))
    assert list(outside.iterdir()) == []


def test_a_damaged_local_shard_is_not_uploaded(one, remote, tmp_path, single):
    for number, bad in enumerate(damages(one / shards(one)[0]["file"])):
        local = shutil.copytree(one, tmp_path / f"{number}/toy")
        (local / shards(one)[0]["file"]).write_bytes(bad)
        with pytest.raises(CacheError, match=r"not what its manifest lists, so it is not uploaded.*melcache verify"):
            push.push(local, str(remote))
        assert not (remote / shards(one)[0]["file"]).exists() and not (remote / "manifest.json").exists()
        assert leftovers(remote) == []


def test_a_pull_says_where_the_cache_may_be_and_what_it_is_of(one, remote, here):
    push.push(one, str(remote))
    with pytest.raises(
        CacheError, match=rf"no cache at {remote.parent}: no manifest.json in it. Did you mean {remote}\?"
    ):
        pull.pull(here, str(remote.parent))
    with pytest.raises(ConfigError, match=r"is a cache of toy, not of wikimel\. Run: melcache pull toy"):
        pull.pull(here.parent / "wikimel", str(remote), dataset="wikimel")
    with pytest.raises(ConfigError, match="is the folder of the cache itself"):
        push.push(one, f"{one}/../toy")
    with store.alone(here), pytest.raises(CacheError, match="another process is writing to"):
        pull.pull(here, str(remote))


def test_a_store_without_conditional_writes_says_so(one, here, capsys):
    url = "memory://team/toy"
    first = push.push(one, url)
    assert "does not support conditional writes" in capsys.readouterr().err
    assert pull.pull(here, url, heads="bert").id == first.id
    assert pull.pull(here, url).taken < first.total and content(here) == content(one) | content(here)
    assert "nothing to do" in str(push.push(one, url))
    MemoryFileSystem.store.clear()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_without_conditional_writes_a_publication_in_between_is_seen(sharded, one, two, monkeypatch, moment):
    url = "memory://team/toy"
    push.push(one, url)
    inner, theirs = object_store.Memory._set, (two / "manifest.json").read_bytes()

    def set_(self, name, data, condition):
        if name == manifests.copy_of(melcache.open(sharded / "less/toy").id) and moment == "before":
            self._put("manifest.json", theirs, None)
        found = inner(self, name, data, condition)
        if name == "manifest.json" and moment == "after":
            self._put("manifest.json", theirs, None)
        return found

    monkeypatch.setattr(object_store.Memory, "_set", set_)
    with pytest.raises(CacheError, match=f"someone else has just published cache {melcache.open(two).id}"):
        push.push(sharded / "less/toy", url, replace=True)
    assert object_store.Memory(url).state().data == theirs
    MemoryFileSystem.store.clear()


def test_secrets_are_neither_taken_in_urls_nor_printed(monkeypatch):
    for url in ("s3://key:hunter2@bucket/demo", "gs://bucket/demo?token=hunter2", "s3://bucket/demo#hunter2"):
        with pytest.raises(ConfigError, match="put credentials where") as caught:
            remotes.open(url)
        assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_hunter2")
    signed = "https://cdn.example/a?Signature=hunter2&Key=3"
    text = base.scrubbed(f"GET {signed}\n'https://user:hunter2@example.org/x?y=hunter2' with hf_hunter2")
    assert text == "GET https://cdn.example/a 'https://example.org/x' with ***"
    for url in ("ftp://host/demo", "s3://", "hf://models/org/name"):
        with pytest.raises(ConfigError):
            remotes.open(url)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands_say_what_went_where_and_what_is_here(one, remote, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    identity = melcache.open(one).id
    said = invoke("push", one, remote)
    assert said.exit_code == 0 and f"{remote}: published, " in said.stdout and identity in said.stdout
    assert json.loads(invoke("push", one, remote, "--json").stdout)["sent"] == 0
    assert "; 7 of 9 parts are present locally" in invoke("pull", "toy", remote, "--for", "drin").stdout
    info = invoke("info", "toy").stdout
    assert f"id {identity}; 7 of its 9 parts are present, " in info
    as_json = json.loads(invoke("info", "toy", "--json").stdout)
    assert (as_json["id"], as_json["id_of_parts"]) == (identity, manifests.load(Path("shards/toy")).id)
    assert invoke("verify", "toy").exit_code == 0
    found = json.loads(invoke("pull", "toy", remote, "--id", identity, "--json").stdout)
    assert found["parts"] == found["all_parts"] == 9 and found["kept"] + found["taken"] == found["whole"]
    assert f"id {identity}\n" in invoke("info", "toy").stdout
    assert invoke("pull", "mel", remote).stderr.startswith(f"error: {remote} is a cache of toy, not of mel")
    assert "64 hex digits" in invoke("pull", "toy", remote, "--id", "abc").stderr
    (tmp_path / "mine").mkdir()
    assert invoke("pull", "./mine/other", remote).exit_code == 0 and is_sound(tmp_path / "mine/other")


def test_a_pull_from_a_folder_of_caches_names_them(one, tmp_path):
    push.push(one, str(tmp_path / "team/toy"))
    push.push(one, str(tmp_path / "team/other"))
    said = invoke("pull", tmp_path / "x", tmp_path / "team")
    assert said.exit_code == 2 and said.stderr.endswith(f"Caches there: {tmp_path}/team/other, {tmp_path}/team/toy\n")


def test_ctrl_c_in_a_pull_says_that_it_can_go_on(one, remote, here, single, monkeypatch):
    push.push(one, str(remote))
    with monkeypatch.context() as patch:
        Calls(patch, folder.Folder, "block", fail=30, error=KeyboardInterrupt())
        said = invoke("pull", here, remote)
    assert said.exit_code == 130
    assert said.stderr == "interrupted: what has arrived is kept, the same command continues\n"
    assert invoke("pull", here, remote).exit_code == 0 and content(here) == content(one)


def test_memory_is_bounded_by_the_blocks_in_hand(tmp_path):
    """A shard of 42 MB goes there and back through blocks of 2 MB."""
    path = tmp_path / "toy"
    synth.write(path, synth.Synthetic(60, 7000, 5, 0.5, 0, "bert", text_width=3000))
    code = (
        "import sys, resource\n"
        "from pathlib import Path\n"
        "from cache.sharing import pull, push\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = used()\n"
        "push.push(Path(sys.argv[1]), sys.argv[2])\n"
        "pull.pull(Path(sys.argv[3]), sys.argv[2])\n"
        "print(used() - before)\n"
    )
    command = [sys.executable, "-c", code, path, tmp_path / "remote", tmp_path / "here"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 15_000  # kB
    assert melcache.open(tmp_path / "here").id == melcache.open(path).id


def test_only_what_may_pass_by_itself_is_tried_again(remote, monkeypatch):
    monkeypatch.setattr(base, "WAITS", (0.0, 0.0))
    place, calls = folder.Folder(remote), []

    def action(error, until):
        calls.append(1)
        if len(calls) < until:
            raise error
        return "done"

    for error, until, tries in ((ConnectionResetError(), 3, 3), (TimeoutError(), 9, 3), (PermissionError(), 2, 1)):
        calls.clear()
        if tries == until:
            assert place.ask("read", lambda error=error, until=until: action(error, until)) == "done"
        else:
            with pytest.raises(CacheError, match=f"^cannot read {remote}: "):
                place.ask("read", lambda error=error, until=until: action(error, until))
        assert len(calls) == tries


def test_progress_is_told_in_bytes_with_the_time_that_is_left(one, remote, here, monkeypatch, capsys):
    push.push(one, str(remote))
    for name in ("LINE_SECONDS", "TOLD_SECONDS"):
        monkeypatch.setattr(output, name, 0.0)
    pull.pull(here, str(remote))
    total = size(sum(s["bytes"] for s in shards(one)))
    lines = capsys.readouterr().err.splitlines()
    assert f"pull toy: {total} of {total}, 0.0 s left" in lines
