"""Encoder by head: several caches of one release in one table, over the mentions that they share."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import cache as melcache
from cache import manifests
from cache.kinds import KINDS
from cache.names import PartName
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from tests.studies import cells
from tests.worlds import SIGNAL_WIDTHS
from train import loop
from train.cli import app
from train.config.studies import CompareConfig
from train.data import shared_mentions
from train.judging.significance import approximate_randomization, holm
from train.studies import costs, plot

SEEDS = (0, 1)
OPTIONS = [
    "--models",
    "clip,bert",
    "--seeds",
    "0,1",
    "--epochs",
    "2",
    "--width",
    "8",
    "--device",
    "cpu",
    "--threads",
    "1",
]
HEADS = "lexical,clip,bert"


def synthesize(folder, signal, seed=0, heads=HEADS):
    """A cache of 300 mentions; those of one seed have the same splits, golds and lists, whatever the signal."""
    write(folder, Synthetic(300, 60, 5, signal, seed, heads, shares=(0.6, 0.1, 0.3), **SIGNAL_WIDTHS))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder of caches: three of one release, one of another; tests only read it."""
    folder = tmp_path_factory.mktemp("shards")
    for name, signal in (("strong", 0.6), ("weak", 0.05)):
        synthesize(folder / name, signal)
    synthesize(folder / "texts", 0.6, heads="lexical,bert")  # lacks what clip reads
    synthesize(folder / "other", 0.6, seed=1)
    return folder


def run_across(shards, run, datasets, *options):
    arguments = ["compare", "--datasets", datasets, "--shards", str(shards), "--run", str(run), *OPTIONS, *options]
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def study(shards, tmp_path_factory):
    """The folder of a finished comparison of two caches, and what it printed."""
    run = tmp_path_factory.mktemp("across") / "run"
    done = run_across(shards, run, "weak,strong")
    assert done.exit_code == 0, done.output
    return run, done.stdout


def written(run):
    return json.loads((run / "compare.json").read_text())


def results(run, cache_name, head):
    return json.loads((run / cache_name / head / "results.json").read_text())


def by_both(found):
    return {(entry["name"], entry["dataset"]): entry for entry in found["entries"]}


def test_every_head_on_every_cache_has_its_own_runs_numbers(study):
    found = written(study[0])
    entries = by_both(found)
    assert list(entries) == [(head, name) for head in ("lexical", "clip", "bert") for name in ("weak", "strong")]
    for (head, name), entry in entries.items():
        own = results(study[0], name, head)
        for metric in (
            "top1",
            "top3",
            "mrr",
            "recall",
            "top1_of_ambiguous",
            "recall_of_ambiguous",
            "ambiguous",
            "mentions",
        ):
            assert entry["mean"]["test"][metric] == pytest.approx(own["mean"]["test"][metric]), (head, name, metric)
        if head == "bert":
            assert entry["std"]["test"]["top1"] == pytest.approx(own["std"]["test"]["top1"])
    assert found["mentions"] == 90 and found["base"] == "weak" and found["seeds"] == [0, 1]
    assert (study[0] / "strong/compare.json").exists()  # an ordinary comparison of each


def test_differences_are_of_the_same_head_on_the_first_cache_and_corrected_together(study):
    """Against ranks read and tested here, one head at a time."""
    from safetensors.numpy import load_file

    def hits(name, head):
        seeds = []
        for path in sorted((study[0] / name / head).glob("ranks-*.safetensors")):
            ranks = load_file(path)
            seeds.append(np.clip((1 - ranks["better"]) / (ranks["tied"] + 1), 0, 1))
        return np.mean(seeds, axis=0)

    entries = by_both(written(study[0]))
    p = []
    for head in ("lexical", "clip", "bert"):
        own = hits("strong", head) - hits("weak", head)
        tested = entries[head, "strong"]["difference"]["top1"]
        assert tested["mean"] == pytest.approx(own.mean())
        assert tested["p"] == approximate_randomization(own[:, None])[0]
        assert tested["interval"][0] <= tested["mean"] <= tested["interval"][1]
        assert entries[head, "weak"]["difference"] is None
        p.append(tested["p"])
    assert [entries[head, "strong"]["difference"]["top1"]["holm"] for head in ("lexical", "clip", "bert")] == holm(p)
    assert entries["clip", "strong"]["difference"]["top1"]["mean"] > 0.2  # the signal tells


def test_the_first_table_is_head_by_cache_with_what_each_cost(study):
    rows, found = cells(study[1]), by_both(written(study[0]))
    assert list(rows) == ["lexical", "clip", "bert", "encoding took", "size"]
    difference = found["clip", "strong"]["difference"]["top1"]
    mark = "*" if difference["holm"] < 0.05 else ""
    assert rows["clip"]["strong"].endswith(f"({100 * difference['mean']:+.1f}{mark})") and mark
    assert rows["bert"]["weak"].startswith(f"{100 * found['bert', 'weak']['mean']['test']['top1']:.1f} ±")
    assert rows["encoding took"] == {"top1": "encoding took", "weak": "-", "strong": "-"}  # nobody noted it
    assert "Holm-corrected for 3" in study[1]
    text = (study[0] / "compare.md").read_text()
    assert all(word in text for word in ("| bert: strong |", "| cache | role |", "synthetic data"))


def test_costs_are_what_the_manifests_note(shards, tmp_path):
    """Seconds of a part with a rate for half its rows count for all of them."""
    folder = shutil.copytree(shards / "weak", tmp_path / "weak")
    manifest = json.loads((folder / "manifest.json").read_text())
    rows, parts = manifest["tables"], [part for part in manifest["parts"] if KINDS[part].role]
    manifest["provenance"]["parts"] = {
        part: {"rows": rows[part.partition(".")[0]] // 2, "seconds": 10.0} for part in parts
    }
    manifests.save(folder, {name: value for name, value in manifest.items() if name not in ("id", "digest")})
    reader = melcache.open(folder)
    told, other = costs.of_extractions({"weak": reader, "strong": melcache.open(shards / "strong")})
    assert {role: one["seconds"] for role, one in told["roles"].items()} == {
        role: 20.0 * sum(KINDS[part].role == role for part in parts) for role in ("text", "joint")
    }
    assert (other["roles"]["text"]["differs"], told["roles"]["text"]["differs"]) == (["signal"], [])
    text = [shard.bytes for shard in reader.manifest.shards if shard.part.kind == "text"]
    assert told["roles"]["text"]["bytes"] == sum(text) and told["bytes"] == reader.manifest.bytes


def test_workers_take_the_runs_of_all_caches_before_any_table_is_made(shards, study, tmp_path, monkeypatch):
    real, trained = loop.fit_seeds, []

    def fit_seeds(run, seeds, *rest):
        trained.append((run.reader.path.name, run.config.model, *seeds))
        return real(run, seeds, *rest)

    monkeypatch.setattr(loop, "fit_seeds", fit_seeds)
    asked = run_across(shards, tmp_path, "weak,strong", "--workers-on", "others")
    assert asked.exit_code == 0 and asked.stdout == "" and not list(tmp_path.rglob("*.json"))
    assert sorted(trained) == [(name, "bert", seed) for name in ("strong", "weak") for seed in SEEDS]
    done = run_across(shards, tmp_path, "weak,strong")
    assert len(trained) == 4 and not (tmp_path / ".workers").exists()
    for name in ("weak", "strong"):
        here, there = (results(run, name, "bert")["seeds"] for run in (tmp_path, study[0]))
        assert [one | {"seconds": 0} for one in here] == [one | {"seconds": 0} for one in there]
    tops = [{entry["head"]: entry["mean"] for entry in written(run)["entries"]} for run in (tmp_path, study[0])]
    assert tops[0] == tops[1] and done.exit_code == 0


def test_finished_runs_are_not_trained_again_and_a_cache_can_join(shards, study, tmp_path, monkeypatch):
    run, trained, fit_seeds = shutil.copytree(study[0], tmp_path / "run"), [], loop.fit_seeds

    def recorded(*arguments):
        trained.append((arguments[0].config.folder.parent.name, arguments[0].config.model))
        return fit_seeds(*arguments)

    monkeypatch.setattr(loop, "fit_seeds", recorded)
    assert run_across(shards, run, "weak,strong").exit_code == 0
    again, before = written(run), written(study[0])
    for found in (again, before):
        for entry in found["entries"]:
            del entry["run"]
    assert trained == [] and again == before
    done = run_across(shards, run, "weak,strong,texts")
    assert done.exit_code == 0, done.output
    assert set(trained) == {("texts", "bert")}
    (lacking,) = written(run)["not_run"]
    assert lacking["name"] == "clip: texts" and "lacks the parts" in lacking["reason"]
    assert cells(done.stdout)["clip"]["texts"] == "-"


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ("weak,other", "weak and other are not of one release: "),
        ("weak", "--datasets weak: two or more caches"),
        ("weak,x/weak", "--datasets weak,x/weak: two or more caches"),
        ("weak,nothing", "No cache for 'nothing'"),
    ],
)
def test_what_cannot_be_compared_is_one_line_before_anything_is_trained(shards, tmp_path, datasets, message):
    done = run_across(shards, tmp_path / "run", datasets)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


# --- which mentions are the same


def cached(ids, golds, splits, lists=None, entities=("a", "b", "c")):
    """What of a cache tells its mentions: ids, and of each the gold's row, the splits and the candidates."""
    columns = {
        "mention.ids.id": np.array(ids, "S"),
        "mention.ids.surface": np.array(["s"] * len(ids), "S"),
        "mention.ids.gold": np.array(golds, np.int32),
        "mention.ids.splits": np.array(splits, np.uint8),
        "entity.ids.id": np.array(entities, "S"),
        "pair.candidates.candidates": np.array(lists or [[0, 1]] * len(ids), np.int32),
    }
    manifest = SimpleNamespace(tables={"mention": len(ids), "entity": len(entities)})
    return SimpleNamespace(columns=list(columns), column=columns.__getitem__, manifest=manifest)


HERE = cached(["m0", "m1", "m2", "m2"], [0, 1, -1, -2], [1, 4, 4, 4], [[0, 1], [1, 2], [0, -1], [2, 0]])


def test_mentions_are_matched_by_id_and_golds_by_the_entitys_whatever_the_order():
    there = cached(["m2", "m9", "m1", "m2", "m0"], [-1, 0, 0, -2, 2], [4, 4, 4, 4, 1], entities=("b", "c", "a"))
    rows = shared_mentions.rows_of({"here": HERE, "there": there})
    assert rows["here"].tolist() == [0, 1, 2, 3] and rows["there"].tolist() == [4, 2, 0, 3]
    assert not shared_mentions.entities_differ(HERE, there)


def test_mentions_of_one_id_and_surface_are_told_apart_by_their_texts():
    """A cache that has grown has them in another order; one that lacks some has not the first of them."""
    here, there, fewer = (cached(["m1", "m1", "m2"][-n:], [0] * n, [4] * n) for n in (3, 3, 2))
    for one, texts in ((here, "abc"), (there, "bac"), (fewer, "bc")):
        one.columns.append(shared_mentions.CONTENT)
        contents = np.array([[ord(text)] * 32 for text in texts], np.uint8)
        one.column = {name: one.column(name) for name in one.columns[:-1]} | {shared_mentions.CONTENT: contents}
        one.column = one.column.__getitem__
    rows = shared_mentions.rows_of({"here": here, "there": there})
    assert rows["here"].tolist() == [0, 1, 2] and rows["there"].tolist() == [1, 0, 2]
    rows = shared_mentions.rows_of({"here": here, "fewer": fewer})
    assert rows["here"].tolist() == [2] and rows["fewer"].tolist() == [1]


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (cached(["x"], [0], [4]), "here, there share no mention"),
        (cached(["m0", "m1"], [0, 1], [1, 1]), "1 of 2 shared mentions have another split, the first of them m1"),
        (cached(["m0", "m1"], [2, 1], [1, 4]), "1 of 2 shared mentions have another gold, the first of them m0"),
        (cached(["m2"], [-2], [4]), "1 of 1 shared mentions have another gold"),  # not labeled, and nil
    ],
)
def test_other_splits_and_golds_are_refused(there, message):
    with pytest.raises(ConfigError, match=message):
        shared_mentions.rows_of({"here": HERE, "there": there})


def test_lists_of_other_entities_are_counted_not_those_in_another_order():
    there = cached(
        ["m0", "m1", "m2", "m2"], [2, 0, -1, -2], [1, 4, 4, 4], [[0, 2], [1, 0], [2, 2], [-1, 2]], ("b", "c", "a")
    )
    rows = np.arange(4)
    assert shared_mentions.lists_differ(HERE, there, rows, rows) == 2
    assert shared_mentions.lists_differ(HERE, cached(["m0"], [0], [1], [[0, 1, 2]]), rows[:1], rows[:1]) == 1


def test_heads_that_read_nothing_that_differs_are_told_and_not_tested(shards, study, tmp_path):
    """They would make the correction harsher for those that do: what they could tell is known."""
    place = shutil.copytree(shards, tmp_path / "shards")
    shutil.copytree(place / "weak", place / "again")
    run = shutil.copytree(study[0], tmp_path / "run")
    done = run_across(place, run, "weak,again,strong")
    assert done.exit_code == 0, done.output
    found = by_both(written(run))
    for head in ("lexical", "clip", "bert"):
        own, again = (found[head, name] for name in ("weak", "again"))
        assert (own["same"], again["same"], again["difference"]) == (False, True, None)
        assert again["mean"] == own["mean"]
    assert cells(done.stdout)["clip"]["again"].endswith("(=)") and "Holm-corrected for 3" in done.stdout


def test_the_folder_is_named_by_all():
    assert str(CompareConfig(datasets=("wikimel", "x/wikidiverse")).folder) == "runs/wikimel+wikidiverse-compare"


def reader_of(weights, name=None, **encoder):
    recipe = {"encoder": encoder | {"weights": weights}, "columns": {"sentence": {"dtype": "<f2", "shape": [384]}}}
    noted = {} if name is None else {"encoders": {"text": f"{name}@{'0a' * 20}"}}
    provenance = SimpleNamespace(noted=noted, seconds_of=lambda part, rows: 1.5)
    parts = {"entity.text": SimpleNamespace(recipe=recipe, inputs={})}
    manifest = SimpleNamespace(parts={PartName(n): part for n, part in parts.items()}, provenance=provenance,
        tables={"entity": 3}, shards=[], bytes=9)  # fmt: skip
    return SimpleNamespace(id="1", manifest=manifest)


def test_an_encoder_is_called_by_what_a_reader_knows_and_by_digits_only_where_two_are_alike():
    bert = {"encoder": "AutoModel BertModel"}
    readers = {
        "minilm": reader_of("5" * 64, **bert),
        "tuned": reader_of("6" * 64, **bert),
        "bge": reader_of("7" * 64, "BAAI/bge-base-en-v1.5", **bert),
        "dinov2": reader_of("8" * 64, encoder="timm VisionTransformer", architecture="vit_small_patch14_dinov2"),
        "toy": reader_of("random-tiny, seed 0, torch 2", **bert),
    }
    found = {one["name"]: one["roles"]["text"] for one in costs.of_extractions(readers)}
    assert {name: role["encoder"] for name, role in found.items()} == {
        "minilm": "AutoModel BertModel, 384 wide, weights 555555555555",
        "tuned": "AutoModel BertModel, 384 wide, weights 666666666666",
        "bge": "BAAI/bge-base-en-v1.5, 384 wide",
        "dinov2": "timm VisionTransformer, vit_small_patch14_dinov2, 384 wide",
        "toy": "AutoModel BertModel, 384 wide, random-tiny",
    }
    assert found["bge"]["differs"] == ["encoder.weights"] and found["bge"]["seconds"] == 1.5


def test_that_nothing_is_drawn_is_said_once(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plot._lacks.cache_clear()
    for name in ("one", "two", "both"):
        plot.draw({}, tmp_path / name)
    assert capsys.readouterr().err.count("matplotlib") == 1
