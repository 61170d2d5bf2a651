"""Push and pull over Google Cloud Storage: gcsfs's real client against a stand-in for the endpoints that it calls."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

import melcache
from cache import manifests
from cache.remotes import gcs
from cache.sharing import pull, push
from cache.writing import synth
from common.errors import CacheError
from tests.copies import hand_over, is_copy, shard_sizes

pytest.importorskip("gcsfs", reason="needs gcsfs: the extra gcs, which is not in the group dev")

URL = "gs://team/caches/toy"
PART = 1 << 18  # the unit of a resumable upload


class Bucket(ThreadingHTTPServer):
    """One bucket in memory: {name: (data, generation, metadata)}, and uploads that are not whole yet."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock, self.held, self.begun, self.generation, self.broken = threading.Lock(), {}, {}, 0, None

    def put(self, name, data, condition, metadata):
        """Store an object if the generation there is the condition; return whether it was."""
        with self.lock:
            if condition is not None and int(condition) != (self.held[name][1] if name in self.held else 0):
                return False
            self.generation += 1
            self.held[name] = (data, self.generation, metadata)
        return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def about(self, name):
        data, generation, metadata = self.server.held[name]
        found = {"kind": "storage#object", "name": name, "bucket": "team", "size": len(data), "metadata": metadata}
        return found | {"generation": str(generation), "updated": "2026-01-01T00:00:00Z"}

    def handle_one(self):
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.broken and self.server.broken(self.command, path, self.headers):
            return self.answer(400, {"error": {"message": "the line is broken"}})
        if "/b/team/" not in path:
            return self.answer(404, {"error": {"message": "no such bucket"}})
        name = path.partition("/o/")[2]
        if path.startswith("/upload/"):
            return self.upload(query, body)
        if path.startswith("/download/"):
            return self.download(name)
        if name and self.command == "DELETE":
            gone = self.server.held.pop(name, None)
            return self.answer(204) if gone else self.answer(404, {"error": {}})
        if name:
            return self.answer(200, self.about(name)) if name in self.server.held else self.answer(404, {"error": {}})
        return self.list(query)

    do_GET = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815

    def upload(self, query, body):
        server = self.server
        if query["uploadType"] == "media":
            done = server.put(query["name"], body, query.get("ifGenerationMatch"), {})
            return (
                self.answer(200, self.about(query["name"]))
                if done
                else self.answer(412, {"error": {"message": "conditionNotMet"}})
            )
        if "upload_id" not in query:
            number = str(len(server.begun))
            server.begun[number] = (query, json.loads(body)["metadata"], bytearray())
            return self.answer(200, Location=f"{server.url}{self.path}&upload_id={number}")
        first, metadata, data = server.begun[query["upload_id"]]
        span, _, total = self.headers["Content-Range"].removeprefix("bytes ").partition("/")
        assert int(span.partition("-")[0]) == len(data)
        data += body
        if len(data) < int(total):
            assert len(body) % (1 << 18) == 0  # as Google asks of all but the last
            return self.answer(308, Range=f"bytes=0-{len(data) - 1}")
        done = server.put(first["name"], bytes(data), first.get("ifGenerationMatch"), metadata)
        return self.answer(200, {}) if done else self.answer(412, {"error": {"message": "conditionNotMet"}})

    def download(self, name):
        if name not in self.server.held:
            return self.answer(404, b"No such object")
        data, generation, _ = self.server.held[name]
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        return self.answer(206, data[int(first) : int(last) + 1], X_Goog_Generation=generation)

    def list(self, query):
        names = [name for name in self.server.held if name.startswith(query.get("prefix", ""))]
        direct = [name for name in names if "/" not in name.removeprefix(query.get("prefix", ""))]
        return self.answer(200, {"kind": "storage#objects", "items": [self.about(name) for name in direct]})


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A cache with a shard of several parts of an upload."""
    folder = tmp_path_factory.mktemp("large") / "toy"
    synth.write(folder, synth.Synthetic(60, 4000, 5, 0.5, 0, "bert", text_width=100))
    return folder


@pytest.fixture
def bucket(monkeypatch):
    found = Bucket()
    threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", found.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield found
    found.shutdown()
    found.server_close()


def test_a_cache_goes_there_and_back_and_two_pushers_do_not_mix(two_caches, large, bucket, tmp_path, monkeypatch):
    one, two = two_caches / "one/toy", two_caches / "two/toy"
    done = push.push(one, URL)
    names = {name.removeprefix("caches/toy/") for name in bucket.held}
    assert names == {*shard_sizes(one), "manifest.json", "README.md", manifests.copy_of(done.id)}
    assert "nothing to do" in str(push.push(one, URL))
    part = pull.pull(tmp_path / "here", URL, heads="bert")
    assert pull.pull(tmp_path / "here", URL).taken == done.total - part.taken and is_copy(tmp_path / "here", one)

    inner, turns = gcs.Gcs.publish, [lambda: push.push(two, URL, replace=True)]

    def publish(self, what, version):
        if turns:
            turns.pop()()
        inner(self, what, version)

    monkeypatch.setattr(gcs.Gcs, "publish", publish)
    with pytest.raises(CacheError, match="someone else has just published cache"):
        push.push(large, URL, replace=True)
    assert pull.pull(tmp_path / "new", URL).id == melcache.open(two).id and is_copy(tmp_path / "new", two)
    assert pull.pull(tmp_path / "old", URL, identity=done.id).id == done.id


def test_a_large_shard_goes_in_blocks_and_an_interrupted_push_goes_on(large, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(gcs.Gcs, "block_size", PART)
    monkeypatch.setattr(gcs.Gcs, "threads", 1)
    (name,) = [file for file, size in shard_sizes(large).items() if size > 2 * PART]
    bucket.broken = lambda method, path, headers: f"bytes {2 * PART}-" in headers.get("Content-Range", "")
    with pytest.raises(CacheError, match=rf"^cannot upload to {URL}: [^\n]*the line is broken"):
        push.push(large, URL)
    assert f"caches/toy/{name}" not in bucket.held and "caches/toy/manifest.json" not in bucket.held
    bucket.broken, before = None, dict(bucket.held)
    push.push(large, URL)
    assert all(bucket.held[known] == held for known, held in before.items())
    assert bucket.held[f"caches/toy/{name}"][2]["sha256"] in (large / "manifest.json").read_text()
    pull.pull(tmp_path / "here", URL)
    assert is_copy(tmp_path / "here", large)


def test_failures_are_one_line(two_caches, bucket, tmp_path):
    with pytest.raises(CacheError, match=r"^there is no cache at gs://team/none: no manifest\.json"):
        pull.pull(tmp_path / "here", "gs://team/none")
    with pytest.raises(CacheError, match=r"^cannot upload to gs://nobody/toy: there is no bucket nobody"):
        push.push(two_caches / "one/toy", "gs://nobody/toy")


def test_small_files_change_hands_by_conditions(bucket):
    hand_over(gcs.Gcs(URL))
    assert bucket.held == {}
