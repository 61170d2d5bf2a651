"""Values of a user whose rule is a format's: checked before anything is computed, not when the result is saved."""

import dataclasses
import json
import math

import pytest
from typer.testing import CliRunner

from cache import manifests
from cache.cli import app
from cache.drin import convert
from common.errors import ConfigError
from common.options import as_json
from extract import pipeline
from extract.config import ExtractConfig
from tests.worlds import extract_config, synthetic_cache, write_release

pytestmark = pytest.mark.usefixtures("toys_built_once")
BAD = {
    "my\u00a0data": r"my\\xa0data': '\\xa0' is not printable",
    "my\tdata": r"'\\t' is not printable",
    "caf\udce9": r"'\\udce9' is not printable",
    "a\u202eb": r"'\\u202e' is not printable",
    "x" * 256: "256 bytes, and the name of a folder has at most 255",
    "é" * 128: "256 bytes",
    "a/" + "x" * 300: "300 bytes",
    "": "names nothing",
    ".": "names nothing",
    "..": "names nothing",
    "a/..": "names nothing",
}


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_no_cache_can_have_is_refused_at_once(name, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=f"--name .*{BAD[name]}"):
        ExtractConfig(dataset="jsonl", name=name)
    if name and ".." not in name and name != ".":
        with pytest.raises(ConfigError, match=r"is not printable|bytes"):
            synthetic_cache(tmp_path / name.rpartition("/")[2])
        with pytest.raises(ConfigError, match=r"is not printable|bytes"):
            convert.run(tmp_path / "arrays", tmp_path / name.rpartition("/")[2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["wikimel", "a/b", "größe 2 (alt)", "東京", "x" * 255, "a" * 255 + "/" + "b" * 255, ".x"]
)
def test_other_names_stay(name):
    assert ExtractConfig(dataset="jsonl", name=name).folder.name == name.rpartition("/")[2]


def test_the_command_says_it_in_a_line(tmp_path):
    from extract.cli import app as extract

    done = CliRunner().invoke(
        extract, ["--dataset", "jsonl", "--name", "my\u00a0data", "--shards", str(tmp_path / "s")]
    )
    assert (done.exit_code, done.stderr) == (
        2,
        "error: --name 'my\\xa0data': '\\xa0' is not printable. Use another character\n",
    )
    done = CliRunner().invoke(app, ["synth", str(tmp_path / "a\tb")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a\u00a0b", "a\nb", "x" * 10_001, 7])
def test_what_no_manifest_may_hold_is_foreseen(text):
    good = {
        "dataset": {"name": "a", "licence": "b", "source": "c", "content": "0"},
        "warnings": [],
        "coverage": {"d": 1},
    }
    manifests.foresee(good)
    for field in ("name", "licence", "source"):
        with pytest.raises(ConfigError, match=f"the dataset's {field} is .*, which no manifest may hold"):
            manifests.foresee(good | {"dataset": good["dataset"] | {field: text}})
    for changed in ({"warnings": [text]}, {"coverage": {text: 1}}):
        with pytest.raises(ConfigError, match="which no manifest may hold"):
            manifests.foresee(good | changed)


def test_a_licence_of_descriptions_is_checked_before_anything_is_encoded(tmp_path, monkeypatch):
    mention = {"id": "m", "text": "At Rome", "mention": "Rome", "gold": "Q1", "split": "train"}
    write_release(tmp_path / "data", [mention], [{"id": "Q1", "name": "Rome"}])
    lines = [{"licence": "CC\u00a0BY", "source": "https://example.org"}, {"entity": "Q1", "text": "Rome is a city"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = extract_config(tmp_path / "data", tmp_path / "s", descriptions=tmp_path / "d.jsonl")
    with pytest.raises(ConfigError, match=r"the dataset's licence is 'unknown; descriptions: CC\\xa0BY"):
        pipeline.run(wanted)
    assert not (tmp_path / "s").exists()


@dataclasses.dataclass(frozen=True)
class Own:
    """The config of a head of one's own."""

    widest: float = 1.0
    several: tuple[float, ...] = (1.0,)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"widest": math.inf}, "--widest is inf"),
        ({"several": (1, math.nan)}, "nan"),
        ({"widest": 10**30}, "--widest has 31 digits"),
    ],
)
def test_a_number_that_results_cannot_hold_is_refused_when_the_run_is_named(changes, told):
    assert as_json(Own()) == {"widest": 1.0, "several": [1.0]}
    with pytest.raises(ConfigError, match=told):
        as_json(Own(**changes))
