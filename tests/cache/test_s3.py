"""Push and pull over S3, by s3fs's real client against moto's server on loopback."""

import contextlib
import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fsspec.asyn import sync_wrapper

import melcache
from cache import manifests, remotes
from cache.remotes import base, patience, s3
from cache.remotes.meeting_names import MEETING
from cache.sharing import board, pull, push
from cache.writing import synth
from common.errors import CacheError, ConfigError
from tests.copies import hand_over, is_copy, shard_sizes
from torture.clusters.tiny_machine import Machine

boto3 = pytest.importorskip("boto3", reason="needs boto3, s3fs and moto[server]")
s3fs = pytest.importorskip("s3fs", reason="needs s3fs: the extra s3")
moto = pytest.importorskip("moto.server", reason="needs moto[server]: the group dev")
responses = pytest.importorskip("moto.s3.responses", reason="needs moto[server]: the group dev")

URL = "s3://team/caches/toy"
FEW = {"entity.ids": (("id", "name", "image_status"), 6), "mention.text": (("span", "found"), 3)}  # three ranges
PART = 5 << 20  # the least that S3 takes as a part of an upload


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A cache with a shard of several parts of an upload."""
    folder = tmp_path_factory.mktemp("large") / "toy"
    synth.write(folder, synth.Synthetic(60, 6000, 5, 0.5, 0, "bert", text_width=1000))
    return folder


@pytest.fixture(scope="module")
def server():
    found = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    found.start()
    yield "http://{}:{}".format(*found.get_host_and_port())
    found.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """A boto3 client of an empty bucket; the environment points s3fs at the same server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="team")
    yield client
    for found in client.list_objects_v2(Bucket="team").get("Contents", []):
        client.delete_object(Bucket="team", Key=found["Key"])
    client.delete_bucket(Bucket="team")


def names(client):
    found = client.list_objects_v2(Bucket="team").get("Contents", [])
    return {each["Key"].removeprefix("caches/toy/"): each["Size"] for each in found}


def test_a_cache_goes_to_s3_and_back_in_parts_or_whole(two_caches, bucket, tmp_path):
    one = two_caches / "one/toy"
    done = push.push(one, URL)
    assert done.sent == done.total and "published" in str(done)
    held = names(bucket)
    assert {name: held[name] for name in shard_sizes(one)} == shard_sizes(one)
    assert held.keys() - shard_sizes(one).keys() == {"manifest.json", manifests.copy_of(done.id), "README.md"}
    assert "nothing to do" in str(push.push(one, URL + "/"))

    part = pull.pull(tmp_path / "part", URL, heads="bert")
    assert part.taken < done.total / 3 and melcache.open(tmp_path / "part").id == done.id
    rest = pull.pull(tmp_path / "part", URL)
    assert rest.taken == done.total - part.taken and is_copy(tmp_path / "part", one)
    older = push.push(two_caches / "two/toy", URL, replace=True).id
    assert pull.pull(tmp_path / "new", URL).id == older
    assert pull.pull(tmp_path / "old", URL, identity=done.id).id == done.id and is_copy(tmp_path / "old", one)


def test_a_large_shard_goes_in_parts_and_is_seen_when_all_are_there(large, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3.S3, "block_size", PART)
    (name,) = [file for file, size in shard_sizes(large).items() if size > 2 * PART]
    with failing(monkeypatch, "upload_part", 2), pytest.raises(CacheError, match=f"cannot upload to {URL}: .*broken"):
        push.push(large, URL)
    assert name not in names(bucket) and "manifest.json" not in names(bucket)
    assert "Uploads" not in bucket.list_multipart_uploads(Bucket="team")  # given up in order, nothing to pay for
    push.push(large, URL)
    head = bucket.head_object(Bucket="team", Key=f"caches/toy/{name}")
    assert head["ETag"].endswith('-3"') and head["Metadata"]["sha256"] in (large / "manifest.json").read_text()
    pull.pull(tmp_path / "here", URL)
    assert is_copy(tmp_path / "here", large)


@contextlib.contextmanager
def failing(monkeypatch, method, k):
    """The k-th call of an S3 method breaks off; yields how often it was called."""
    inner, calls = s3fs.S3FileSystem.call_s3, []

    def call(self, name, *arguments, **named):
        if name == method:
            calls.append(named.get("Key"))
            if len(calls) == k:
                raise OSError(errno.EIO, "the line is broken")
        return inner(self, name, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "call_s3", call)
        yield calls


def test_an_interrupted_push_publishes_nothing_and_goes_on_where_it_ended(two_caches, bucket, monkeypatch):
    monkeypatch.setattr(s3.S3, "threads", 1)
    one = two_caches / "one/toy"
    total = len(shard_sizes(one))
    for k in (2, total + 1, total + 3):  # shards; then the copy, the question, the manifest, the card
        with failing(monkeypatch, "put_object", k), pytest.raises(CacheError, match="the line is broken"):
            push.push(one, URL)
        assert "manifest.json" not in names(bucket)
        with failing(monkeypatch, "put_object", 0) as calls:
            push.push(one, URL)
        sent = [key for key in calls if key.endswith(".h5")]
        assert len(sent) == max(0, total - k + 1)  # what was there is known by the hash that its upload noted
        assert names(bucket).items() >= shard_sizes(one).items()
        for name in names(bucket):
            bucket.delete_object(Bucket="team", Key=f"caches/toy/{name}")


def test_an_interrupted_pull_goes_on_inside_the_file(two_caches, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3.S3, "threads", 1)
    one = two_caches / "one/toy"
    push.push(one, URL)
    monkeypatch.setattr(s3.S3, "block_size", 3000)
    total, inner, taken = sum(shard_sizes(one).values()), s3.S3.block, []

    def block(*arguments):
        if len(taken) == 4:
            raise CacheError("the line is broken")
        taken.append(inner(*arguments))
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr(s3.S3, "block", block)
        with pytest.raises(CacheError, match="the line is broken"):
            pull.pull(tmp_path / "here", URL)
    assert not (tmp_path / "here/manifest.json").exists()
    assert pull.pull(tmp_path / "here", URL).taken == total - sum(map(len, taken)) and is_copy(tmp_path / "here", one)


def test_of_two_pushers_at_once_exactly_one_wins(two_caches, large, bucket, tmp_path, monkeypatch):
    inner, put, turn = s3.S3.listing, responses.S3Response.put_object, threading.Lock()

    def atomic(self):  # moto looks and writes in two steps; S3 does not
        with turn:
            return put(self)

    monkeypatch.setattr(responses.S3Response, "put_object", atomic)
    ids = {melcache.open(two_caches / name / "toy").id: name for name in ("one", "two")}
    for number in range(2):
        both, met, found = threading.Barrier(2), threading.local(), []

        def listing(self, both=both, met=met):
            if not hasattr(met, "met"):  # both have seen what is there before either publishes
                met.met = both.wait(600)
            return inner(self)

        def run(name, found=found, replace=number > 0):
            try:
                found.append(push.push(two_caches / name / "toy", URL, replace=replace).id)
            except CacheError as error:
                found.append(str(error))

        if number:  # over what is there: If-Match; else If-None-Match
            push.push(large, URL, replace=True)
        with monkeypatch.context() as patch:
            patch.setattr(s3.S3, "listing", listing)
            pushers = [threading.Thread(target=run, args=(name,)) for name in ids.values()]
            for pusher in pushers:
                pusher.start()
            for pusher in pushers:
                pusher.join()
        (won,) = ids.keys() & set(found)
        (line,) = set(found) - {won}
        assert f"someone else has just published cache {won} at {URL}" in line
        assert pull.pull(tmp_path / f"{number}", URL).id == won and is_copy(
            tmp_path / f"{number}", two_caches / ids[won] / "toy"
        )
        for name in names(bucket):
            bucket.delete_object(Bucket="team", Key=f"caches/toy/{name}")


def test_a_store_that_ignores_conditions_is_found_out(two_caches, bucket, monkeypatch, capsys):
    inner = s3.S3._kept

    def kept(self, method, arguments):
        return inner(self, method, {k: v for k, v in arguments.items() if k not in ("IfMatch", "IfNoneMatch")})

    monkeypatch.setattr(s3.S3, "_kept", kept)
    push.push(two_caches / "one/toy", URL)
    assert f"{URL} does not support conditional writes" in capsys.readouterr().err
    monkeypatch.undo()


def test_damage_in_the_bucket_is_refused_and_mended(two_caches, bucket, tmp_path):
    one = two_caches / "one/toy"
    push.push(one, URL)
    name = min(shard_sizes(one))
    good = (one / name).read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-1], None):
        if bad is None:
            bucket.delete_object(Bucket="team", Key=f"caches/toy/{name}")
        else:
            bucket.put_object(Bucket="team", Key=f"caches/toy/{name}", Body=bad)
        with pytest.raises(CacheError, match=rf"{URL}/{name} (does not match|ends inside|is missing)"):
            pull.pull(tmp_path / "here", URL)
        assert push.push(one, URL, check=True).sent == len(good)
    pull.pull(tmp_path / "here", URL)
    assert is_copy(tmp_path / "here", one)


def replies(monkeypatch, change):
    """What the server answers goes through a function of the method and the reply."""
    inner = s3fs.S3FileSystem._call_s3

    async def call(self, method, *arguments, **named):
        return change(method, await inner(self, method, *arguments, **named))

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", sync_wrapper(call))


def test_a_server_without_etags_is_like_one_without_conditions(two_caches, bucket, tmp_path, monkeypatch, capsys):
    replies(monkeypatch, lambda method, reply: {name: value for name, value in reply.items() if name != "ETag"})
    first = push.push(two_caches / "one/toy", URL).id
    assert "nothing to do" in str(push.push(two_caches / "one/toy", URL))
    assert "does not support conditional writes" not in capsys.readouterr().err  # nothing was there to be replaced
    second = push.push(two_caches / "two/toy", URL, replace=True).id
    assert f"{URL} does not support conditional writes" in capsys.readouterr().err
    assert pull.pull(tmp_path / "here", URL).id == second and is_copy(tmp_path / "here", two_caches / "two/toy")
    assert pull.pull(tmp_path / "old", URL, identity=first).id == first


@pytest.fixture
def place(bucket):
    """The remote, with three small files in it."""
    for name in ("a", "b", "manifests/c"):
        bucket.put_object(Bucket="team", Key=f"caches/toy/{name}", Body=b"0123456789")
    return remotes.open(URL)


@pytest.mark.parametrize(
    ("method", "lacking", "doing"),
    [
        ("list_objects_v2", {"Contents": [{"Key": "x"}]}, lambda place: place.listing()),
        ("get_object", {}, lambda place: place.block("a", 0, 5)),
    ],
)
def test_an_answer_without_what_it_should_hold_is_one_line(place, monkeypatch, method, lacking, doing):
    replies(monkeypatch, lambda called, reply: lacking if called == method else reply)
    with pytest.raises(CacheError, match=r"an unexpected answer \(KeyError: '(Size|Body)'\)"):
        doing(place)


def test_a_body_that_drips_is_left_after_a_window(place, monkeypatch):
    class Drip:
        async def read(self, count):
            nonlocal now
            now += 1
            return b"x"

        def close(self):
            pass

    now = 0
    monkeypatch.setattr(patience, "clock", lambda: now)
    replies(monkeypatch, lambda method, reply: reply | {"Body": Drip()})
    with pytest.raises(base.SlowError, match=f"cannot read {URL}: less than 65.5 kB came in 60 s"):
        place.block("a", 0, 1000)
    assert now == patience.WINDOW


def test_a_listing_of_many_pages_is_whole(place, monkeypatch):
    inner = s3fs.S3FileSystem.call_s3

    def call(self, method, **named):
        pages.append(method)
        return inner(self, method, **named, MaxKeys=1)

    pages = []
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", call)
    assert place.listing() == {"a": 10, "b": 10, "manifests/c": 10} and len(pages) > 3


def test_a_server_that_ignores_ranges_is_refused_where_that_matters(place, monkeypatch):
    whole = {"ResponseMetadata": {"HTTPStatusCode": 200}}
    replies(monkeypatch, lambda method, reply: reply | whole)
    assert place.block("a", 0, 5) == b"01234"
    with pytest.raises(CacheError, match="the server sends whole files only"):
        place.block("a", 5, 5)


def test_every_failure_is_one_line_without_secrets(two_caches, bucket, tmp_path, monkeypatch):
    one, here = two_caches / "one/toy", tmp_path / "here"

    def line(action, url):
        with pytest.raises(CacheError) as caught:
            action(url)
        assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value) and url in str(caught.value)
        return str(caught.value)

    def pushing(url):
        push.push(one, url)

    def pulling(url):
        pull.pull(here, url)

    assert "no cache at s3://team/caches/toy: no manifest.json" in line(pulling, URL)
    for action in (pushing, pulling):
        assert "there is no bucket nobody. Correct the URL, or create it: aws s3 mb s3://nobody" in line(
            action, "s3://nobody/toy"
        )
    push.push(one, URL + "/deeper/toy")
    with pytest.raises(CacheError, match="Did you mean s3://team/caches/toy/deeper/toy"):
        pull.pull(tmp_path / "toy", URL + "/deeper")
    monkeypatch.setattr(base, "WAITS", (0.01,))
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "no credentials. Set AWS_PROFILE" in line(pushing, URL)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "Check the network and run the same command again" in line(pulling, URL)
    with pytest.raises(ConfigError, match="such as s3://team/caches/demo"):
        remotes.open("s3:///")
    assert not here.exists()


def test_small_files_change_hands_by_conditions(bucket):
    hand_over(remotes.open(URL))
    assert names(bucket) == {}


def test_machines_that_share_no_folder_meet_in_a_bucket(bucket, tmp_path, monkeypatch, without_fsync):
    monkeypatch.setattr(board, "POLL", 0.05)
    machines = [
        Machine(tmp_path / letter / "toy", URL, tmp_path / f"log-{letter}", seconds=0.05, parts=FEW, poll=0.02)
        for letter in "ab"
    ]
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(Machine.work, machines)
    made = [line for letter in "ab" for line in (tmp_path / f"log-{letter}").read_text().splitlines() if " " in line]
    assert one == two and len(made) == len(set(made)) == 3
    assert pull.pull(tmp_path / "c", URL).id == one and not [name for name in names(bucket) if MEETING in name]
