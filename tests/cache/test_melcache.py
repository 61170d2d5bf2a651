"""The `melcache` command and the synthetic caches that it makes."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import melcache
from cache import kinds
from cache.cli import app, main
from cache.schema import READS
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from tests.worlds import synthetic_cache

SIZE = {"text_width": 8, "image_width": 8}


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    path = tmp_path_factory.mktemp("synth") / "small"
    write(path, Synthetic(500, 90, 12, 0.0, 3, **SIZE))
    return path


def test_synth_writes_the_columns_that_the_head_reads_and_the_asked_shape(tmp_path):
    options = "--like wikidiverse --mentions 100 --entities 50 --candidates 7 --signal 1 --seed 5 --for drin".split()
    made = invoke("synth", tmp_path / "toy", *options, "--text-width", 8, "--image-width", 16)
    assert made.exit_code == 0, made.output
    reader = melcache.open(tmp_path / "toy")
    assert reader.id in made.stdout
    assert set(READS["drin"]) <= set(reader.columns)
    assert reader.shape("entity.image.vector") == (50, 16)
    assert reader.shape("pair.alignment.image_to_image") == (100, 7)
    assert reader.manifest.dataset.name == "toy"
    assert reader.manifest.splits == {"train": 80, "valid": 10, "test": 10}
    assert "synthetic data" in reader.manifest.warnings[0]


def test_synthetic_lists_are_distinct_and_agree_on_gold(synthetic):
    reader = melcache.open(synthetic)
    lists, gold = reader.column("pair.candidates.candidates"), reader.column("pair.candidates.gold")
    assert all(len(set(row)) == 12 for row in lists.tolist())
    np.testing.assert_array_equal(lists[np.arange(500), gold], reader.column("mention.ids.gold"))


def test_without_signal_nothing_tells_gold_from_the_others(synthetic):
    reader = melcache.open(synthetic)
    rows, gold = np.arange(500), reader.column("pair.candidates.gold")
    lists = reader.column("pair.candidates.candidates")
    span, text = (reader.column(n).astype(np.float64) for n in ("mention.text.span", "entity.text.sentence"))
    scores = {"vectors": np.einsum("nd,ncd->nc", span, text[lists])}
    scores |= {n: reader.column(n) for n in reader.columns if n.startswith("pair.alignment") or n.endswith("lexical")}
    for name, values in scores.items():
        better = (values > values[rows, gold][:, None]).mean()
        assert abs(better - 11 / 24) < 0.05, name  # the mean of 500 uniform ranks: deviation 0.013


def test_from_a_tenth_of_signal_on_each_edge_separates_gold(tmp_path):
    write(tmp_path / "s", Synthetic(100, 50, 7, 0.1, 0, **SIZE))
    reader = melcache.open(tmp_path / "s")
    edge = reader.column("pair.alignment.text_to_image")
    np.testing.assert_array_equal(edge.argmax(1), reader.column("pair.candidates.gold"))


def test_the_id_depends_on_the_seed_and_on_nothing_else(tmp_path):
    ids = [write(tmp_path / str(n) / "x", Synthetic(50, 30, 5, 0.5, seed, **SIZE)) for n, seed in enumerate((1, 1, 2))]
    assert ids[0] == ids[1] != ids[2]


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="no more than there are entities"):
        Synthetic(100, 5, 6, 0.0, 0)
    with pytest.raises(ConfigError, match="--for gpt: gpt is none of drin, "):
        Synthetic(100, 50, 6, 0.0, 0, "gpt")
    for sizes in ((1 << 31, 50, 6), (100, 10**20, 6), (100, 1 << 30, 1 << 25)):
        with pytest.raises(ConfigError, match="a cache has at most 2,147,483,647 rows and 16,777,216 candidates"):
            Synthetic(*sizes, 0.0, 0)
    with pytest.raises(ConfigError, match="at most 16,777,216 each"):
        Synthetic(100, 50, 6, 0.0, 0, text_width=10**12)


def test_info_shows_every_part_and_the_id_as_text_and_json(synthetic):
    text = invoke("info", synthetic).stdout
    reader = melcache.open(synthetic)
    assert reader.id in text and "500 mentions, 90 entities, 12 candidates" in text
    assert all(part in text for part in reader.manifest.parts)
    assert json.loads(invoke("info", synthetic, "--json").stdout) == reader.manifest.as_json()


def test_verify_says_ok_and_names_what_is_damaged(synthetic, tmp_path):
    assert invoke("verify", synthetic).exit_code == 0
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in synthetic.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    victim = sorted(copy.glob("mention.text*"))[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x7f")
    (copy / "entity.text-00009.000000000000.h5").write_bytes(b"stale")
    result = invoke("verify", copy)
    assert result.exit_code == 1
    assert f"{victim.name}: sha256 is" in result.stdout and "1 damaged" in result.stdout
    assert "entity.text-00009.000000000000.h5: not listed" in result.stdout
    found = json.loads(invoke("verify", copy, "--json").stdout)
    assert not found["ok"] and sum(bool(f["problem"]) for f in found["files"]) == 2


def test_a_missing_cache_is_one_line_and_exit_2(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)  # where no shards/ is
    monkeypatch.setattr("sys.argv", ["melcache", "info", "nothing"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "error: No cache for 'nothing' in shards/. Make it with: "
        "melcache extract --dataset jsonl --data FOLDER --name nothing\n"
    )
    synthetic_cache(tmp_path / "shards/toy")
    assert invoke("info", "nothing").stderr.endswith("--name nothing, or choose from: toy\n")


SIDES = {"states": "joint_token.states,entity_joint_token.states", "patches": "mention.patches,entity.patches"}


def averaged(reader, part, table):
    """The mean of a row's vectors, of a grid or of as many tokens as the row has."""
    values = reader.column(f"{part}.vector").astype(np.float32)
    if values.ndim == 3:
        return values.mean(1)
    first, count = (reader.column(f"{table}.joint_tokens.{name}") for name in ("first", "count"))
    assert (first == np.cumsum(count) - count).all() and first[-1] + count[-1] == len(values)
    return np.stack([values[begin : begin + rows].mean(0) for begin, rows in zip(first, count, strict=True)])


@pytest.mark.parametrize("kind", SIDES)
def test_tokens_and_patches_of_both_sides_are_synthesized_and_resemble_each_other(kind, tmp_path):
    done = invoke("synth", tmp_path / "s", "--for", SIDES[kind], "--mentions", 20, "--entities", 15, "--candidates", 4,
        "--text-width", 8, "--image-width", 8, "--signal", 0.5)  # fmt: skip
    assert done.exit_code == 0, done.output
    reader = melcache.open(tmp_path / "s")
    assert set(SIDES[kind].split(",")) < set(reader.manifest.parts) and "pair.alignment" in reader.manifest.parts
    assert invoke("verify", tmp_path / "s").exit_code == 0
    of_mentions, of_entities = SIDES[kind].split(",")
    mine, theirs = averaged(reader, of_mentions, "mention"), averaged(reader, of_entities, "entity")
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (mine, theirs)]
    assert ((unit[0] @ unit[1].T).argmax(1) == reader.column("mention.ids.gold")).all()


def test_any_part_on_demand_can_be_synthesized(tmp_path):
    write(tmp_path / "s", Synthetic(10, 5, 3, 0.5, 0, ",".join(kinds.on_demand()), regions=2, **SIZE))
    assert set(kinds.on_demand()) < set(melcache.open(tmp_path / "s").manifest.parts)
    assert invoke("verify", tmp_path / "s").exit_code == 0
