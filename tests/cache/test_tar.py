"""A cache as one tar: the same bytes whoever writes it, the same cache out of it, and nothing of a hostile one."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import melcache
from cache import manifests, store
from cache.cli import app
from cache.sharing import pull, push, tar
from cache.store import resumable_file
from common.errors import CacheError, ConfigError
from tests import worlds

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("without_fsync")


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """Two caches of one dataset, a part of the first one with its proof, and their tars."""
    place = tmp_path_factory.mktemp("tars")
    for name, seed in (("one", 0), ("two", 1)):
        worlds.synthetic_cache(place / name / "toy", seed, "drin,clip,ghmfc", shard_rows=32)
    push.push(place / "one/toy", str(place / "remote"))
    pull.pull(place / "part/toy", str(place / "remote"), heads="drin")
    for name in ("one", "two", "part"):
        tar.export(place / name / "toy", place / f"{name}.tar")
    return place


def content(path):
    """The bytes of all files under a folder, by name."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def members(path):
    """Name and bytes of each member, in order, read by Python's own reader."""
    with tarfile.open(path) as packed:
        return [(member.name, packed.extractfile(member).read()) for member in packed]


def test_a_cache_comes_back_byte_for_byte(tars, tmp_path):
    done = tar.take(tars / "one.tar", tmp_path / "toy")
    assert content(tmp_path / "toy") == content(tars / "one/toy")
    assert done.id == melcache.open(tmp_path / "toy").id == melcache.open(tars / "one/toy").id
    assert done.files == len(content(tars / "one/toy"))


def test_a_part_comes_back_with_its_proof_and_the_id_of_the_whole(tars, tmp_path):
    tar.take(tars / "part.tar", tmp_path / "toy")
    assert content(tmp_path / "toy") == content(tars / "part/toy")
    assert melcache.open(tmp_path / "toy").id == melcache.open(tars / "one/toy").id


def test_a_signature_comes_along(tars, tmp_path):
    shutil.copytree(tars / "one/toy", tmp_path / "signed")
    name = manifests.signature_of(melcache.open(tars / "one/toy").id)
    (tmp_path / "signed/manifests").mkdir()
    (tmp_path / "signed" / name).write_bytes(b"a signature")
    tar.export(tmp_path / "signed", tmp_path / "x.tar")
    tar.take(tmp_path / "x.tar", tmp_path / "back")
    assert (tmp_path / "back" / name).read_bytes() == b"a signature"


def test_the_tar_is_the_same_whoever_writes_it_when(tars, tmp_path):
    shutil.copytree(tars / "one/toy", tmp_path / "elsewhere", copy_function=shutil.copyfile)
    for path in (tmp_path / "elsewhere").iterdir():
        path.chmod(0o600)
    tar.export(tmp_path / "elsewhere", tmp_path / "x.tar")
    assert (tmp_path / "x.tar").read_bytes() == (tars / "one.tar").read_bytes()
    with tarfile.open(tmp_path / "x.tar") as packed:
        found = packed.getmembers()
    name, *names = [member.name for member in found]
    assert name == "manifest.json" and names == sorted(names)
    assert {(m.mode, m.mtime, m.uid, m.gid, m.uname, m.gname, m.type) for m in found} == {
        (0o644, 0, 0, 0, "", "", tarfile.REGTYPE)
    }


def test_any_tar_reads_it(tars, tmp_path):
    subprocess.run(["tar", "xf", tars / "part.tar", "-C", tmp_path], check=True)
    assert melcache.open(tmp_path).id == melcache.open(tars / "one/toy").id


def test_a_tar_that_is_there_is_not_written_over(tars, tmp_path):
    (tmp_path / "x.tar").write_text("mine")
    with pytest.raises(ConfigError, match=r"x\.tar is there already"):
        tar.export(tars / "one/toy", tmp_path / "x.tar")
    assert (tmp_path / "x.tar").read_text() == "mine"


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "gone"])
def test_a_damaged_cache_is_not_exported_and_no_file_is_left(damage, tars, tmp_path):
    shutil.copytree(tars / "one/toy", tmp_path / "toy")
    victim = sorted((tmp_path / "toy").glob("*.h5"))[-1]
    data = bytearray(victim.read_bytes())
    data[-9] ^= 4
    victim.unlink()
    if damage != "gone":
        victim.write_bytes({"flip": data, "cut": data[:-1], "longer": data + b"0"}[damage])
    with pytest.raises((CacheError, FileNotFoundError), match=r"verify|No such file|cannot open"):
        tar.export(tmp_path / "toy", tmp_path / "x.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]


def test_another_cache_is_not_written_over_and_the_same_one_is_mended(tars, tmp_path):
    shutil.copytree(tars / "one/toy", tmp_path / "toy")
    with pytest.raises(ConfigError, match=r"toy is cache .*, .*two\.tar holds .*--name"):
        tar.take(tars / "two.tar", tmp_path / "toy")
    assert content(tmp_path / "toy") == content(tars / "one/toy")
    sorted((tmp_path / "toy").glob("*.h5"))[3].write_bytes(b"damaged")
    tar.take(tars / "one.tar", tmp_path / "toy")
    assert content(tmp_path / "toy") == content(tars / "one/toy")


class Tar:
    """A tar written member by member, honest or not."""

    def __init__(self, given, form=tarfile.USTAR_FORMAT):
        self.given, self.form = list(given), form

    def bytes(self, *changes):
        """The tar's bytes; a change is (place, name, data, header fields) of a member to be put in."""
        entries = [(name, data, {}) for name, data in self.given]
        for place, name, data, fields in changes:
            entries.insert(place if place >= 0 else len(entries) + 1 + place, (name, data, fields))
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=self.form) as packed:
            for name, data, fields in entries:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                for field, value in fields.items():
                    setattr(info, field, value)
                packed.addfile(info, io.BytesIO(data))
        return out.getvalue()


def without(given, index):
    return [item for i, item in enumerate(given) if i != index]


def sealed(given, change):
    """Members whose manifest was changed and sealed again, so that only its content tells."""
    found = json.loads(given[0][1])
    change(found)
    return [("manifest.json", manifests.written(manifests.seal(found))), *given[1:]]


def swapped(given, i, j):
    given = list(given)
    given[i], given[j] = (given[i][0], given[j][1]), (given[j][0], given[i][1])
    return given


def header(name, kind, size):
    """The 512 bytes of a header that says anything."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, 0
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def zeros(count):
    return b"%011o\0" % count


HUGE = b"\x80" + (1 << 60).to_bytes(11, "big")  # GNU's base 256
NEGATIVE = b"\xff" * 10 + b"\xfe\x00"  # -512
BLOCK = 512
PAX = {"path": "x" * 200}


def first(data):
    """Where the second member's header begins."""
    return BLOCK + -(-int(data[124:135], 8) // BLOCK) * BLOCK


def hostile():
    """A table of tars: how to make each of an honest one, and what is said of it."""
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    named = lambda name, **fields: lambda given: Tar(given).bytes((2, name, b"data", fields))  # noqa: E731
    kind = lambda value, **more: lambda given: Tar(given).bytes((2, "x.h5", b"", {"type": value, **more}))  # noqa: E731
    put = lambda at, raw: lambda given: (lambda t: t[: at(t)] + raw + t[at(t) :])(Tar(given).bytes())  # noqa: E731
    return {
        "traversal": (named("../evil.h5"), "not listed"),
        "traversal inside": (named("manifests/../../evil.json"), "not listed"),
        "absolute name": (named("/etc/evil.h5"), "not listed"),
        "a name with a dot in front": (named("./manifest.json"), "not listed"),
        "an unlisted shard": (named("entity.text-00000.0123456789ab.h5"), "not listed"),
        "an unlisted script": (named("setup.py"), "not listed"),
        "another manifest's copy": (named(f"manifests/{'0' * 64}.json"), "not listed"),
        "a control character in a name": (named("a\x1b[2Jb"), "not listed"),
        "a name that is no text": (named("a\udcffb"), "not listed"),
        "an empty name": (named(""), "not listed"),
        "the manifest twice": (lambda given: Tar(given).bytes((-1, *given[0], {})), "stands there twice"),
        "a shard twice": (lambda given: Tar(given).bytes((-1, *given[1], {})), "stands there twice"),
        "a shard twice with other bytes": (
            lambda given: Tar(given).bytes((2, given[1][0], b"x" * len(given[1][1]), {})), "stands there twice",
        ),
        "a symbolic link": (kind(tarfile.SYMTYPE, linkname="/etc/passwd"), "a symbolic link"),
        "a hard link": (kind(tarfile.LNKTYPE, linkname="manifest.json"), "is a link"),
        "a listed name as a link": (
            lambda given: Tar(without(given, 1)).bytes((1, given[1][0], b"", link)), "a symbolic link",
        ),
        "the manifest as a link": (
            lambda given: Tar(given[1:]).bytes((0, "manifest.json", b"", link)), "a symbolic link",
        ),
        "a character device": (kind(tarfile.CHRTYPE), "a device"),
        "a block device": (kind(tarfile.BLKTYPE), "a device"),
        "a FIFO": (kind(tarfile.FIFOTYPE), "a FIFO"),
        "a directory": (kind(tarfile.DIRTYPE), "a directory"),
        "an old directory, by its slash": (named("manifests/", type=tarfile.AREGTYPE), "a directory|not listed"),
        "a contiguous file": (kind(tarfile.CONTTYPE), "unknown kind"),
        "an unknown type": (kind(b"Z"), "unknown kind"),
        "a sparse file": (put(first, header("x.h5", b"S", zeros(0))), "a sparse file"),
        "an extended header": (
            lambda given: Tar(given, tarfile.PAX_FORMAT).bytes((2, "x" * 200, b"", {})), "an extended header",
        ),
        "a global extended header": (put(first, header("g", b"g", zeros(1 << 30))), "an extended header"),
        "an extended header of 1 GB": (put(first, header("x", b"x", zeros(1 << 30))), "an extended header"),
        "an extended header of 2^60 bytes first": (put(lambda t: 0, header("x", b"x", HUGE)), "an extended header"),
        "a long name of 1 GB": (put(first, header("@LongLink", b"L", zeros(1 << 30))), "an extended header"),
        "a long link of 1 GB": (put(first, header("@LongLink", b"K", zeros(1 << 30))), "an extended header"),
        "a manifest of 2^60 bytes": (put(lambda t: 0, header("manifest.json", b"0", HUGE)), "first member"),
        "a manifest of negative size": (put(lambda t: 0, header("manifest.json", b"0", NEGATIVE)), "first member"),
        "a member of negative size": (put(first, header("x.h5", b"0", NEGATIVE)), "not listed"),
        "no manifest": (lambda given: Tar(given[1:]).bytes(), "first member"),
        "the manifest last": (lambda given: Tar([*given[1:], given[0]]).bytes(), "first member"),
        "nothing at all": (lambda given: b"", "empty"),
        "no members": (lambda given: Tar([]).bytes(), "first member|empty"),
        "no tar": (lambda given: b"PK\x03\x04" * 1000, "export writes it"),
        "compressed": (lambda given: __import__("gzip").compress(Tar(given).bytes()), "export writes it"),
        "a shard is missing": (lambda given: Tar(without(given, 3)).bytes(), "is missing"),
        "a shard is shorter": (
            lambda given: Tar([*given[:2], (given[2][0], given[2][1][:-1]), *given[3:]]).bytes(), "its manifest says",
        ),
        "a shard is longer": (
            lambda given: Tar([*given[:2], (given[2][0], given[2][1] + b"0"), *given[3:]]).bytes(), "manifest says",
        ),
        "a bit of a shard": (
            lambda given: Tar([*given[:-1], (given[-1][0], given[-1][1][:-1] + b"~")]).bytes(), "sha256 differs",
        ),
        "two shards' bytes swapped": (lambda given: Tar(swapped(given, -1, -2)).bytes(), "manifest says|sha256"),
        "cut inside a shard": (lambda given: Tar(given).bytes()[:-25_000], "export writes it"),
        "cut inside the manifest": (lambda given: Tar(given).bytes()[:2000], "export writes it"),
        "cut before its end": (lambda given: Tar(given).bytes().rstrip(b"\0").ljust(BLOCK, b"\0"), "export writes it"),
        "another tar behind it": (lambda given: Tar(given).bytes() * 2, "follows its last member"),
        "bytes behind it": (lambda given: Tar(given).bytes() + b"PK\x03\x04", "follows its last member"),
        "2 MB of zeros behind it": (lambda given: Tar(given).bytes() + bytes(2 << 20), "follows its last member"),
        "members behind its end": (
            lambda given: Tar(given).bytes().rstrip(b"\0") + bytes(2048) + Tar([("x.h5", b"x")]).bytes(),
            "follows its last member|copied only in part",
        ),
        "a damaged header": (
            lambda given: (lambda t: t[: first(t)] + b"?" + t[first(t) + 1 :])(Tar(given).bytes()),
            "is missing|follows|export writes it",
        ),
        "a manifest that lists a path": (
            lambda given: Tar(sealed(given, lambda m: m["shards"][0].update(file="../evil.h5"))).bytes(), "manifest",
        ),
        "a manifest that lists one file twice": (
            lambda given: Tar(sealed(given, lambda m: m["shards"].append(m["shards"][-1]))).bytes(), "manifest",
        ),
        "a changed manifest": (
            lambda given: Tar([("manifest.json", given[0][1].replace(b"toy", b"tog")), *given[1:]]).bytes(), "changed",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_a_hostile_tar_is_refused_and_nothing_is_left(name, tars, tmp_path):
    make, told = hostile()[name]
    file, place = tmp_path / "in/a/x.tar", tmp_path / "in/a/shards"  # two folders around, where a traversal would write
    place.mkdir(parents=True)
    file.write_bytes(make(members(tars / "one.tar")))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CacheError, match=told) as caught:
        tar.take(file, place / "toy")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_honest_tar_of_that_table_is_taken(tars, tmp_path):
    (tmp_path / "x.tar").write_bytes(Tar(members(tars / "one.tar")).bytes())
    assert tar.take(tmp_path / "x.tar", tmp_path / "toy").id
    assert len(hostile()) >= 50


def test_a_false_proof_is_refused(tars, tmp_path):
    given = members(tars / "part.tar")
    other = (given[1][0], (tars / "two/toy/manifest.json").read_bytes())
    (tmp_path / "x.tar").write_bytes(Tar([given[0], other, *given[2:]]).bytes())
    with pytest.raises(CacheError, match="is not the manifest of the cache that this is a part of"):
        tar.take(tmp_path / "x.tar", tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_a_bomb_of_headers_costs_no_memory(tars, tmp_path):
    """An extended header that says 1 GB and has it: a sparse file here."""
    data = (tars / "one.tar").read_bytes()
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(data[: first(data)] + header("x", b"x", zeros(1 << 30)))
        file.truncate(2 << 30)
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from cache.sharing import tar\nfrom cache import store\nfrom common.errors import CacheError\n"
        "store._hollow = lambda descriptor: False\n"  # it stands for a file that is there in full
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20,) * 2)\n"
        "try: tar.take(Path(sys.argv[1]), Path(sys.argv[2]))\nexcept CacheError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.tar"), str(tmp_path / "toy")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "an extended header" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["fifo", "directory", "missing"])
def test_what_is_no_file_is_refused_at_once(name, tmp_path):
    path = tmp_path / "x.tar"
    {"fifo": lambda: os.mkfifo(path), "directory": path.mkdir, "missing": lambda: None}[name]()
    with pytest.raises(CacheError, match=r"is not a regular file|cannot open"):
        tar.take(path, tmp_path / "toy")


class Failing:
    """os.write, os.pwrite, os.fsync and so on, of which the k-th call fails."""

    def __init__(self, monkeypatch, k):
        self.count, self.k = 0, k
        for name in ("pwrite", "fsync", "link", "replace"):
            monkeypatch.setattr(os, name, self.around(getattr(os, name)))

    def around(self, inner):
        def call(*arguments, **named):
            self.count += 1
            if self.count == self.k:
                raise OSError(errno.ENOSPC, "No space left on device")
            return inner(*arguments, **named)

        return call


def test_a_full_disk_at_any_call_leaves_nothing_of_an_import(tars, tmp_path, monkeypatch):
    k, count = 0, 1
    while count:
        k += 1
        with monkeypatch.context() as patch:
            failing = Failing(patch, k)
            try:
                tar.take(tars / "one.tar", tmp_path / "toy")
            except CacheError as error:
                assert "No space left on device" in str(error)
                assert not (tmp_path / "toy").exists(), k
            else:
                count = 0
    assert k > 40 and failing.count < k
    assert content(tmp_path / "toy") == content(tars / "one/toy")


def test_a_full_disk_at_any_call_leaves_no_tar(tars, tmp_path, monkeypatch):
    for k in (1, 2, 3):
        with monkeypatch.context() as patch:
            Failing(patch, k)
            with pytest.raises(CacheError, match="No space left on device"):
                tar.export(tars / "one/toy", tmp_path / "x.tar")
        assert list(tmp_path.iterdir()) == []


def test_a_tar_that_appears_meanwhile_is_left_as_it_is(tars, tmp_path, monkeypatch):
    real = os.link
    monkeypatch.setattr(os, "link", lambda *given: (Path(given[1]).write_text("theirs"), real(*given)))
    with pytest.raises(CacheError, match="has appeared meanwhile"):
        tar.export(tars / "one/toy", tmp_path / "x.tar")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_a_kill_leaves_no_cache_and_the_next_import_is_whole(tars, tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom cache.sharing import tar\nfrom cache import store\n"
        "real, left = store.place, [int(sys.argv[3])]\n"
        "def place(*given, **named):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*given, **named)\n"
        "store.place = place\n"
        "tar.take(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    for count in (0, 3, len(members(tars / "one.tar")) - 1):  # before the first shard, later, before the manifest
        command = [sys.executable, "-c", code, str(tars / "one.tar"), str(tmp_path / "toy"), str(count)]
        assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
        with pytest.raises(CacheError):
            melcache.open(tmp_path / "toy")
    tar.take(tars / "one.tar", tmp_path / "toy")
    assert content(tmp_path / "toy") == content(tars / "one/toy")


def test_blocks_of_any_size_give_the_same(tars, tmp_path, monkeypatch):
    for module in (resumable_file, tar, sys.modules["cache.sharing.tar_members"]):
        monkeypatch.setattr(module, "BLOCK", 700)
    tar.export(tars / "one/toy", tmp_path / "x.tar")
    tar.take(tmp_path / "x.tar", tmp_path / "toy")
    assert content(tmp_path / "toy") == content(tars / "one/toy")
    assert hashlib.sha256((tmp_path / "x.tar").read_bytes()).digest() == (
        hashlib.sha256((tars / "one.tar").read_bytes()).digest()
    )


def test_the_commands_round_trip_and_say_one_line_for_a_mistake(tars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tars / "one/toy", tmp_path / "shards/toy")
    run = CliRunner()
    done = run.invoke(app, ["export", "toy", "toy.tar", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["id"] == melcache.open("toy").id
    shutil.rmtree("shards")
    done = run.invoke(app, ["import", "--from", "tar", "toy.tar"])
    assert done.exit_code == 0 and "shards/toy: " in done.stdout
    done = run.invoke(app, ["import", "--from", "tar", "toy.tar", "--name", "other"])
    assert done.exit_code == 0 and content(tmp_path / "shards/other") == content(tars / "one/toy")
    for words, said in ((["tar", "toy.tar", "--regions"], "are for --from drin"), (["drin", "."], "needs --name")):
        done = run.invoke(app, ["import", "--from", *words])
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_a_dataset_whose_name_is_no_directorys_needs_a_name(tars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = sealed(members(tars / "one.tar"), lambda found: found["dataset"].update(name="../toy"))
    Path("x.tar").write_bytes(Tar(given).bytes())
    done = CliRunner().invoke(app, ["import", "--from", "tar", "x.tar"])
    assert done.exit_code == 2 and "'../toy', which names no directory: give --name" in done.stderr
    assert store.sweep(tmp_path) == 0 and sorted(os.listdir(tmp_path)) == ["x.tar"]
