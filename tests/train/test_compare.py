"""Comparisons: one table of many runs beside published numbers, and series that survive a kill."""

import json
import math
import shutil
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import melcache
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from tests.studies import cells, entries, run_study
from tests.worlds import SIGNAL_WIDTHS, signal_cache
from train import loop
from train.config.studies import CompareConfig
from train.data import ambiguity, table
from train.heads.registry import HEADS
from train.optimizing.checkpoint import Checkpoints
from train.studies import compare, plot, published, published_rows, runs, tables


def trained(models="bert,drin", seeds="0,1", epochs=2):
    """Return the options of a small comparison."""
    return f"--models {models} --seeds {seeds} --epochs {epochs} --width 16".split()


TRAINED = trained()


@pytest.fixture(scope="module")
def uninterrupted_study(wikidiverse, tmp_path_factory):
    """Return the folder of a comparison that nothing interrupted, and its table."""
    run = tmp_path_factory.mktemp("whole") / "compare"
    done = run_study("compare", wikidiverse, run, *TRAINED)
    assert done.exit_code == 0, done.stderr
    return run, done.stdout


def written(run):
    return json.loads((run / "compare.json").read_text())


# published numbers


def of_variant(dataset, name):
    return published.of_variant(dataset, "drin", name, HEADS["drin"].config(), "A")


def numbers(entry):
    """Return a published entry's source and numbers."""
    return entry["source"], [entry[name] for name in ("top1", "top3", "top5", "top10", "top20") if name in entry]


def test_published_numbers_are_those_of_the_papers():
    def tops(dataset, *models):
        return [published.of_head(dataset, model, None)["top1"] for model in models]

    assert tops("wikimel", "bert", "jmel", "dzmned", "mel_hi", "ghmfc", "drin") == [31.7, 31.3, 34.7, 38.6, 43.6, 65.5]
    assert tops("wikidiverse", "bert", "mel_hi", "ghmfc", "drin") == [45.5, 45.7, 46.0, 51.1]
    assert [tops(dataset, "dwe") for dataset in ("richpedia", "wikimel", "wikidiverse")] == [[67.6], [44.7], [47.5]]
    plus = HEADS["dwe_authors"].config(entity_text="description")
    found = [
        published.of_head(dataset, "dwe_authors", plus)["top1"] for dataset in ("richpedia", "wikimel", "wikidiverse")
    ]
    assert found == [72.5, 72.8, 51.2]
    assert numbers(published.of_head("wikimel", "drin_authors", None)) == ("a", [65.5, 91.3, 95.8, 97.7])
    assert numbers(published.of_head("wikidiverse", "drin", None)) == ("a", [51.1, 77.9, 89.3])
    deviations = [published.of_head(dataset, "drin", None)["deviation"] for dataset in ("wikimel", "wikidiverse")]
    assert deviations == [
        {"top1": 0.81, "top5": 0.52, "top10": 0.22, "top20": 0.14},
        {"top1": 0.74, "top3": 0.65, "top5": 0.83},
    ]
    without = ("image_to_image", "image_to_text", "text_to_image", "text_to_text")
    for dataset, expected in (("wikimel", [65.2, 64.0, 64.4, 61.2]), ("wikidiverse", [49.1, 49.1, 49.3, 48.6])):
        assert [of_variant(dataset, f"without {edge}")["top1"] for edge in without] == expected
    static = [of_variant(dataset, "static edges")["top1"] for dataset in ("wikimel", "wikidiverse")]
    assert static == [57.8, 49.0]
    assert numbers(published.of_layers("wikidiverse", "drin", "layers 2")["valid"]) == ("c", [48.5, 77.3, 87.8])
    assert published.of_layers("wikimel", "drin", "layers 5")["test"]["top1"] == 62.9


C = {  # Top-1 of WikiMEL, Richpedia, WikiDiverse among all entities
    "CLIP": (83.23, 67.78, 61.21),
    "GHMFC": (76.55, 72.92, 60.27),
    "MIMIC": (87.98, 81.02, 63.51),
    "M3EL": (88.84, 82.82, 74.06),
    "MMoE": (90.77, 85.51, 77.57),
    "OT-MEL": (88.97, 83.30, 66.07),
}


def test_systems_after_drin_and_dwe_stand_beside_with_how_they_came_about():
    for place, dataset in enumerate(("wikimel", "richpedia", "wikidiverse")):
        found = {system["system"]: system for system in published.of_systems(dataset, "C") if system["protocol"] == "C"}
        heads = {name.upper(): published.of_head(dataset, name, None, "C") for name in ("clip", "ghmfc")}
        assert {name: (found | heads)[name]["top1"] for name in C} == {name: tops[place] for name, tops in C.items()}
        assert "second hand" in published_rows.SOURCES[found["OT-MEL"]["source"]].where
        for name in ("MIMIC", "M3EL", "MMoE", "OT-MEL"):
            told = [found[name][key] for key in ("trained", "selected", "ties", "split")]
            assert told == ["tuned", "valid", "sort order", "MIMIC's own"]
        assert published.of_systems(dataset, "B")[0]["system"] == "UniMEL"
    unimel = [published.of_systems(dataset, "B")[0] for dataset in ("wikimel", "richpedia", "wikidiverse")]
    assert [(row["top1"], row["protocol"], row["trained"]) for row in unimel] == [
        (94.1, "B", "LLM"), (94.8, "B", "LLM"), (92.9, "B", "LLM"),
    ]  # fmt: skip


def test_a_number_of_the_runs_protocol_is_taken_where_there_is_one():
    tops = {letter: published.of_head("wikidiverse", "bert", None, letter)["top1"] for letter in "ABCD"}
    assert tops == {"A": 45.5, "B": 22.2, "C": 55.77, "D": 57.08}
    assert published.of_head("richpedia", "mel_hi", None, "C")["protocol"] == "B"  # the only one there is


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ["split MIMIC's own, not compared with this one"]),
        ({"protocol": "B"}, ["protocol B, here C", "split MIMIC's own, not compared with this one"]),
        ({"trained": "tuned"}, ["tuned encoders, here frozen", "split MIMIC's own, not compared with this one"]),
        ({"trained": "LLM"}, ["an LLM, here frozen", "split MIMIC's own, not compared with this one"]),
        ({"selected": "test"}, ["selected on test, here valid", "split MIMIC's own, not compared with this one"]),
        ({"selected": "unknown"}, ["selection unknown, here valid", "split MIMIC's own, not compared with this one"]),
        ({"ties": "optimistic"}, ["ties optimistic, here expected", "split MIMIC's own, not compared with this one"]),
        ({"tested": 1570}, ["1,570 mentions tested, here 2,044"]),
        ({"own": "gold in the graph"}, ["gold in the graph", "split MIMIC's own, not compared with this one"]),
    ],
)
def test_whatever_differs_is_said_beside_a_published_number(changed, told):
    alike = {"protocol": "C", "trained": "frozen", "selected": "valid", "ties": "expected", "tested": None, "own": ""}
    entry = alike | {"split": "MIMIC's own"} | changed
    assert published.differences(entry, "C", "expected", 2044.0) == told


def test_published_rows_are_complete_and_of_heads_that_there_are():
    kinds = {"frozen", "tuned", "LLM", "unknown"}
    ablations = HEADS["drin"].ablations
    of_variants = (*ablations.test.values(), *ablations.valid.values())
    rows = [*published_rows.SYSTEMS, *(row for entry in HEADS.values() for row in entry.published), *of_variants]
    assert len({row.system for row in rows}) == 19
    for row in rows:
        source = published_rows.SOURCES[row.source]
        for dataset, values in row.values.items():
            metrics = source.metrics[dataset]
            lacking = {"i": "mrr", "c": "top20"}.get(row.source)  # some have no MRR, Table 4 the first three k
            assert metrics[: len(values)] == metrics or metrics[len(values) :] == (lacking,)
            tops = values[: -1 if metrics[-1] == "mrr" and len(values) > 1 else None]
            assert list(tops) == sorted(tops)  # Top-k grows with k
            assert len(row.deviations.get(dataset, values)) == len(values)
        assert row.trained in kinds and source.selected in ("valid", "test", "unknown") and source.ties
    assert ablations.test.keys() == {"full", *ablations.variants}
    assert ablations.valid.keys() == set(ablations.layered)
    for dataset, values in ablations.test["full"].values.items():
        assert numbers(published.of_head(dataset, "drin", None))[1] == list(values)
    assert all(set(row.values) == {"wikimel", "wikidiverse"} for row in of_variants)


def test_published_numbers_go_with_the_name_of_the_dataset_unless_told():
    assert published.dataset_of(None, "wikimel") == "wikimel"
    assert published.dataset_of(None, "mine") is None
    assert published.dataset_of("richpedia", "mine") == "richpedia"
    assert published.of_head(None, "drin", None) is None
    with pytest.raises(ConfigError, match="--published mine: choose from wikimel, wikidiverse, richpedia"):
        published.dataset_of("mine", "wikimel")


# compare


def test_a_comparison_holds_what_its_runs_hold(wikidiverse, uninterrupted_study):
    run, text = uninterrupted_study
    found = written(run)
    assert [entry["name"] for entry in found["entries"]] == ["lexical", "bert", "drin"]
    for name, entry in entries(found).items():
        results = json.loads((run / name / "results.json").read_text())
        assert entry["mean"] == results["mean"]
        assert entry["std"] == results["std"]
        assert found["cache_id"] == results["cache_id"] == melcache.open(wikidiverse).id
    hits = {}
    for name, seeds in (("lexical", (0,)), ("bert", (0, 1)), ("drin", (0, 1))):
        ranks = [load_file(run / name / f"ranks-{seed}.safetensors") for seed in seeds]
        hits[name] = np.mean([np.clip((1 - r["better"]) / (r["tied"] + 1.0), 0, 1) for r in ranks], axis=0)
    for name in ("bert", "drin"):
        tested = entries(found)[name]["difference"]["top1"]
        difference = hits[name] - hits["lexical"]
        assert tested["mean"] == pytest.approx(difference.mean(), abs=1e-12)
        error = difference.std() / math.sqrt(len(difference))  # the normal interval is near the bootstrap's
        assert tested["interval"] == pytest.approx(
            [tested["mean"] - 1.96 * error, tested["mean"] + 1.96 * error], abs=0.02
        )
        assert tested["p"] <= tested["holm"] <= 2 * tested["p"]
    assert entries(found)["lexical"]["difference"] is None
    assert "synthetic data" in text


def test_the_table_the_markdown_and_the_json_agree(uninterrupted_study):
    run, text = uninterrupted_study
    found, rows = written(run), cells(text)
    assert list(rows) == ["lexical", "bert", "drin"]
    for name, entry in entries(found).items():
        mean, std, row = entry["mean"]["test"], entry["std"]["test"], rows[name]
        for metric in ("top1", "top3", "top5", "mrr"):
            spread = f" ± {100 * std[metric]:.1f}" if name != "lexical" else ""
            assert row[metric] == f"{100 * mean[metric]:.1f}{spread}"
        if name != "lexical":
            tested = entry["difference"]["top1"]
            low, high = tested["interval"]
            assert row["top1 - lexical"] == f"{100 * tested['mean']:+.1f}"
            assert row["95% interval"] == f"{100 * low:+.1f} to {100 * high:+.1f}"
            assert float(row["p"]) == pytest.approx(tested["holm"], abs=1e-4)
            assert row["seeds"] == "2"
    assert [rows[name]["published"] for name in rows] == ["-", "45.5 a", "51.1 ± 0.7 a"]
    cited = next(line for line in text.splitlines() if line.startswith("published a, DRIN Table 2 (DRIN)"))
    assert cited.endswith(
        ": gold in the graph, divided by recall; selection unknown, here valid; ties optimistic, here expected; 1,570 "
        "mentions tested, here 60"
    )
    assert entries(found)["drin"]["published"]["differs"] == cited.partition(": ")[2].split("; ")
    systems = {system["system"]: system for system in found["systems"]}
    assert systems["MMoE"]["differs"][:2] == ["protocol C, here A", "tuned encoders, here frozen"]
    assert any(line.split()[:3] == ["MMoE", "77.6", "f"] for line in text.splitlines())
    markdown = (run / "compare.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown if line.startswith("|")]
    assert table[2:5] == [list(row.values()) for row in rows.values()]
    assert table[5][:2] == ["published system", "top1"] and len(table) == 7 + len(found["systems"])


def test_on_a_terminal_the_best_and_what_is_significant_are_marked(uninterrupted_study):
    run, text = uninterrupted_study
    found = written(run)
    for entry, p in zip(found["entries"], (None, 0.0499, 0.0501), strict=True):  # of lexical, bert and drin
        if p is not None:
            entry["difference"]["top1"]["holm"] = p
    shown = compare.show(found, CompareConfig(run=run), marked=True)
    table = cells(shown)
    tops = {entry["head"]: entry["mean"]["test"]["top1"] for entry in found["entries"]}
    assert {name for name, row in table.items() if row["top1"].endswith("*")} == {
        name for name, top in tops.items() if top == max(tops.values())
    }
    assert [row["p"] for row in table.values()] == ["-", "0.0499†", "0.0501"]
    assert "* the best of its column; † top1 differs from that of lexical: p below 0.05" in shown
    assert "*" not in text and "†" not in text


def test_top1_on_ambiguous_mentions_stands_beside_with_its_own_interval_and_p(wikidiverse, tmp_path, monkeypatch):
    def every_third(candidates, lexical):
        return 2 * (np.arange(len(candidates)) % 3 == 0)

    for module in (ambiguity, table):
        monkeypatch.setattr(module, "matches", every_third)
    done = run_study("compare", wikidiverse, tmp_path, *TRAINED)
    assert done.exit_code == 0, done.stderr
    found, hits = written(tmp_path), {}
    for name, seeds in (("lexical", (0,)), ("bert", (0, 1))):
        ranks = [load_file(tmp_path / name / f"ranks-{seed}.safetensors") for seed in seeds]
        tops = np.mean([np.clip((1 - r["better"]) / (r["tied"] + 1.0), 0, 1) for r in ranks], axis=0)
        hits[name] = tops[ranks[0]["rows"] % 3 == 0]
    assert 0 < len(hits["bert"]) < found["mentions"]
    own = entries(found)["bert"]
    assert own["mean"]["test"]["ambiguous"] == len(hits["bert"])
    assert own["mean"]["test"]["top1_of_ambiguous"] == pytest.approx(hits["bert"].mean())
    difference, tested = hits["bert"] - hits["lexical"], own["difference"]["top1_of_ambiguous"]
    assert tested["mean"] == pytest.approx(difference.mean())
    for interval, values in ((tested["interval"], difference), (own["interval"]["top1_of_ambiguous"], hits["bert"])):
        half = 1.96 * values.std() / math.sqrt(len(values))
        assert interval == pytest.approx([values.mean() - half, values.mean() + half], abs=0.06)
    assert tested["p"] <= tested["holm"] <= 2 * tested["p"]
    beside, (_, second) = cells(done.stdout)["bert"], done.stdout.split("\n\n")[:2]
    row = cells(second)["bert"]
    assert beside["ambiguous"] == row["top1"] == f"{100 * hits['bert'].mean():.1f} ± " + row["top1"].partition("± ")[2]
    assert row["top1 - lexical"] == f"{100 * difference.mean():+.1f}"
    assert row["p"] == f"{tested['holm']:.4f}"
    assert f"{ambiguity.TOLD}: {len(hits['bert'])} of the {found['mentions']:.0f} mentions" in done.stdout
    assert "| head, on ambiguous mentions |" in (tmp_path / "compare.md").read_text()
    tested["holm"] = 0.0499
    (section,) = tables.on_ambiguous(found, "head", marked=True)
    signed = {row[0]: (row[1][-1], row[-1][-1]) for row in section.rows}
    best = max(entry["mean"]["test"]["top1_of_ambiguous"] for entry in found["entries"])
    assert signed["bert"] == ("*" if own["mean"]["test"]["top1_of_ambiguous"] == best else " ", "†")
    assert signed["lexical"][1] == " "


class Killed(BaseException):
    """A kill while a seed is being finished, without a second process."""


def test_a_killed_comparison_continues_and_ends_the_same(wikidiverse, uninterrupted_study, tmp_path, monkeypatch):
    finished, real = [], Checkpoints.finish

    def finish(self, result, state):
        finished.append((self.folder.name, result["seed"]))
        if len(finished) == 4:
            raise Killed
        real(self, result, state)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "finish", finish)
        with pytest.raises(Killed):
            run_study("compare", wikidiverse, tmp_path, *TRAINED)
    assert finished == [("bert", 0), ("bert", 1), ("drin", 0), ("drin", 1)]
    assert not (tmp_path / "compare.json").exists()
    trained, fit_seeds = [], loop.fit_seeds

    def recorded(*arguments):
        trained.append((arguments[0].config.model, *arguments[1]))
        return fit_seeds(*arguments)

    monkeypatch.setattr(loop, "fit_seeds", recorded)
    done = run_study("compare", wikidiverse, tmp_path, *TRAINED)
    assert done.exit_code == 0, done.stderr
    assert trained == [("drin", 1)]
    assert "1 of 2 runs to train, 2 epochs" in done.stderr
    assert "finished before: bert" in done.stderr
    uninterrupted, continued = written(uninterrupted_study[0]), written(tmp_path)
    for found in (uninterrupted, continued):
        for entry in found["entries"]:
            del entry["seconds"], entry["run"]
    assert continued == uninterrupted
    before = (tmp_path / "compare.json").read_bytes()
    assert run_study("compare", wikidiverse, tmp_path, *TRAINED).exit_code == 0
    assert (tmp_path / "compare.json").read_bytes() == before
    assert len(trained) == 1


def test_only_the_seeds_asked_for_count_and_other_heads_can_join(wikidiverse, uninterrupted_study, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(uninterrupted_study[0], run)
    before = entries(written(run))["drin"]
    done = run_study("compare", wikidiverse, run, *trained("drin,prior", "1"), "--baseline", "prior")
    assert done.exit_code == 0, done.stderr
    found = written(run)
    assert (found["base"], found["seeds"], [entry["name"] for entry in found["entries"]]) == (
        "prior",
        [1],
        ["drin", "prior"],
    )
    drin = entries(found)["drin"]
    assert drin["seeds"] == [1]
    assert drin["std"]["test"]["top1"] == 0
    assert drin["mean"]["test"]["top1"] != before["mean"]["test"]["top1"]
    assert drin["seconds"] < before["seconds"]
    assert cells(done.stdout)["drin"]["top1"] == f"{100 * drin['mean']['test']['top1']:.1f}"


def test_a_head_that_diverges_and_one_without_columns_stop_no_other(tmp_path):
    path = tmp_path / "wikimel"
    signal_cache(path, 300, 80, 6, 0.4, "bert,jmel")
    options = ["--models", "clip_linear,jmel,bert", "--seeds", "0", "--epochs", "1", "--width", "8"]
    done = run_study("compare", path, tmp_path / "run", *options, "--temperature", "1e-44")
    assert done.exit_code == 0, done.stderr
    found = written(tmp_path / "run")
    assert [entry["name"] for entry in found["entries"]] == ["lexical", "bert"]
    lacking, diverged = found["not_run"]
    assert (lacking["name"], lacking["state"], diverged["name"], diverged["state"]) == (
        "clip_linear", "not run", "jmel", "diverged",
    )  # fmt: skip
    for command in (
        "melcache extract --dataset wikimel --for clip_linear",
        "melcache pull wikimel URL --for clip_linear",
    ):
        assert command in lacking["reason"]
    assert "the training loss of seed 0 became nan in epoch 1" in diverged["reason"]
    for text in (done.stdout, (tmp_path / "run/compare.md").read_text(), done.stderr):
        for other in (lacking, diverged):
            assert f"{other['state']}: {other['name']}: {other['reason']}" in text
    rows = cells(done.stdout)
    assert (rows["jmel"]["top1"], rows["jmel"]["published"]) == ("-", "31.3 a")
    assert rows["bert"]["p"] == f"{entries(found)['bert']['difference']['top1']['p']:.4f}"  # corrected for one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "bert,drine"], "--models drine: choose from lexical, prior"),
        (["--seeds", "0,0"], "--seeds 0,0: one or more different numbers"),
        (
            ["--models", "bert", "--layers", "3"],
            "--layers is no option of bert; leave it out, or choose from drin, drin_authors",
        ),
        (["--models", "bert", "--layers", "2"], "--layers is no option of bert"),  # 2 is what drin has
        (["--models", "bert,drin", "--edges", "x"], "--edges x: choose from text_to_text"),
        (["--models", "bert", "--option", "width=3"], "--option is for heads of your own"),
        (["--published", "mine"], "--published mine: choose from"),
        (["--models", "bert", "--baseline", "ghmfc"], "lacks the parts mention.regions"),
        (trained(epochs=3), "belongs to another run: epochs 2, now 3"),
    ],
)
def test_what_cannot_be_compared_is_one_line(wikidiverse, uninterrupted_study, options, message):
    before = (uninterrupted_study[0] / "compare.json").read_bytes()
    done = run_study("compare", wikidiverse, uninterrupted_study[0], *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert (uninterrupted_study[0] / "compare.json").read_bytes() == before


def test_fresh_trains_anew_and_is_not_asked_twice(wikidiverse, tmp_path, monkeypatch):
    options = ["--models", "bert", "--seeds", "0", "--epochs", "1"]
    assert run_study("compare", wikidiverse, tmp_path, *options, "--width", "8").exit_code == 0
    asked = []

    def killed(config, head, passed):
        asked.append((config.model, config.fresh))
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(loop, "fit", killed)
        with pytest.raises(Killed):
            run_study("compare", wikidiverse, tmp_path, *options, "--width", "9", "--fresh")
    assert asked == [("lexical", False)]
    assert not list(tmp_path.glob("compare.*"))
    assert not list((tmp_path / "bert").glob("seed-*"))
    assert (
        run_study("compare", wikidiverse, tmp_path, *options, "--width", "9").exit_code == 0
    )  # goes on without --fresh


def test_torchrun_is_refused(wikidiverse, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for command in ("compare", "ablate"):
        assert (
            f"{command} runs in one process: start it without torchrun"
            in run_study(command, wikidiverse, tmp_path).stderr
        )


def test_each_head_keeps_its_own_defaults_unless_told(tmp_path):
    own, told = CompareConfig(), CompareConfig(epochs=5, learning_rate=0.5)
    for model, epochs, rate in (("drin", 30, 1e-3), ("dwe_authors", 300, 5e-5)):
        found = runs.part(own, tmp_path, {"model": model})
        assert (found.epochs, found.learning_rate, found.seeds) == (epochs, rate, (0, 1, 2, 3, 4))
        found = runs.part(told, tmp_path, {"model": model})
        assert (found.epochs, found.learning_rate) == (5, 0.5)


def test_settings_of_the_authors_are_those_for_the_dataset(tmp_path):
    for dataset, epochs, rate in (("wikimel", 300, 5e-5), ("x/richpedia", 300, 5e-4), ("wikidiverse", 500, 5e-6)):
        found = runs.part(CompareConfig(dataset=dataset), tmp_path, {"model": "dwe_authors"})
        assert (found.epochs, found.learning_rate, found.batch) == (epochs, rate, 128)
        assert runs.part(CompareConfig(dataset=dataset), tmp_path, {"model": "dwe"}).epochs == 30
        assert runs.part(CompareConfig(dataset=dataset, epochs=3), tmp_path, {"model": "dwe_authors"}).epochs == 3


def test_progress_counts_every_epoch_once(wikidiverse, tmp_path, monkeypatch):
    counted = []

    class Counted:
        def __init__(self, total, label, unit):
            counted.append((total, label, unit))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def advance(self, count=1):
            counted.append(count)

    monkeypatch.setattr(runs, "Progress", Counted)
    options = [*trained(epochs=4), "--patience", "1", "--learning-rate", "1e-12"]
    assert run_study("compare", wikidiverse, tmp_path, *options).exit_code == 0
    stopped = json.loads((tmp_path / "bert/results.json").read_text())["seeds"]
    assert [len(seed["history"]) for seed in stopped] == [2, 2]
    assert counted[0] == (2 * 2 * 4, "compare", "epochs")
    assert sum(counted[1:]) == 2 * 2 * 4


def test_columns_are_those_of_the_papers_tables():
    assert tables.columns(100) == ("top1", "top5", "top10", "top20", "mrr")
    assert tables.columns(10) == ("top1", "top3", "top5", "mrr")
    assert tables.columns(5) == ("top1", "top3", "mrr")
    assert tables.columns(2) == ("top1", "mrr")


def test_markdown_keeps_a_table_whole():
    text = tables.as_markdown("a|b", [tables.Section(("x", "y"), (("1|2", "\x1b[31m"),))], ["n|o"])
    assert text == "# a\\|b\n\n| x | y |\n| --- | ---: |\n| 1\\|2 | �\\[31m |\n\n- n\\|o\n"


def test_a_picture_is_drawn_or_the_way_to_it_is_said(uninterrupted_study, tmp_path, monkeypatch, capsys):
    plot._lacks.cache_clear()  # it is said once in a process
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "matplotlib.figure", None)
        plot.draw(written(uninterrupted_study[0]), tmp_path / "compare")
    assert "need matplotlib (make setup EXTRAS=plot)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    pytest.importorskip("matplotlib")
    found = written(uninterrupted_study[0])
    plot.draw(found, tmp_path / "compare")
    assert (tmp_path / "compare.png").read_bytes()[1:4] == b"PNG"
    svg = (tmp_path / "compare.svg").read_text()
    assert all(name in svg for name in ("lexical", "bert", "drin", "published"))
    found |= {"dataset": "a $\\nothing$ \x1b[2J b", "warnings": ["one $x^{$ two"]}
    plot.draw(found, tmp_path / "strange")  # no formula
    assert r"$\nothing$" in (tmp_path / "strange.svg").read_text()


def test_a_refusal_of_several_heads_is_one_line(tmp_path):
    write(tmp_path / "toy", Synthetic(60, 30, 4, 0.4, 0, "bert,jmel", shares=(0.9, 0.0, 0.1), **SIGNAL_WIDTHS))
    options = ["--models", "jmel,bert", "--seeds", "0", "--epochs", "1", "--width", "8"]
    done = run_study("compare", tmp_path / "toy", tmp_path / "run", *options)
    reason = "has no mention to use in its valid split"
    assert done.exit_code == 0 and done.stdout.count(reason) == done.stderr.count(reason) == 1, done.output
    assert "not run: jmel, bert: " in done.stdout and "not run: bert: for the same reason" in done.stderr
