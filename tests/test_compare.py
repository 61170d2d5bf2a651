"""Comparisons and ablations: paired tests, published numbers, costs, and series of runs that survive a kill."""

import dataclasses
import itertools
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from typer.testing import CliRunner

import cache as melcache
from cache import schema
from cache.synth import Synthetic, write
from common.errors import ConfigError
from train import ablate, costs, loop, metrics, page, plot, published, series
from train.checkpoint import Checkpoints
from train.cli import app
from train.config import CompareConfig
from train.heads import HEAD_CONFIGS, DrinConfig, JointConfig
from train.models import MODELS, build
from train.significance import approximate_randomization, holm, paired_bootstrap

torch.set_num_threads(1)

HEADS = "lexical,prior,clip,bert,jmel,clip_linear,drin"
SIZE = {"text_width": 24, "image_width": 16, "clip_width": 12}
TRAINED = "--models bert,drin --seeds 0,1 --epochs 2 --width 16".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("synth") / "wikidiverse"
    write(path, Synthetic(600, 150, 6, 0.4, 0, HEADS, **SIZE))
    return path


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """Return the folder of a comparison that nothing interrupted, and its table."""
    run = tmp_path_factory.mktemp("whole") / "compare"
    done = invoke("compare", folder, run, *TRAINED)
    assert done.exit_code == 0, done.stderr
    return run, done.stdout


def invoke(command, folder, run, *options):
    arguments = [command, "--dataset", str(folder), "--run", str(run), "--device", "cpu", "--threads", "1", *options]
    return CliRunner().invoke(app, arguments)


def written(run, name="compare"):
    return json.loads((run / f"{name}.json").read_text())


def entries(found):
    return {entry["name"]: entry for entry in found["entries"]}


def cells(text):
    """Return the rows of the first table by their first cell."""
    lines = text.split("\n\n")[0].splitlines()
    starts = [match.start() for match in re.finditer(r"-+", lines[1])]
    ends = [*starts[1:], None]
    rows = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


# paired tests


def pairs(rng, n, gain=0.0):
    """Two heads' hits of n mentions, half of which both share; the second is better by `gain`."""
    first, second = rng.random(n) < 0.6, rng.random(n) < 0.6 + gain / 0.5
    second[: n // 2] = first[: n // 2]
    return (second.astype(float) - first)[:, None]


def test_randomization_equals_the_enumeration_of_all_exchanges():
    rng = np.random.default_rng(3)
    differences = np.stack([rng.normal(0.3, 1, 10), rng.choice([-1, 0, 0.5, 1], 10)], 1)
    exact = []
    for column in differences.T:
        sums = [
            sum(s * d for s, d in zip(signs, column, strict=True)) for signs in itertools.product((1, -1), repeat=10)
        ]
        exact.append(np.mean([abs(total) >= abs(column.sum()) - 1e-9 for total in sums]))
    found = approximate_randomization(differences, resamples=40_000)
    deviation = np.sqrt(np.array(exact) * (1 - np.array(exact)) / 40_000)
    assert (np.abs(found - exact) < 4 * deviation + 1 / 40_000).all()
    assert min(exact) < 0.9


def test_bootstrap_equals_the_enumeration_of_all_resamples():
    values = np.array([-0.31, 0.12, 0.57, 0.9, 1.3])
    means = np.array([np.mean(drawn) for drawn in itertools.product(values, repeat=5)])
    low, high, p = paired_bootstrap(values[:, None], resamples=40_000)
    for end, share in ((low, 0.025), (high, 0.975)):  # the quantile itself jumps from one mean to the next
        assert np.mean(means < end) - 0.004 <= share <= np.mean(means <= end) + 0.004
    assert p[0] == pytest.approx(2 * np.mean(means <= 0), abs=0.006)
    wide, narrow = paired_bootstrap(values[:, None], level=0.99), paired_bootstrap(values[:, None], level=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_equal_heads_differ_in_one_of_twenty_tests_and_a_better_one_is_seen():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        differences = pairs(rng, 200)
        low, high, _ = paired_bootstrap(differences, resamples=400)
        found.append((approximate_randomization(differences, resamples=400)[0] < 0.05, not low[0] <= 0 <= high[0]))
    for share in np.mean(found, axis=0):  # three and a half deviations around 0.05
        assert 0.012 < share < 0.088
    better = [approximate_randomization(pairs(rng, 1000, 0.08), resamples=400)[0] < 0.05 for _ in range(100)]
    assert np.mean(better) > 0.9


def test_p_is_never_zero_and_one_where_nothing_differs():
    assert approximate_randomization(np.ones((40, 1)), resamples=99)[0] == 1 / 100
    assert paired_bootstrap(np.ones((40, 1)), resamples=99)[2][0] == 2 / 100
    assert approximate_randomization(np.zeros((40, 1)))[0] == 1
    assert [float(end[0]) for end in paired_bootstrap(np.zeros((40, 1)))] == [0, 0, 1]
    # 0.1 + 0.2 - 0.3 is not 0 in binary, but its exchanges are no less extreme
    assert approximate_randomization(np.array([[0.1], [0.2], [-0.3]]))[0] == 1


def test_a_p_does_not_depend_on_what_else_is_tested():
    values = np.random.default_rng(0).normal(0.1, 1, (300, 3))
    for test in (paired_bootstrap, lambda columns: (approximate_randomization(columns),)):
        for together, alone in zip(test(values), test(values[:, [1]]), strict=True):
            assert together[1] == pytest.approx(alone[0], abs=1e-12)


def test_holm_equals_numbers_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_values_of_mentions_equal_loops():
    better = torch.tensor([0, 0, 2, 4, metrics.NEVER])
    tied = torch.tensor([0, 1, 2, 0, 0])
    top3 = [np.mean([rank <= 3 for rank in range(b + 1, b + t + 2)]) for b, t in ((0, 0), (0, 1), (2, 2), (4, 0))]
    mrr = [np.mean([1 / rank for rank in range(b + 1, b + t + 2)]) for b, t in ((0, 0), (0, 1), (2, 2), (4, 0))]
    assert metrics.per_mention(better, tied, "top3").tolist() == pytest.approx([*top3, 0])
    assert metrics.per_mention(better, tied, "mrr").tolist() == pytest.approx([*mrr, 0])


# published numbers


def test_published_numbers_are_those_of_the_papers():
    def tops(dataset, *models):
        return [published.of_head(dataset, model, None)["top1"] for model in models]

    assert tops("wikimel", "bert", "jmel", "dzmned", "mel_hi", "ghmfc", "drin") == [31.7, 31.3, 34.7, 38.6, 43.6, 65.5]
    assert tops("wikidiverse", "bert", "mel_hi", "ghmfc", "drin") == [45.5, 45.7, 46.0, 51.1]
    assert [tops(dataset, "dwe") for dataset in ("richpedia", "wikimel", "wikidiverse")] == [[67.6], [44.7], [47.5]]
    plus = type("Wikipedia", (), {"more": ("entity.clip.description",)})
    found = [
        published.of_head(dataset, "dwe_authors", plus)["top1"] for dataset in ("richpedia", "wikimel", "wikidiverse")
    ]
    assert found == [72.5, 72.8, 51.2]
    drin = published.of_head("wikimel", "drin_authors", None)
    assert drin == {"source": "a", "top1": 65.5, "top5": 91.3, "top10": 95.8, "top20": 97.7}
    assert published.of_head("wikidiverse", "drin", None) == {"source": "a", "top1": 51.1, "top3": 77.9, "top5": 89.3}
    without = ("image_to_image", "image_to_text", "text_to_image", "text_to_text")
    for dataset, expected in (("wikimel", [65.2, 64.0, 64.4, 61.2]), ("wikidiverse", [49.1, 49.1, 49.3, 48.6])):
        assert [published.of_ablation(dataset, f"without {edge}")["top1"] for edge in without] == expected
    assert [published.of_ablation(dataset, "static edges")["top1"] for dataset in published.EDGES] == [57.8, 49.0]
    assert published.of_layers("wikidiverse", 2)["valid"] == {"top1": 48.5, "top3": 77.3, "top5": 87.8}
    assert published.of_layers("wikimel", 5)["test"]["top1"] == 62.9


def test_published_tables_are_complete_and_of_heads_that_there_are():
    assert {name.removesuffix("+") for rows in published.RESULTS.values() for name in rows} <= set(schema.READS)
    for dataset, rows in published.RESULTS.items():
        for source, values in rows.values():
            assert len(values) == len(published.SOURCES[source].ks[dataset])
            assert list(values) == sorted(values)  # Top-k grows with k
    for tables in (published.EDGES, published.LAYERS):
        assert tables.keys() == published.DRIN_KS.keys()
    for dataset, rows in published.EDGES.items():
        assert set(rows) == {"full", *(name for name in ablate.ABLATIONS["drin"][1] if "layers" not in name)}
        assert rows["full"] == published.RESULTS[dataset]["drin"][1]


def test_published_numbers_go_with_the_name_of_the_dataset_unless_told():
    assert published.dataset_of(None, "wikimel") == "wikimel"
    assert published.dataset_of(None, "mine") is None
    assert published.dataset_of("richpedia", "mine") == "richpedia"
    assert published.of_head(None, "drin", None) is None
    with pytest.raises(ConfigError, match="--published mine: choose from wikimel, wikidiverse, richpedia"):
        published.dataset_of("mine", "wikimel")


# compare


def test_a_comparison_holds_what_its_runs_hold(folder, whole):
    run, text = whole
    found = written(run)
    assert [entry["name"] for entry in found["entries"]] == ["lexical", "bert", "drin"]
    for name, entry in entries(found).items():
        results = json.loads((run / name / "results.json").read_text())
        assert entry["mean"] == results["mean"]
        assert entry["std"] == results["std"]
        assert found["cache_id"] == results["cache_id"] == melcache.open(folder).id
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


def test_the_table_the_markdown_and_the_json_agree(whole):
    run, text = whole
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
    assert [rows[name]["published"] for name in rows] == ["-", "45.5 a", "51.1 a"]
    assert "a DRIN Table 2, protocol A" in text
    markdown = (run / "compare.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown if line.startswith("|")]
    assert table[2:] == [list(row.values()) for row in rows.values()]


class Killed(BaseException):
    """A kill while a seed is being finished, without a second process."""


def test_a_killed_comparison_continues_and_ends_the_same(folder, whole, tmp_path, monkeypatch):
    finished, real = [], Checkpoints.finish

    def finish(self, result, state):
        finished.append((self.folder.name, result["seed"]))
        if len(finished) == 4:
            raise Killed
        real(self, result, state)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "finish", finish)
        with pytest.raises(Killed):
            invoke("compare", folder, tmp_path, *TRAINED)
    assert finished == [("bert", 0), ("bert", 1), ("drin", 0), ("drin", 1)]
    assert not (tmp_path / "compare.json").exists()
    trained, fit_seeds = [], loop.fit_seeds

    def recorded(*arguments):
        trained.append((arguments[0].model, *arguments[3]))
        return fit_seeds(*arguments)

    monkeypatch.setattr(loop, "fit_seeds", recorded)
    done = invoke("compare", folder, tmp_path, *TRAINED)
    assert done.exit_code == 0, done.stderr
    assert trained == [("drin", 1)]
    assert "1 of 2 heads to train" in done.stderr
    assert "finished before: bert" in done.stderr
    uninterrupted, continued = written(whole[0]), written(tmp_path)
    for found in (uninterrupted, continued):
        for entry in found["entries"]:
            del entry["seconds"], entry["run"]
    assert continued == uninterrupted
    before = (tmp_path / "compare.json").read_bytes()
    assert invoke("compare", folder, tmp_path, *TRAINED).exit_code == 0
    assert (tmp_path / "compare.json").read_bytes() == before
    assert len(trained) == 1


def test_only_the_seeds_asked_for_count_and_other_heads_can_join(folder, whole, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(whole[0], run)
    before = entries(written(run))["drin"]
    done = invoke("compare", folder, run, *TRAINED, "--seeds", "1", "--models", "drin,prior", "--baseline", "prior")
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
    write(path, Synthetic(300, 80, 6, 0.4, 0, "bert,jmel", **SIZE))
    options = ["--models", "clip_linear,jmel,bert", "--seeds", "0", "--epochs", "1", "--width", "8"]
    done = invoke("compare", path, tmp_path / "run", *options, "--temperature", "1e-44")
    assert done.exit_code == 0, done.stderr
    found = written(tmp_path / "run")
    assert [entry["name"] for entry in found["entries"]] == ["lexical", "bert"]
    lacking, diverged = found["not_run"]
    assert (lacking["name"], lacking["state"], diverged["name"], diverged["state"]) == (
        "clip_linear", "not run", "jmel", "diverged",
    )  # fmt: skip
    for command in (
        "python -m extract --dataset wikimel --for clip_linear",
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
        (["--models", "bert", "--layers", "3"], "--layers is no option of lexical, bert"),
        (["--published", "mine"], "--published mine: choose from"),
        (["--models", "bert", "--baseline", "ghmfc"], "lacks the parts mention.regions"),
        ([*TRAINED, "--epochs", "3"], "is of a run with another epochs (2, now 3)"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder, whole, options, message):
    before = (whole[0] / "compare.json").read_bytes()
    done = invoke("compare", folder, whole[0], *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert (whole[0] / "compare.json").read_bytes() == before


def test_fresh_trains_anew_and_is_not_asked_twice(folder, tmp_path, monkeypatch):
    options = ["--models", "bert", "--seeds", "0", "--epochs", "1"]
    assert invoke("compare", folder, tmp_path, *options, "--width", "8").exit_code == 0
    asked = []

    def killed(config, head, passed):
        asked.append((config.model, config.fresh))
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(loop, "fit", killed)
        with pytest.raises(Killed):
            invoke("compare", folder, tmp_path, *options, "--width", "9", "--fresh")
    assert asked == [("lexical", False)]
    assert not list(tmp_path.glob("compare.*"))
    assert not list((tmp_path / "bert").glob("seed-*"))
    assert invoke("compare", folder, tmp_path, *options, "--width", "9").exit_code == 0  # goes on without --fresh


def test_torchrun_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for command in ("compare", "ablate"):
        assert f"{command} runs in one process: start it without torchrun" in invoke(command, folder, tmp_path).stderr


def test_each_head_keeps_its_own_defaults_unless_told(tmp_path):
    own, told = CompareConfig(), CompareConfig(epochs=5, learning_rate=0.5)
    for model, epochs, rate in (("drin", 30, 1e-3), ("dwe_authors", 300, 5e-5)):
        found = series.part(own, tmp_path, {"model": model})
        assert (found.epochs, found.learning_rate, found.seeds) == (epochs, rate, (0, 1, 2, 3, 4))
        found = series.part(told, tmp_path, {"model": model})
        assert (found.epochs, found.learning_rate) == (5, 0.5)


def test_progress_counts_every_epoch_once(folder, tmp_path, monkeypatch):
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

    monkeypatch.setattr(series, "Progress", Counted)
    options = [*TRAINED, "--epochs", "4", "--patience", "1"]
    assert invoke("compare", folder, tmp_path, *options).exit_code == 0
    assert counted[0] == (2 * 2 * 4, "compare", "epochs")
    assert sum(counted[1:]) == 2 * 2 * 4


def test_columns_are_those_of_the_papers_tables():
    assert page.columns(100) == ("top1", "top5", "top10", "top20", "mrr")
    assert page.columns(10) == ("top1", "top3", "top5", "mrr")
    assert page.columns(5) == ("top1", "top3", "mrr")
    assert page.columns(2) == ("top1", "mrr")


def test_markdown_keeps_a_table_whole():
    text = page.as_markdown("a|b", [page.Section(("x", "y"), (("1|2", "\x1b[31m"),))], ["n|o"])
    assert text == "# a\\|b\n\n| x | y |\n| --- | ---: |\n| 1\\|2 | �[31m |\n\n- n\\|o\n"


def test_a_picture_is_drawn_or_the_way_to_it_is_said(whole, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "matplotlib.figure", None)
        plot.draw(written(whole[0]), tmp_path / "compare")
    assert "needs matplotlib (uv pip install matplotlib)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    pytest.importorskip("matplotlib")
    plot.draw(written(whole[0]), tmp_path / "compare")
    assert (tmp_path / "compare.png").read_bytes()[1:4] == b"PNG"
    svg = (tmp_path / "compare.svg").read_text()
    assert all(name in svg for name in ("lexical", "bert", "drin", "published"))


# ablate


def test_an_ablation_is_drins_tables_3_and_4(folder, tmp_path):
    options = ["--seeds", "0", "--epochs", "1", "--width", "8"]
    done = invoke("ablate", folder, tmp_path, *options)
    assert done.exit_code == 0, done.stderr
    found = written(tmp_path, "ablate")
    heads = {}
    for name, entry in entries(found).items():
        heads[name] = json.loads((tmp_path / name.replace(" ", "-") / "results.json").read_text())["config"]["drin"]
        assert (entry["difference"] is None) == (name == "full")
    assert [heads[f"layers {n}"]["layers"] for n in (1, 3, 4, 5)] == [1, 3, 4, 5]
    assert heads["static edges"]["static"]
    assert set(schema.EDGES) - set(heads["without text_to_image"]["edges"]) == {"text_to_image"}
    assert len(heads["without text_to_image"]["edges"]) == 3
    assert len(heads) == 1 + 4 + 1 + 4
    assert [row["entry"] for row in found["layers"]] == ["layers 1", "full", "layers 3", "layers 4", "layers 5"]
    rows = cells(done.stdout)
    assert [rows[name]["published"] for name in ("full", "without text_to_text", "layers 4")] == [
        "51.1 c",
        "48.6 c",
        "47.2 c",
    ]
    table4 = done.stdout.split("\n\n")[1].splitlines()[2:]
    assert [line.split()[0] for line in table4] == ["1", "2", "3", "4", "5"]
    assert table4[1].split()[1] == f"{100 * entries(found)['full']['mean']['valid']['top1']:.1f}"
    assert {cost["head"] for cost in found["costs"]["heads"]} <= set(MODELS)
    again = invoke("ablate", folder, tmp_path, *options)
    assert "0 of 10 heads to train" in again.stderr
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "bert"], "--model bert has no ablations; choose from drin"),
        (["--model", "prior"], "--model prior has no ablations"),
        (["--layers", "3"], "--layers is what the ablation varies: leave it out"),
        (["--temperature", "3"], "--temperature is no option of drin"),
    ],
)
def test_what_cannot_be_ablated_is_one_line(folder, tmp_path, options, message):
    done = invoke("ablate", folder, tmp_path, *options)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_ablations_name_knobs_that_heads_have():
    for model in ablate.ABLATIONS.keys() & HEAD_CONFIGS.keys():
        more, changes = ablate.ABLATIONS[model]
        full = dataclasses.replace(HEAD_CONFIGS[model](), **more)
        for change in changes.values():
            dataclasses.replace(full, **change)


@dataclasses.dataclass(frozen=True)
class Described:
    """A head whose full form reads a column that few caches have."""

    text: str = "short"
    refine: bool = True

    @property
    def more(self):
        return ("entity.clip.description",) if self.text == "long" else ()


def test_without_the_columns_of_the_full_head_the_plain_one_is_ablated(folder, monkeypatch):
    monkeypatch.setitem(schema.READS, "described", schema.READS["clip"])
    variants = {"without text": {"text": "short"}, "raw": {"refine": False}}
    monkeypatch.setitem(ablate.ABLATIONS, "described", ({"text": "long"}, variants))
    reader = melcache.open(folder)
    found, lacking = ablate._variants("described", {"described": Described()}, reader)
    assert found == {"full": Described(), "raw": Described(refine=False)}
    assert lacking[0]["name"] == "described with text long"
    assert "entity.clip.description" in lacking[0]["reason"]
    monkeypatch.setattr(type(reader), "columns", [*reader.columns, "entity.clip.description"])
    found, lacking = ablate._variants("described", {"described": Described()}, reader)
    assert lacking == []
    assert found["full"] == Described("long")
    assert found["without text"] == Described("short")
    assert found["raw"] == Described("long", False)


# costs


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_counted_operations_of_drin_equal_a_count_by_hand(folder, layers):
    c, d, w, v = 6, 20, SIZE["text_width"], SIZE["image_width"]
    found = costs.count(melcache.open(folder), "drin", DrinConfig(width=d, layers=layers))
    score = 2 * (1 + c) * w * d + 2 * v * d  # Eq. 2 to 4; Eq. 5 is folded into what follows
    for layer in range(1, layers):
        own = layer > 1  # entity images have something added to W x
        read = 1 if layer + 1 == layers else 2  # mention vertices whose edges to images the next layer reads
        score += 4 * c * d + 4 * c * v + 4 * v * d + 4 * c * d * own  # Eq. 12: two sums over texts, over images
        score += 4 * 2 * d * d + 2 * 4 * c * d  # W_h of two sums and two mention vertices; what entities receive
        score += 2 * 2 * 2 * d * d + 4 * c * d  # Eq. 13: W_2^T W_1 of two vertices, their products with texts
        score += read * (2 * d * v + 2 * c * v + 2 * c * d)  # and with images
    score += 2 * c * d + 2 * c * v + 2 * v * d + 2 * c * d * (layers > 1)  # the last layer: one sum over each
    score += 3 * 2 * d * d + 4 * c * d  # W_h of three vectors, what texts receive
    score += 2 * c * d + 2 * c * d + 2 * d  # Eq. 14: dot products and norms
    assert found["score"] == score
    assert found["parameters"] == 2 * w * d + 2 * v * d + layers * d * d + 2 * (layers - 1) * d * d


def test_counted_operations_of_a_training_step_of_drin_equal_a_count_by_hand(folder):
    c, d, w, v = 6, 20, SIZE["text_width"], SIZE["image_width"]
    found = costs.count(melcache.open(folder), "drin", DrinConfig(width=d))
    back = 2 * c * d + 2 * c * d  # Eq. 14: to query and vectors
    back += 8 * c * d  # last layer: what texts received, to edges and to what was sent
    back += 2 * 3 * 2 * d * d  # its W_h: to weight and to vectors
    back += 4 * c * d  # its sum over texts: to edges, to texts
    back += 4 * v * d + 2 * c * v + 4 * c * d  # its sum over images: W, features' weights, what was added
    back += 8 * c * d  # Eq. 13 with texts: to queries, to texts
    back += 2 * c * v + 4 * d * v + 4 * c * d  # with images: features, W, what was added
    back += 2 * 2 * 2 * 2 * d * d  # W_2^T W_1: to weights and to vertices
    back += 8 * c * d  # first layer: what texts and images received, to what was sent; its edges were extracted
    back += 2 * 4 * 2 * d * d  # its W_h
    back += 4 * c * d + 4 * v * d  # its sums: to texts, to W
    back += 2 * (1 + c) * w * d + 2 * v * d  # Eq. 2 to 4: to weights
    assert found["train"] == found["score"] + back


def test_counted_operations_of_bert_equal_a_count_by_hand(folder):
    c, d, w = 6, 20, SIZE["text_width"]
    found = costs.count(melcache.open(folder), "bert", JointConfig(width=d))
    score = 2 * (1 + c) * w * d + 4 * c * d + 2 * d  # two layers; dot products, norms
    assert found["score"] == score
    assert found["train"] == score + 4 * c * d + 2 * (1 + c) * w * d  # to query and vectors; to weights
    assert found["parameters"] == 2 * (w * d + d)
    assert found["batch"] == 64


def test_an_lstm_is_counted():
    model, steps = torch.nn.LSTM(10, 7, batch_first=True), torch.randn(3, 5, 10)
    with FlopCounterMode(display=False, custom_mapping=costs.UNSEEN) as counted:
        model(steps)
    assert counted.get_total_flops() == 3 * 5 * 2 * 4 * 7 * (10 + 7)


class Seen(TorchDispatchMode):
    """Within it, the names of all operators are collected."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))


PRODUCTS = """
addbmm addmm addmm_ addmv addmv_ addr baddbmm baddbmm_ bmm convolution dot ger linear lstm matmul mm mv vdot
mkldnn_rnn_layer _native_multi_head_attention _thnn_fused_gru_cell _thnn_fused_lstm_cell linalg_vector_norm
""".split()


@pytest.mark.parametrize("model", MODELS)
def test_no_head_computes_products_that_are_not_counted(model, tmp_path):
    write(tmp_path / "all", Synthetic(80, 40, 4, 0.4, 0, model, regions=4, **SIZE))
    kind = HEAD_CONFIGS[model]
    head = kind(head=model) if "head" in kind.__dataclass_fields__ else kind()
    reader = melcache.open(tmp_path / "all")
    found = costs.count(reader, model, head)
    assert found["train"] > found["score"] > 0
    config = costs.TrainConfig(model=model)
    head = costs.with_widths(head, reader)
    table = costs.table_of(config, head, reader, torch.device("cpu"))
    with Seen() as seen:
        build(model, head, with_lexical=False).objective(table.batch(torch.arange(20))).backward()
    counted = flop_registry.keys() | costs.UNSEEN.keys()
    assert {packet for packet in seen.names - counted if packet.__name__ in PRODUCTS} == set()


def test_costs_are_a_command(folder):
    done = CliRunner().invoke(app, ["costs", "--dataset", str(folder), "--width", "16"])
    assert done.exit_code == 0, done.stderr
    assert "DRIN 5.5 estimates 12 L r d^2 = 0.0 million" in done.stdout
    found = json.loads(CliRunner().invoke(app, ["costs", "--dataset", str(folder), "--width", "16", "--json"]).stdout)
    counted = {cost["head"]: cost for cost in found["heads"]}
    assert counted["drin"]["paper"] == 12 * 2 * 6 * 16 * 16
    assert counted["bert"]["parameters"] == 2 * (24 * 16 + 16)
    for other in found["not_counted"]:
        assert f"not counted: {other['head']}: " in done.stdout
