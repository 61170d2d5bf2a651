"""Push and pull over a Hub dataset repository: huggingface_hub's real client against a stand-in for its endpoints.

The stand-in speaks what the client asks for (repo info, tree, preupload, LFS batch and upload, commit with its parent,
resolve with ranges and a redirect to a signed address). Xet, the Hub's newer transfer, has no stand-in: it is off.
"""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

import melcache
from cache import manifests, remotes
from cache.remotes import hub as hubs
from cache.remotes import patience
from cache.remotes.base import SlowError
from cache.sharing import pull, push
from common.errors import CacheError, ConfigError
from tests.copies import is_copy, shard_sizes

constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub: the extra hf")
# huggingface_hub 2.4 uploads to LFS in a way that its own HTTP library calls old
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO, URL, TOKEN = "team/toy", "hf://datasets/team/toy", "hf_hunter2"


class Hub(ThreadingHTTPServer):
    """One dataset repository in memory: commits, each {path: sha256 or bytes}, and what LFS holds."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock, self.requests, self.broken = threading.Lock(), [], {}
        self.large, self.commits = {}, []
        self.commit({})

    def commit(self, files):
        self.commits.append((f"{len(self.commits):040x}", files))

    def files(self, revision="main"):
        return self.commits[-1][1] if revision == "main" else dict(self.commits)[revision]

    def content(self, path, revision="main"):
        held = self.files(revision)[path]
        return held if isinstance(held, bytes) else self.large[held]


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

    def handle_one(self):
        hub, path = self.server, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with hub.lock:
            hub.requests.append((self.command, path, len(body)))
            for part, left in list(hub.broken.items()):
                if part in path:
                    hub.broken[part] = left - 1
                    if left == 1:
                        del hub.broken[part]
                        return self.answer(400, {"error": "the line is broken"})
        signed = path.startswith(("/lfs/", "/cdn/"))  # such addresses carry their own right
        if not signed and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "unauthorized"}, X_Error_Code="RepoNotFound")
        if signed:
            assert "Authorization" not in self.headers  # the token goes to nobody else
        for begin, action in (
            ("/api/validate-yaml", self.yaml),
            (f"/api/datasets/{REPO}/revision/", self.info),
            (f"/api/datasets/{REPO}/tree/", self.tree),
            (f"/api/datasets/{REPO}/preupload/", self.preupload),
            (f"/api/datasets/{REPO}/commit/", self.post_commit),
            (f"/datasets/{REPO}.git/info/lfs/objects/batch", self.batch),
            (f"/datasets/{REPO}/resolve/", self.resolve),
            ("/lfs/", self.put_large),
            ("/cdn/", self.get_large),
        ):
            if path.startswith(begin):
                return action(path.removeprefix(begin), body)
        return self.answer(404, {"error": "not found"}, X_Error_Code="RepoNotFound")

    do_GET = do_POST = do_PUT = do_HEAD = handle_one  # noqa: N815

    def yaml(self, _, body):
        text = json.loads(body)["content"]
        assert text.startswith("---\nlicense: cc0-1.0\n") and "\n---\n" in text
        self.answer(200, {"errors": [], "warnings": []})

    def info(self, revision, _):
        sha = self.server.commits[-1][0]
        if revision not in ("main", sha):
            return self.answer(404, {"error": "no such branch"}, X_Error_Code="RevisionNotFound")
        return self.answer(200, {"id": REPO, "sha": sha, "siblings": []})

    def tree(self, where, _):
        revision, _, folder = where.partition("/")
        found, folders = [], set()
        for path, held in self.server.files(revision).items():
            inside = path.removeprefix(f"{folder}/") if folder else path
            if folder and inside == path:
                continue
            if "/" in inside:
                folders.add(inside.split("/")[0])
                continue
            size = len(self.server.content(path, revision))
            large = {} if isinstance(held, bytes) else {"lfs": {"oid": held, "size": size, "pointerSize": 130}}
            found.append({"type": "file", "path": path, "size": size, "oid": "0" * 40, **large})
        if folder and not found:
            return self.answer(404, {"error": "no such folder"}, X_Error_Code="EntryNotFound")
        return self.answer(200, found + [{"type": "directory", "path": p, "oid": "0" * 40} for p in folders])

    def preupload(self, _, body):
        modes = {True: "lfs", False: "regular"}
        files = [
            {"path": f["path"], "uploadMode": modes[f["path"].endswith(".h5")], "shouldIgnore": False, "oid": None}
            for f in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, _, body):
        objects = []
        for wanted in json.loads(body)["objects"]:
            to = {"actions": {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}?Signature=hunter2"}}}
            objects.append(wanted | ({} if wanted["oid"] in self.server.large else to))
        self.answer(200, {"transfer": "basic", "objects": objects})

    def put_large(self, oid, body):
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large[oid] = body
        self.answer(200)

    def post_commit(self, _, body):
        lines = [json.loads(line) for line in body.splitlines()]
        with self.server.lock:
            if lines[0]["value"]["parentCommit"] != self.server.commits[-1][0]:
                return self.answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            files = dict(self.server.files())
            for line in lines[1:]:
                value = line["value"]
                files[value["path"]] = base64.b64decode(value["content"]) if line["key"] == "file" else value["oid"]
                assert line["key"] == "file" or value["oid"] in self.server.large
            self.server.commit(files)
            sha = self.server.commits[-1][0]
        return self.answer(
            200, {"commitUrl": f"{self.server.url}/datasets/{REPO}/commit/{sha}", "commitOid": sha, "success": True}
        )

    def resolve(self, where, _):
        revision, _, path = where.partition("/")
        held = self.server.files(revision).get(path)
        if held is None:
            return self.answer(404, {"error": "no such file"}, X_Error_Code="EntryNotFound")
        if isinstance(held, str):
            return self.answer(
                302, Location=f"{self.server.url.replace('127.0.0.1', 'localhost')}/cdn/{held}?Signature=hunter2"
            )
        return self.send_range(held)

    def get_large(self, oid, _):
        self.send_range(self.server.large[oid])

    def send_range(self, data):
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1]
        self.answer(206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")


@pytest.fixture
def hub(monkeypatch):
    found = Hub()
    threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "ENDPOINT", found.url)  # both from HF_ENDPOINT, read on import
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield found
    found.shutdown()
    found.server_close()


@pytest.mark.parametrize("url", [URL, f"{URL}@main/caches/v1"])
def test_a_push_is_one_commit_and_comes_back_whole_or_in_parts(two_caches, hub, tmp_path, url):
    one, two = two_caches / "one/toy", two_caches / "two/toy"
    done = push.push(one, url)
    assert done.sent == done.total and len(hub.commits) == 2
    inside = url.removeprefix(URL).removeprefix("@main/")
    files = {path.removeprefix(inside).lstrip("/") for path in hub.files()}
    assert files == {*shard_sizes(one), "manifest.json", "README.md", manifests.copy_of(done.id)}
    readme = next(hub.content(path) for path in hub.files() if path.endswith("README.md")).decode()
    assert readme.startswith("---\nlicense: cc0-1.0\n") and done.id in readme
    assert "nothing to do" in str(push.push(one, url)) and len(hub.commits) == 2
    gone = next(path for path in hub.files() if "entity.text" in path)
    hub.commit({path: held for path, held in hub.files().items() if path != gone})
    assert push.push(one, url).sent and gone in hub.files() and len(hub.commits) == 4  # mended

    part = pull.pull(tmp_path / "here", url, heads="bert")
    assert part.taken < done.total / 3 and melcache.open(tmp_path / "here").id == done.id
    assert pull.pull(tmp_path / "here", url).taken == done.total - part.taken and is_copy(tmp_path / "here", one)
    with pytest.raises(CacheError, match="has another cache"):
        push.push(two, url)
    assert push.push(two, url, replace=True).news == ("manifest", "copy", "card")
    assert pull.pull(tmp_path / "old", url, identity=done.id).id == done.id and is_copy(tmp_path / "old", one)


def test_an_interrupted_push_commits_nothing_and_sends_no_content_twice(two_caches, hub, monkeypatch):
    monkeypatch.setattr(hubs.Hub, "threads", 1)
    one = two_caches / "one/toy"
    for place, left in (("/lfs/", 3), ("/preupload/", 5), ("/commit/", 1)):
        hub.broken = {place: left}
        with pytest.raises(CacheError, match=rf"^cannot (upload to|publish in) {URL}: [^\n]*the line is broken"):
            push.push(one, URL)
        assert len(hub.commits) == 1
    push.push(one, URL)
    sent = sum(size for method, path, size in hub.requests if method == "PUT" and path.startswith("/lfs/"))
    assert len(hub.commits) == 2 and sum(shard_sizes(one).values()) <= sent  # the broken call had read its body
    assert sent <= sum(shard_sizes(one).values()) + max(shard_sizes(one).values())


def test_an_interrupted_pull_goes_on_inside_the_file_and_keeps_to_its_commit(two_caches, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hubs.Hub, "threads", 1)
    monkeypatch.setattr(hubs.Hub, "block_size", 3000)
    one = two_caches / "one/toy"
    push.push(one, URL)
    hub.broken = {"/cdn/": 5}
    with pytest.raises(CacheError, match=rf"cannot read {URL}: "):
        pull.pull(tmp_path / "here", URL)
    assert not (tmp_path / "here/manifest.json").exists()
    before = len(hub.requests)
    done = pull.pull(tmp_path / "here", URL)
    assert 0 < done.taken <= done.whole - 3 * 1000 and is_copy(tmp_path / "here", one)
    assert all("/resolve/main/" not in path for _, path, _ in hub.requests[before:])  # but at a commit


def test_of_two_pushers_at_once_one_commits_and_a_foreign_commit_is_no_obstacle(two_caches, hub, monkeypatch):
    one, two = two_caches / "one/toy", two_caches / "two/toy"
    inner, turns = hubs.Hub.publish, [lambda: hub.commit(hub.files() | {"notes.txt": b"of a person"})]

    def publish(self, what, version):
        if turns:
            turns.pop()()
        inner(self, what, version)

    monkeypatch.setattr(hubs.Hub, "publish", publish)
    push.push(one, URL)  # someone has committed something else meanwhile: published all the same
    assert hub.content("notes.txt") and len(hub.commits) == 3
    turns.append(lambda: push.push(two, URL, replace=True))
    third = tmp_copy(one, hub)
    with pytest.raises(CacheError, match=rf"someone else has just published cache {melcache.open(two).id}") as caught:
        push.push(third, URL, replace=True)
    assert str(caught.value).endswith("push again with --replace")  # nothing of it was committed
    assert hub.content("manifest.json") == (two / "manifest.json").read_bytes()


def tmp_copy(one, hub):
    """A third cache: the first one, from another release."""
    to = one.parent.parent / "three/toy"
    to.mkdir(parents=True)
    for path in one.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    found = json.loads((to / "manifest.json").read_text())
    found["dataset"]["source"] = "another release"
    (to / "manifest.json").write_bytes(manifests.written(manifests.seal(found)))
    return to


def test_a_changed_shard_or_card_is_noticed(two_caches, hub, tmp_path):
    one = two_caches / "one/toy"
    push.push(one, URL)
    name = min(shard_sizes(one))
    oid = hub.files()[name]
    hub.large[oid] = hub.large[oid][:-1] + b"\x7f"
    with pytest.raises(CacheError, match=rf"{URL}/{name} does not match its manifest after two tries"):
        pull.pull(tmp_path / "here", URL)
    local = tmp_path / "local/toy"
    local.mkdir(parents=True)
    for path in one.iterdir():
        (local / path.name).write_bytes(path.read_bytes())
    (local / name).write_bytes((local / name).read_bytes()[:-1] + b"\x7f")
    hub.commit({})
    with pytest.raises(CacheError, match=r"is not what its manifest lists, so it is not uploaded"):
        push.push(local, URL)
    assert hub.files() == {}
    hub.commit({"README.md": b"# written by a person"})
    push.push(two_caches / "two/toy", URL)
    assert hub.content("README.md") == b"# written by a person"


def test_a_body_that_drips_is_left_after_a_window(hub, monkeypatch):
    @contextlib.contextmanager
    def reply(*given, **named):
        yield SimpleNamespace(status_code=200, iter_bytes=drops)

    def drops():
        nonlocal now
        while True:
            now += 1
            yield b"x"

    now, place = 0, remotes.open(URL)
    monkeypatch.setattr(patience, "clock", lambda: now)
    place._utils = SimpleNamespace(
        http_stream_backoff=reply, build_hf_headers=dict, hf_raise_for_status=lambda found: None
    )
    with pytest.raises(SlowError, match=f"cannot read {URL}: less than 65.5 kB came in 60 s"):
        place.read("manifest.json", 1000)
    assert now == patience.WINDOW


def test_every_failure_is_one_line_without_the_token(two_caches, hub, tmp_path, monkeypatch):
    one = two_caches / "one/toy"

    def line(action, *arguments):
        with pytest.raises((CacheError, ConfigError)) as caught:
            action(*arguments)
        assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value)
        return str(caught.value)

    assert f"there is no cache at {URL}" in line(pull.pull, tmp_path / "here", URL)
    assert "has no branch v9" in line(pull.pull, tmp_path / "here", URL + "@v9")
    for url in ("hf://datasets/team", "hf://spaces/team/toy"):
        assert "is not a dataset repository" in line(remotes.open, url)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_hunter2")
    for action, arguments in ((push.push, (one, URL)), (pull.pull, (tmp_path / "here", URL))):
        assert "Log in with hf auth login, correct the URL, or create it: hf repos create team/toy" in line(
            action, *arguments
        )
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "Check the network and run the same command again" in line(push.push, one, URL)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot read" in line(push.push, one, URL)
    assert not (tmp_path / "here").exists()
