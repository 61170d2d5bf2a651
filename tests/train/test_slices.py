"""Slices of a finished run: who is in which, by hand and by loops, and that their numbers add up to the run's."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file
from safetensors.torch import load_file
from typer.testing import CliRunner

import melcache
from bench.accuracy import real_text
from cache.schema import UNLABELED
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.config.inspecting import SLICINGS, SlicesConfig
from train.heads.joint.config import JointConfig
from train.inspecting import slices

ROWS = np.array([4, 5, 6, 7, 8])
COLUMNS = {
    # the first four are train's
    "mention.ids.splits": np.array([1, 1, 1, 1, 4, 6, 4, 4, 4], np.uint8),
    "mention.ids.surface": np.array([b"Vail", b"Vail", b"Vail", b"Alps", b"Vail", b"Alps", b"Rome", b"Alps", b"nil"]),
    "mention.ids.gold": np.array([0, 0, 1, -1, 0, 1, 2, -1, 3], np.int32),
    "mention.ids.type": np.array([b"LOC", b"", b"", b"", b"LOC", b"PER", b"", b"LOC", b"PER"]),
    "mention.ids.image_status": np.array([0, 0, 0, 0, 0, 1, 2, 0, 9], np.uint8),
    "entity.ids.image_status": np.array([0, 3, 0, 0], np.uint8),
    "entity.ids.name": np.array([b"Vail", b"ALPS", b"Rome (film)", b"Rome"]),
    "pair.candidates.candidates": np.array(
        [[0, 1, 2, 3]] * 5 + [[3, 1, -1, -1], [0, 1, 2, 3], [-1] * 4, [2, 0, 1, -1]]
    ),
    "pair.candidates.lexical": np.array(
        [[1, 1, 0, 0]] * 4 + [[9, 8, 8, 8], [4, 4, 4, 4], [5] * 4, [0] * 4, [1, 2, 2, 2]]
    )
    / np.float32(10),
}


def labels(name):
    return [slicing.label(COLUMNS, ROWS).tolist() for slicing in slices.SLICINGS[name]]


def test_every_mention_is_in_the_slice_where_a_person_puts_it():
    assert labels("gold") == [["seen", "seen", "not seen", slices.NIL, "not seen"]]
    assert labels("surface") == [["2 to 5", "none", "none", "none", "none"]]  # Alps means nil in train: no meaning
    assert labels("type") == [["LOC", "PER", "none", "LOC", "PER"]]
    assert labels("picture") == [
        ["present", "missing", "missing", "present", "missing"],
        ["present", "missing", "present", slices.NIL, "present"],
    ]
    assert labels("matches") == [["1", "2 to 5", "2 to 5", "none", "2 to 5"]]  # padding matches nothing
    assert labels("release") == [["2 to 5", "1", "1", "1", "1"]]
    assert labels("name") == [["gold", "gold", "another entity", "another entity", "no entity"]]
    assert set(slices.SLICINGS) == set(SLICINGS)


@pytest.mark.parametrize(("meanings", "label"), [(1, "1"), (2, "2 to 5"), (5, "2 to 5"), (6, "more than 5")])
def test_meanings_are_distinct_golds_of_a_string(meanings, label):
    gold = np.array([*range(meanings), *range(meanings), 0], np.int32)
    columns = {
        "mention.ids.surface": np.array([b"x"] * len(gold)),
        "mention.ids.gold": gold,
        "mention.ids.splits": np.array([1] * (len(gold) - 1) + [4], np.uint8),
    }
    (slicing,) = slices.SLICINGS["surface"]
    assert slicing.label(columns, np.array([len(gold) - 1])).tolist() == [label]


def test_an_unlabeled_mention_beside_a_single_entity_has_no_gold_by_name():
    columns = {
        "mention.ids.surface": np.array([b"x", b"y"]),
        "mention.ids.gold": np.array([UNLABELED, UNLABELED], np.int32),
        "entity.ids.name": np.array([b"x"]),
    }
    (slicing,) = slices.SLICINGS["name"]
    assert slicing.label(columns, np.arange(2)).tolist() == ["another entity", "no entity"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two seeds on a cache with strings and golds, but without types and reasons of missing pictures."""
    folder = tmp_path_factory.mktemp("slices")
    write(folder / "synthetic", Synthetic(900, 600, 6, 0.4, 0, "bert,prior", text_width=12))
    config = TrainConfig(
        dataset=str(folder / "synthetic"), model="bert", run=folder / "run", seeds=(0, 3), epochs=2, device="cpu"
    )
    loop.fit(config, JointConfig(width=8))
    return folder


def test_slices_weighted_by_their_size_are_the_run(finished):
    found = slices.examine(SlicesConfig(run=finished / "run", by=("gold", "surface")))
    results = json.loads((finished / "run/results.json").read_text())
    assert found["slices"].keys() == {"gold entity in train", "meanings of the string in train"}
    for parts in found["slices"].values():
        assert len(parts) > 1
        sizes = [part["mentions"] for part in parts.values()]
        assert sum(sizes) == results["mean"]["test"]["mentions"] == 90
        for name in ("top1", "top5", "mrr", "recall"):
            mean = sum(size * part["mean"][name] for size, part in zip(sizes, parts.values(), strict=True)) / sum(sizes)
            assert mean == pytest.approx(results["mean"]["test"][name])


def test_either_is_right_where_the_matcher_or_the_head_is(finished):
    reader, ranks = (
        melcache.open(finished / "synthetic"),
        [load_file(finished / f"run/ranks-{s}.safetensors") for s in (0, 3)],
    )
    lists = [reader.column(f"pair.candidates.{name}") for name in ("lexical", "gold")]
    matcher, either = [], []
    for place, row in enumerate(ranks[0]["rows"].tolist()):
        scores, gold = lists[0][row].tolist(), int(lists[1][row])
        best = max(scores)
        matcher.append((scores[gold] == best) / scores.count(best) if gold >= 0 else 0.0)
        own = [(seed["better"][place] == 0) / (int(seed["tied"][place]) + 1) for seed in ranks]
        either.append(np.mean([max(matcher[-1], float(hit)) for hit in own]))
    found = slices.examine(SlicesConfig(run=finished / "run", by=("release",)))["slices"]
    parts = found["meanings of the string in the release"].values()
    for name, expected in (("lexical", matcher), ("either", either)):
        assert sum(p["mentions"] * p["mean"][name] for p in parts) / 90 == pytest.approx(np.mean(expected))
    assert np.mean(matcher) < np.mean(either)
    assert all(p["std"]["lexical"] == 0 for p in parts)


def test_numbers_of_a_slice_equal_loops_over_its_ranks(finished):
    reader = melcache.open(finished / "synthetic")
    gold, splits = reader.column("mention.ids.gold"), reader.column("mention.ids.splits")
    seen = set(gold[splits & 1 == 1].tolist())
    tops = []
    for seed in (0, 3):
        ranks = load_file(finished / f"run/ranks-{seed}.safetensors")
        rows = zip(ranks["rows"].tolist(), ranks["better"].tolist(), ranks["tied"].tolist(), strict=True)
        hits = [(better == 0) / (tied + 1) for row, better, tied in rows if int(gold[row]) not in seen]
        tops.append(np.mean(hits))
    part = slices.examine(SlicesConfig(run=finished / "run"))["slices"]["gold entity in train"]["not seen"]
    assert part["mentions"] == len(hits)
    assert part["mean"]["top1"] == pytest.approx(np.mean(tops))
    assert part["std"]["top1"] == pytest.approx(np.std(tops, ddof=1))
    assert part["std"]["top1"] > 0


def test_errors_of_the_real_text_study_are_put_where_a_person_puts_them(tmp_path):
    surfaces = ["Vail", "vail", "Vail", "Alps", "Vail", "VAIL", "Vail", "vail", "Alps"]
    golds = {
        "mention.ids.gold": np.array([0, 0, 1, 2, 0, 1, 2, 3, 2]),
        "mention.ids.splits": np.array([1] * 4 + [4] * 5),
    }
    reader = SimpleNamespace(strings=lambda name: surfaces, column=golds.__getitem__)
    for seed, better in enumerate(([0, 2, 0, 1 << 40, 0], [1, 2, 0, 1 << 40, 0])):
        ranks = {"rows": [4, 5, 6, 7, 8], "better": better, "tied": [0, 0, 1, 0, 0]}
        save_file({name: np.array(held) for name, held in ranks.items()}, tmp_path / f"ranks-{seed}.safetensors")
    assert real_text.errors(tmp_path, reader)[2:] == [
        "| its commonest meaning | 1 | 50.0 | 100.0 | 0 |",
        "| a rarer one | 1 | 0.0 | 100.0 | 1 |",
        "| not its meaning, but another string's | 1 | 50.0 | 100.0 | 0 |",
        "| not there | 1 | 0.0 | 0.0 | 1 |",
        "| all | 4 | 25.0 | 75.0 | 3 |",
    ]


def test_what_the_cache_lacks_is_left_out_and_said(finished):
    run = CliRunner().invoke(app, ["slices", "--run", str(finished / "run")])
    assert run.exit_code == 0, run.output
    assert run.stdout.splitlines()[0] == "bert on synthetic test, %; protocol A retrieved, expected ties"
    path = finished / "synthetic"
    assert run.stdout.splitlines()[-4:-1] == [
        f"left out: mention type, since {path} lacks mention.ids.type",
        f"left out: mention picture, since {path} lacks mention.ids.image_status",
        f"left out: picture of gold, since {path} lacks entity.ids.image_status",
    ]
    assert run.stdout.splitlines()[-1].startswith("warning: synthetic data")
    assert any(line.startswith("not seen  ") and line.count(" ± ") == 6 for line in run.stdout.splitlines())


def test_json_holds_what_the_table_shows(finished):
    run = CliRunner().invoke(app, ["slices", "--run", str(finished / "run"), "--by", "gold", "--json"])
    assert json.loads(run.stdout) == slices.examine(SlicesConfig(run=finished / "run", by=("gold",)))


def test_errors_are_one_line_with_a_way_out(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no finished run: no results\.json.*melcache train"):
        slices.examine(SlicesConfig(run=tmp_path))
    with pytest.raises(
        ConfigError, match="--by letters: choose from matches, release, surface, name, gold, type, picture"
    ):
        SlicesConfig(run=tmp_path, by=("letters",))
    write(tmp_path / "other", Synthetic(100, 20, 4, 0.4, 1, "bert,prior", text_width=12))
    with pytest.raises(ConfigError, match=r"other has id .* but the run was trained on"):
        slices.examine(SlicesConfig(run=finished / "run", dataset=str(tmp_path / "other")))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.json").write_bytes((finished / "run/results.json").read_bytes())
    with pytest.raises(ConfigError, match=r"ranks-0\.safetensors is missing\. Remove seed-0.* and train again"):
        slices.examine(SlicesConfig(run=tmp_path / "run"))
