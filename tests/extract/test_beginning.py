"""What an extraction says before it imports torch: errors that need no encoder, and that it is at work."""

import json
import re
import subprocess
import sys
from pathlib import Path

from common import output
from extract.beginning import begin
from tests.worlds import entity_record, extract_config, mention_record, write_release

ROOT = Path(__file__).parent.parent.parent
# options, and what the one line must say; {there} is a release that is whole, {folder} a folder of the test's
BAD = {
    "unknown dataset": (["--dataset", "wikimell"], "unknown dataset 'wikimell'.*wikimel"),
    "no data": (["--dataset", "jsonl", "--data", "{folder}/gone"], "No jsonl release in .*gone"),
    "no weights": (["--weights", "{folder}/gone"], "--weights .*gone: no such folder"),
    "no weights of a role": (["--image-weights", "{folder}/gone"], "--image-weights .*gone: no such folder"),
    "no text folder": (["--text", "{folder}/gone"], "--text .*gone: no such folder"),
    "no image folder": (["--image", "./gone"], "--image ./gone: no such folder"),
    "no joint folder": (["--joint", "local-dir:gone"], "--joint local-dir:gone: no such folder"),
    "no detector folder": (["--detector", "~/gone"], "--detector ~/gone: no such folder"),
    "no home": (["--text", "~nobody-here/x"], "no such home directory"),
    "no encoder file": (["--joint", "gone.py"], "--joint gone.py: there is no such file"),
    "shards in a file": (["--shards", "{folder}/file"], "cannot write to .*: .*file is no folder"),
    "softmax as probability": (["--joint-edges", "probability"], "--joint-edges probability: CLIP"),
    "storage of nothing": (["--storage", "int8"], "--storage int8 is for tokens"),
    "pooling of nothing": (["--text-pooling", "mean"], "--text-pooling is for a text encoder that is named"),
    "unknown pooling": (["--text", "bert", "--text-pooling", "max"], "--text-pooling"),
    "pictures missing": (["--data", "{folder}/bare"], "1 of the 1 pictures .* cannot be used"),
    "no texts": (["--descriptions", "{folder}/gone.tsv"], "gone.tsv"),
}
WITHOUT_TORCH = """
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "open_clip", "timm", "torchvision")))  # import fails
from common import console
from extract.cli import app
told = {}
for name, options in json.load(sys.stdin).items():
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
        sys.argv[1:] = options
        console.run(app, "melcache")
    told[name] = said.getvalue()
print(json.dumps(told))
"""


def test_what_needs_no_encoder_is_refused_in_one_line_before_torch_is_imported(tmp_path):
    write_release(tmp_path / "there", [mention_record(0, "a b", "a", gold="e0")], [entity_record(0, "a", "")])
    bare = [mention_record(0, "a b", "a", "images/gone.jpg", gold="e0")]
    write_release(tmp_path / "bare", bare, [entity_record(0, "a", "")])
    (tmp_path / "file").write_text("")
    usual = {"--dataset": "jsonl", "--data": "{folder}/there", "--weights": "random-tiny", "--shards": "{folder}/s"}
    asked = {}
    for name, (options, _) in BAD.items():
        words = dict(zip(options[::2], options[1::2], strict=True))
        asked[name] = [word.replace("{folder}", str(tmp_path)) for pair in (usual | words).items() for word in pair]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], input=json.dumps(asked), capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    tree = told.pop("no data")  # of what was expected, below the line
    assert re.match(f"error: {BAD['no data'][1]}", tree) and "loading" not in tree
    wrong = {name: said for name, said in told.items() if not re.fullmatch(f"error: .*({BAD[name][1]}).*\n", said)}
    assert len(told) == len(BAD) - 1 and wrong == {}
    assert not (tmp_path / "s").exists()


def test_an_import_of_seconds_is_said_once_and_before(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "tokenize", raising=False)
    with output.loading("json", "tokenize"):
        assert capsys.readouterr().err == "loading tokenize ...\n"
    with output.loading("json", "re"):
        pass
    assert capsys.readouterr().err == ""


def test_a_limit_that_leaves_a_split_empty_says_so_and_what_would_not(tmp_path, capsys):
    splits = ["train", "train", "valid", "train", "test", "test"]
    mentions = [mention_record(i, f"a {i}", "a", gold="e0", split=split) for i, split in enumerate(splits)]
    write_release(tmp_path / "r", mentions, [entity_record(0, "a", "")])
    said = {}
    for limit in (1, 3, 5, None):
        begun = begin(extract_config(tmp_path / "r", tmp_path / "s", limit=limit))
        assert [mention.id for mention in begun.release.mentions] == [m["id"] for m in mentions[:limit]]
        said[limit] = capsys.readouterr().err
    end = "so that no head can be trained and tested on this cache. --limit 5 has some of each split\n"
    assert said == {
        1: f"warning: --limit 1 keeps no mention of valid and test, {end}",
        3: f"warning: --limit 3 keeps no mention of test, {end}",
        5: "",
        None: "",
    }
