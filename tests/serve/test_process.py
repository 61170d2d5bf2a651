"""The process that serves, over sockets: how it begins and ends, and clients that are slow, many, or speak no HTTP."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import ConfigError
from serve import server
from serve.config import ServeConfig
from serve.door.peers import peer
from tests.serve.fake_linker import FakeLinker

ROOT = Path(__file__).parents[2]
ASKED = {"mentions": [{"text": "Super G in Vail", "mention": "Super G"}]}


@contextlib.contextmanager
def running(folder, *options):
    """Yield a server's process and port; it is killed if it still runs behind the block."""
    command = [sys.executable, "-m", "tests.serve.run_fake", str(folder), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline()
            assert said.startswith("open http://127.0.0.1:"), process.stderr.read() if process.poll() else said
            yield process, int(said.rpartition(":")[2])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of a server with 20 connections, 12 of one peer, that waits 1 s for heads, and takes 1 MB a request."""
    bounds = ("max_connections=20", "max_connections_each=12", "head=1", "max_request=1")
    with running(tmp_path_factory.mktemp("served"), *bounds) as (process, found):
        yield found
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0 and process.stderr.read() == ""


@pytest.mark.parametrize(
    ("limits", "given"), [((256, 4096), (640, 4096)), ((256, -1), (640, -1)), ((1024, 4096), None)]
)
def test_each_connection_that_may_come_has_a_descriptor(limits, given, monkeypatch):
    asked = []
    monkeypatch.setattr(server.resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(server.resource, "setrlimit", lambda which, found: asked.append(found))
    server.bound(ServeConfig(Path("run"), port=0)).close()
    assert asked == [given] * (given is not None)


def test_more_connections_than_the_process_may_have_descriptors_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(server.resource, "getrlimit", lambda which: (64, 512))
    with pytest.raises(ConfigError, match=r"--max-connections 512 takes 640 .* may have 512 .*Lower it to 384"):
        server.bound(ServeConfig(Path("run"), port=0))


def said_to(port, *parts, pause=0.0, by="127.0.0.1"):
    """What comes back on a connection until the server hangs up, b"" if nothing does."""
    with socket.create_connection(("127.0.0.1", port), 15, (by, 0)) as connection:
        with contextlib.suppress(ConnectionError):  # it has answered already
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                found += part
        return found


def post(body, *headers):
    lines = ["POST /api/link HTTP/1.1", "host: 127.0.0.1", "connection: close", "content-type: application/json"]
    return "\r\n".join([*lines, f"content-length: {len(body)}", *headers, "", ""]).encode() + body


def works(port, by="127.0.0.1"):
    status, _, rest = said_to(port, post(json.dumps(ASKED).encode()), by=by).partition(b"\r\n")
    assert status == b"HTTP/1.1 200 OK", status
    return json.loads(rest.partition(b"\r\n\r\n")[2])[0]["candidates"][0]["id"] == "Q0"


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -1\r\n\r\n",
    ],
    ids=range(8),
)
def test_what_is_no_http_is_refused_in_the_form_of_all_errors(port, data):
    head, _, body = said_to(port, data).partition(b"\r\n\r\n")
    large = len(data) > 99_999  # in one piece it can be read, but is not
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")[: 1 + large]), head
    if not data.startswith(b"GET / "):  # else it is said on the page
        assert list(json.loads(body)) == ["error"]
    assert works(port)


def test_who_is_slow_is_cut_off(port):
    begun = time.monotonic()
    assert said_to(port, b"GET / HT") == b""
    assert said_to(port, *[b"GET / HTTP/1.1\r\n", *[b"x: y\r\n"] * 30], pause=0.2) == b""
    assert time.monotonic() - begun < 14  # of 20 s that one of them would take
    assert works(port)


def test_half_bodies_and_broken_chunks_leave_nothing_behind(port):
    chunked = post(b"", "transfer-encoding: chunked").replace(b"content-length: 0\r\n", b"") + b"zz\r\n"
    for data in (post(b"x" * 500)[:-200], chunked):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port), 15) as connection:
                connection.sendall(data)
    assert works(port)


def test_a_form_that_is_none_is_refused_without_a_line_on_the_terminal(port):
    form = (
        post(b"--x\r\n{: }\r\n")
        .replace(b"/api/link", b"/")
        .replace(b"application/json", b"multipart/form-data; boundary=x")
    )
    assert said_to(port, form).startswith(b"HTTP/1.1 422 ")  # that stderr stays empty is seen when the server ends


def test_a_body_that_is_too_large_is_answered_though_its_sender_reads_only_then(port):
    assert said_to(port, post(b"x" * 3_000_000)).startswith(b"HTTP/1.1 413 ")


def test_more_connections_than_there_may_be_are_refused_at_once_and_the_rest_lives(port):
    with contextlib.ExitStack() as opened:
        for n in range(20):
            opened.enter_context(socket.create_connection(("127.0.0.1", port), 15, (f"127.0.0.{2 + n % 2}", 0)))
        time.sleep(0.2)
        head, _, body = said_to(port).partition(b"\r\n\r\n")
        assert (
            head.startswith(b"HTTP/1.1 503 ")
            and b"retry-after" in head
            and "20 connections" in json.loads(body)["error"]
        )
    time.sleep(0.2)
    assert works(port)


def test_one_address_has_its_share_of_connections_and_others_are_answered(port):
    with contextlib.ExitStack() as opened:
        for _ in range(12):
            opened.enter_context(socket.create_connection(("127.0.0.1", port), 15, ("127.0.0.2", 0)))
        time.sleep(0.2)
        head, _, body = said_to(port, by="127.0.0.2").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ") and b"retry-after" in head
        assert "12 connections of your address" in json.loads(body)["error"]
        assert works(port)  # from 127.0.0.1
    time.sleep(0.2)
    assert works(port, by="127.0.0.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1", "127.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),  # of 2^64 that one client may have
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("testclient", "testclient", True),
    ],
)
def test_a_peer_is_an_address_or_a_network_of_the_new_ones(one, other, same):
    assert (peer(one) == peer(other)) == same


def test_ids_come_decoded_once(port):
    asked = b"GET /api/entity/a%2F..%2F%22b%22%20%3F%23%C3%A9 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    assert json.loads(said_to(port, asked).partition(b"\r\n\r\n")[2])["name"] == "odd"
    assert said_to(port, asked.replace(b"%2F", b"%252F")).startswith(b"HTTP/1.1 404 ")


def test_killed_it_leaves_the_port_and_ctrl_c_ends_it_amid_work(tmp_path):
    with running(tmp_path, "seconds=1") as (process, port):
        process.kill()
        process.wait()
    with running(tmp_path, "seconds=1", f"port={port}") as (process, again):
        assert again == port
        with pytest.raises(ConfigError, match=f"cannot listen on port {port} of 127.0.0.1"):
            server.bound(ServeConfig(Path("runs/demo"), port=port))
        with socket.create_connection(("127.0.0.1", port), 15) as connection:
            connection.sendall(post(json.dumps(ASKED).encode()))
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGINT)
            assert connection.recv(12) == b"HTTP/1.1 200"  # what is in hand is answered
        assert process.wait(20) == 0 and process.stderr.read() == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.jpg"]


def test_a_host_of_others_is_warned_of_and_an_unknown_one_refused(monkeypatch, capsys):
    monkeypatch.setattr(server.Server, "run", lambda self, sockets: None)
    for host, words in (("0.0.0.0", "nobody is asked who he is"), ("127.0.0.1", "")):
        config = ServeConfig(Path("runs/demo"), host=host, port=0)
        server.serve(FakeLinker(), config, server.bound(config))
        assert words in (told := capsys.readouterr().err) and bool(words) == bool(told)
    with pytest.raises(ConfigError, match="there is no such address"):
        server.bound(ServeConfig(Path("runs/demo"), host="no such.invalid"))
