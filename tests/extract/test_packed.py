"""Packed files that become more than text can, lines without end, too little memory: each is one line."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.errors import DatasetError, MelcacheError
from extract import datasets
from extract.attributes.faces import load_deepface
from extract.reading import packed, picture_folders, readers

ROOT = Path(__file__).parents[2]
BLANKS = b" " * (1 << 20)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(packed, "FLOOR", 1 << 16)
    monkeypatch.setattr(packed, "LINE", 1 << 18)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("file.json", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "name, content",
    [
        ("file.json.gz", gzip.compress(b"[1]" + BLANKS, mtime=0)),
        (
            "file.json.gz",
            gzip.compress(b"[1]" + BLANKS, mtime=0) + gzip.compress(b" ", mtime=0),
        ),  # claims one byte
        ("file.zip", zipped(b"[1]" + BLANKS)),
    ],
)
def test_json_that_unpacks_to_more_than_text_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name} is refused: its 1\.\d kB unpack to .*no text.*unpack it beside"):
        readers.read_json(readers.find(tmp_path, "file.json"), list)


@pytest.mark.parametrize("last", [b"", gzip.compress(b"\n", mtime=0)], ids=["honest", "claims one byte"])
def test_lines_that_unpack_to_more_than_text_are_refused(tmp_path, last):
    (tmp_path / "mentions.jsonl.gz").write_bytes(gzip.compress(b" \n" * (1 << 20), mtime=0) + last)
    (tmp_path / "entities.jsonl").write_text('{"id": "E"}\n')
    with pytest.raises(DatasetError, match=r"mentions\.jsonl\.gz is refused: its .* unpack to"):
        datasets.load("jsonl", tmp_path)


@pytest.mark.parametrize("name", ["a.json.gz", "a.zip", "a.json"])
def test_text_and_little_files_are_read_whatever_they_become(tmp_path, name):
    words = json.dumps([f"entity {i} of {i * i}" for i in range(20_000)]).encode()  # 600 kB
    for content in (words, b"[1]" + b" " * 60_000):
        kind = gzip.compress(content) if name.endswith("gz") else zipped(content) if name == "a.zip" else content
        (tmp_path / name).write_bytes(kind)
        assert readers.read_json(tmp_path / name, list) == json.loads(content)


def test_a_line_without_end_is_refused_and_lines_keep_their_newlines(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"a\r\nb\nc")
    assert list(packed.lines(tmp_path / "a.tsv")) == [b"a\r\n", b"b\n", b"c"]
    (tmp_path / "a.tsv").write_bytes(b"a\n" + BLANKS)
    with pytest.raises(DatasetError, match=r"a\.tsv has a line of more than 262\.1 kB"):
        list(packed.lines(tmp_path / "a.tsv"))


def test_memory_that_does_not_suffice_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "mentions.jsonl").write_text('{"id": "a", "text": "Ann", "mention": "Ann"}\n')
    (tmp_path / "entities.jsonl").write_text('{"id": "E"}\n')

    def without_memory(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(readers.json, "loads", without_memory)
    with pytest.raises(DatasetError, match=r"the jsonl release in .* needs more memory .*ulimit -v"):
        datasets.load("jsonl", tmp_path)


def test_a_limit_of_memory_is_one_line(tmp_path):
    (tmp_path / "splits.json").write_text("{}")
    (tmp_path / "Wikidata-MEL.json").write_bytes(b"[" + b"[]," * 2_000_000 + b"[]]")
    code = (
        "import resource; from pathlib import Path; from common.errors import DatasetError\n"
        "from extract import datasets; import extract.datasets.wikimel\n"
        "limit = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize() + (64 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try: datasets.load('wikimel', Path('.'))\n"
        "except DatasetError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert run.stdout.startswith(b"the wikimel release in . needs more memory"), run.stderr
    assert run.stdout.count(b"\n") == 1


@pytest.mark.parametrize("name", ["faces.json", "faces/1.json", "faces.json.gz"])
def test_what_is_no_regular_file_is_not_read(tmp_path, name):  # a FIFO would be waited for, /dev/zero has no end
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/dev/null")
    with pytest.raises(DatasetError, match=f"{name} is not a regular file"):
        load_deepface(tmp_path / ("faces" if "/" in name else name))


def test_a_file_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "kb_entity.json").write_text("[]")
    for split in ("train", "dev", "test"):
        (tmp_path / f"WIKIMEL_{split}.json").write_text("[]")

    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    (tmp_path / "kb_image").mkdir()
    monkeypatch.setattr(picture_folders.os, "scandir", forbidden)
    with pytest.raises(MelcacheError, match=r"kb_image: Permission denied"):
        datasets.load("mimic", tmp_path)
