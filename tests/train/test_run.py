"""A run's identity is every knob that is not of the machine; what nobody gave is decided once; help says how."""

import dataclasses
from types import SimpleNamespace

import pytest

from common.errors import ConfigError
from common.options import knob
from train import run as runs
from train.config import DECISIVE, TrainConfig, decisive, resolved
from train.config.studies import CompareConfig, SweepConfig
from train.data import splits
from train.heads import presets
from train.heads.drin.config import DrinConfig
from train.heads.ghmfc.config import GhmfcConfig
from train.heads.joint.config import JointConfig
from train.heads.registry import HEADS
from train.searching import shared_trials

DECIDING = """
epochs batch learning_rate weight_decay warm_up decay clip_norm restart select patience precision protocol rerank
select_among valid_from with_lexical objective hardest
""".split()


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setattr(splits, "digest_of", lambda reader: "5" * 64)
    return SimpleNamespace(id="c" * 64)


@dataclasses.dataclass(frozen=True)
class Later(TrainConfig):
    """The knobs of some later version."""

    smoothing: float = knob(0.1, "of the labels")
    workers: int = knob(2, "processes that read", machine=True)


def test_a_new_knob_is_part_of_the_identity_unless_it_is_of_the_machine(reader):
    first, second = (runs.identity(Later(smoothing=value), DrinConfig(), reader) for value in (0.1, 0.2))
    assert {name for name in first if first[name] != second[name]} == {"smoothing"}
    assert runs.identity(Later(workers=9), DrinConfig(), reader) == first


def test_the_knobs_that_decide_are_those_that_always_did():
    assert set(DECISIVE) == set(DECIDING) and len(DECISIVE) == len(DECIDING)
    assert set(decisive(Later)) == {*DECIDING, "smoothing"}


def test_the_identity_holds_the_options_of_the_head_and_no_place(reader, tmp_path):
    here = TrainConfig(dataset="a", run=tmp_path, device="cpu", seeds=(1, 2), threads=3)
    there = TrainConfig(dataset="b/a", run=tmp_path / "x", device="cuda", together="no", resident="mmap", fresh=True)
    assert runs.identity(here, DrinConfig(), reader) == runs.identity(there, DrinConfig(), reader)
    found = runs.identity(here, DrinConfig(layers=3), reader)
    assert (found["model"], found["cache_id"], found["split"]) == ("drin", "c" * 64, "5" * 64)
    assert found["drin.layers"] == 3
    options = {f"drin.{option.name}" for option in dataclasses.fields(DrinConfig)}
    assert found.keys() == {"model", "cache_id", "split", "code", *DECIDING, *options}


def test_another_network_under_the_name_of_a_head_is_other_code(reader, monkeypatch):
    config, entry = TrainConfig(model="dwe"), HEADS["dwe"]
    before = runs.identity(config, entry.config(), reader)
    monkeypatch.setitem(HEADS, "dwe", dataclasses.replace(entry, published=(), defaults={"epochs": 3}))
    assert runs.identity(config, entry.config(), reader) == before  # what is told of it is none
    monkeypatch.setitem(HEADS, "dwe", dataclasses.replace(entry, network="train.heads.dwe_authors.model:DweAuthors"))
    changed = runs.identity(config, entry.config(), reader)
    assert {name for name in before if before[name] != changed[name]} == {"code"}


def test_a_search_with_a_changed_head_of_ones_own_is_another_search(reader, monkeypatch, tmp_path):
    monkeypatch.setattr(shared_trials, "find_cache", lambda *given: tmp_path)
    monkeypatch.setattr(shared_trials.cache, "open", lambda path: reader)
    own = tmp_path / "own.py"
    monkeypatch.setitem(HEADS, "own", dataclasses.replace(HEADS["bert"], name="own", file=own))
    found = []
    for margin in (0.25, 0.25, 0.5):
        own.write_text(f"margin = {margin}")
        found.append(shared_trials.identity_of(resolved(SweepConfig(model="own")), JointConfig()))
    assert found[0] == found[1]
    assert {name for name in found[0] if found[0][name] != found[2][name]} == {"code"}


@pytest.mark.parametrize(
    ("given", "decided"),
    [
        ({}, {"epochs": 30, "batch": 64, "learning_rate": 1e-3, "decay": False, "restart": 0}),
        ({"model": "drin_authors", "epochs": 4}, {"epochs": 4, "restart": 10}),
        ({"model": "dwe_authors"}, {"epochs": 300, "learning_rate": 5e-5, "warm_up": 100, "decay": True}),
        ({"model": "dwe_authors", "dataset": "x/wikidiverse"}, {"epochs": 500, "learning_rate": 5e-6, "batch": 128}),
        ({"model": "dwe_authors", "decay": False, "weight_decay": 0.0}, {"decay": False, "weight_decay": 0.0}),
        ({"valid_from": "train:.250"}, {"valid_from": "train:0.25"}),
    ],
)
def test_what_nobody_gave_is_decided_by_head_and_dataset(given, decided):
    config = TrainConfig(**given)
    found = resolved(config)
    assert {name: getattr(found, name) for name in decided} == decided
    assert config == TrainConfig(**given)  # a frozen config stays what it was
    assert resolved(found) == found
    assert None not in [getattr(found, name) for name in presets.DEFAULTS]


def test_a_comparison_leaves_to_each_head_what_nobody_gave():
    assert {getattr(CompareConfig(), name) for name in presets.DEFAULTS} == {None}
    assert resolved(SweepConfig(model="dwe_authors")).epochs == 300


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({"batch": -1}, "--batch is -1; it must be at least 1"),
        ({"weight_decay": -0.5}, "--weight-decay is -0.5; it must be 0 or more"),
        ({"clip_norm": float("nan")}, "--clip-norm is nan; it must be 0 or more"),
        ({"learning_rate": 0.0}, "--learning-rate is 0; it must be positive"),
        ({"learning_rate": float("inf")}, "--learning-rate is inf; it must be positive"),
    ],
)
def test_a_number_that_was_given_is_checked_at_once(given, message):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**given)
    assert str(caught.value) == message


def test_help_says_what_is_decided_and_for_whom():
    said = {field.name: field.metadata["help"] for field in dataclasses.fields(TrainConfig)}
    assert said["epochs"] == (
        "passes over the train split (default: 30, DRIN 4.4; dwe_authors 300, on wikidiverse 500; ours 3)"
    )
    assert said["learning_rate"] == (
        "of Adam (default: 1e-3, DRIN 4.4; dwe_authors 5e-5, on wikidiverse 5e-6, on richpedia 5e-4)"
    )
    assert said["decay"].endswith("(default: no; dwe_authors, ours yes)")
    assert said["restart"].endswith("(default: 0; drin_authors 10)")
    assert all("default: " in said[name] for name in presets.DEFAULTS)


def test_help_of_ghmfc_says_what_its_forms_decide():
    said = {option.name: option.metadata.get("help", "") for option in dataclasses.fields(GhmfcConfig)}
    assert said["width"] == "D, width of the stacks (default: 512; light 768)"
    assert said["contrastive"].endswith("(default: 1; light 0)")
    assert said["phrases"].endswith("(default: yes; light no)")
    assert said["padding"].endswith("(default: masked; released pooled; light pooled)")
