"""Runs of every kind link as they were tested: heads without weights, heads of one's own, lists, all entities."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import melcache
from common.errors import CacheError, ConfigError
from common.options import as_json
from link.linker import Linker
from link.records import NewMention
from tests.worlds import entity_record
from train import own_head, results
from train.heads.registry import HEADS
from train.inspecting.finished_run import results_of
from train.judging import calibration
from train.judging.predict import temperature_of
from train.judging.scoring import Scorer
from train.run_folder import run_files

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync", "heads_forgotten")
OWN = '''"""{name}.py: a cosine, and what stands in strings."""
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from train.heads.base import Head
from train.layers.losses import margin_ranking

READS = ("mention.text.span", "entity.text.sentence", "mention.ids.surface", "entity.ids.name", *{more})

@dataclass(frozen=True)
class Config:
    text_width: int = 768
    characters: int = 12
    width: int = 4

class Model(Head):
    two_towers = {towers}
    projects = ("entity.text.sentence", "entity.ids.name") if {towers} else ()

    def __init__(self, config):
        super().__init__()
        self.mention, self.entity = (nn.Linear(config.text_width + 12, config.width) for _ in range(2))

    def project(self, columns):
        return self.entity(_beside(columns["entity.text.sentence"], columns["entity.ids.name"]))

    def embed(self, batch):
        return self.mention(_beside(batch["mention.text.span"], batch["mention.ids.surface"]))

    def forward(self, batch, projected=None):
        vectors = self.project(batch.columns) if projected is None else projected
        scores = cosine_similarity(self.embed(batch)[:, None], vectors, dim=-1)
        if "pair.alignment" in batch.columns:
            scores = scores + batch["pair.alignment"].flatten(2).sum(-1)
        return scores.masked_fill(~batch.present, -torch.inf)

    def loss(self, scores, batch):
        return margin_ranking(scores, batch.gold, batch.present, margin=0.25)

def _beside(vectors, letters):
    return torch.cat([vectors, letters.float() / 256], -1)
'''
WHOLE = {"protocol": "whole-kb"}
RUNS = [
    ("lexical", {}), ("prior", {}), ("clip", {}), ("lexical", WHOLE), ("prior", WHOLE), ("clip", WHOLE),
    ("clip", WHOLE | {"rerank": 3}), ("prior", WHOLE | {"rerank": 3}),
    ("jmel", WHOLE), ("jmel", WHOLE | {"rerank": 3}), ("ours", WHOLE), ("ours", WHOLE | {"rerank": 3}),
    ("drin", WHOLE), ("jmel", {"protocol": "given"}), ("jmel", WHOLE | {"seeds": (0, 1, 2)}),
    ("ours", WHOLE | {"seeds": (0, 1)}), ("own", {}), ("own_edges", {}), ("own", WHOLE), ("own_edges", WHOLE),
]  # fmt: skip


def file_of(world, model):
    """Return the file of a head of one's own, None for melcache's."""
    if not model.startswith("own"):
        return None
    path = world.runs.parent / f"{model}.py"
    edges = model == "own_edges"
    more = tuple(f"pair.alignment.{edge}" for edge in ("text_to_text", "image_to_image")) if edges else ()
    path.write_text(OWN.format(name=model, more=repr(more), towers=not edges))
    return str(path)


def trained(world, model, options):
    """Return the folder of a run, trained once."""
    file = file_of(world, model)
    if file is not None:
        own_head._known(world.runs.parent / f"{model}.py")
    return world.run(model, **options)


def scored(world, run):
    """The batch evaluation: by mention id, the score of each entity id that is ranked."""
    reader, told = melcache.open(world.cache), results_of(run)
    rows = np.arange(reader.manifest.tables["mention"])
    scorer = Scorer(run, told, reader, [seed["seed"] for seed in told["seeds"]], "cpu")
    found = scorer.scored(rows)
    shares = calibration.probabilities(found.scores, temperature_of(scorer, reader, told)[0])
    ids, entities = reader.strings("mention.ids.id"), reader.strings("entity.ids.id")
    return {
        ids[row]: {entities[e]: (float(s), float(p)) for e, s, p in zip(*of, strict=True) if e >= 0}
        for row, *of in zip(rows, found.entities, found.scores, shares, strict=True)
    }


def answers(links):
    return {link.mention.id: {one.id: (one.score, one.probability) for one in link.candidates} for link in links}


def scores(answer):
    return {id: score for id, (score, _) in answer.items()}


def linker_of(world, model, options, **more):
    run = trained(world, model, options)
    file = file_of(world, model)
    return run, Linker.load(run, device="cpu", release=world.release, model=file, **more)


@pytest.mark.parametrize(("model", "options"), RUNS, ids=[f"{m}-{'-'.join(map(str, o.values()))}" for m, o in RUNS])
def test_a_run_of_any_kind_links_as_it_was_tested_bit_for_bit(world, model, options, monkeypatch):
    run, linker = linker_of(world, model, options)
    wanted, asked = scored(world, run), world.asked()
    links = linker.link(asked, top=0)
    assert answers(links) == wanted
    alone = [linker.link([mention], top=0)[0] for mention in asked[::7]]
    assert answers(alone) == {mention.id: wanted[mention.id] for mention in asked[::7]}
    for link in links:
        assert [c.score for c in link.candidates] == sorted((c.score for c in link.candidates), reverse=True)
        assert not link.candidates or sum(c.probability for c in link.candidates) == pytest.approx(1)
    monkeypatch.setattr(linker._known, "row", lambda content, id: -1)  # as if they were new
    for made in linker.link(asked, top=0):
        id = made.mention.id
        assert scores(answers([made])[id]) == pytest.approx(scores(wanted[id]), abs=0.04)


@pytest.mark.parametrize(
    ("model", "options"), [("jmel", {}), ("ours", WHOLE), ("prior", WHOLE), ("clip", WHOLE | {"rerank": 3})]
)
def test_given_entities_have_the_scores_that_they_have_among_others(world, model, options):
    run, linker = linker_of(world, model, options)
    wanted, given = scored(world, run), ("e5", "e0", "e5")
    asked = [replace(mention, candidates=given) for mention in world.asked()[::5]]
    for link in linker.link([*asked, world.asked()[0]], top=0)[:-1]:
        listed = wanted[link.mention.id]
        assert {found.id for found in link.candidates} == {"e0", "e5"}
        assert all(found.score == listed[found.id][0] for found in link.candidates if found.id in listed)
    [empty] = linker.link([NewMention("Oslo by night", "Oslo", candidates=())])
    assert empty.candidates == () and empty.nil


@pytest.mark.parametrize(
    ("model", "options"), [("jmel", WHOLE), ("ours", WHOLE), ("own", WHOLE), ("drin", WHOLE), ("clip", {})]
)
def test_new_entities_are_ranked_by_runs_of_every_kind(world, model, options):
    file = world.release / "entities-that-are-new.jsonl"
    file.write_text(json.dumps(entity_record(8, "Lyonesse and more than sixteen bytes", "a tale")) + "\n")
    _, linker = linker_of(world, model, options, entities=file)
    [link] = linker.link([NewMention("Lyonesse by night", "Lyonesse")], top=0)
    lists = 4 if model in ("drin", "clip") else 7
    assert len(link.candidates) == lists and ("e8" in {c.id for c in link.candidates} or model == "drin")
    assert linker.entity("e8").new


def test_prior_counts_what_a_new_mentions_string_meant_in_train(world):
    _, linker = linker_of(world, "prior", {})
    told, untold = linker.link([NewMention("Paris, they say", "Paris"), NewMention("Paris by Nile", "Nile")], top=0)
    assert {found.id: found.score for found in told.candidates}.items() >= {"e0": 2, "e1": 2}.items()
    assert {found.score for found in untold.candidates} == {0}
    _, linker = linker_of(world, "prior", WHOLE)
    told, untold = linker.link([NewMention("Paris, they say", "Paris"), NewMention("Paris by Nile", "Nile")], top=0)
    assert [(found.id, found.score) for found in told.candidates] == [("e0", 2), ("e1", 2)] and untold.nil


def test_a_string_longer_than_any_of_the_cache_is_read_as_far_as_those(world):
    _, linker = linker_of(world, "own", {})
    long = "Oslo" * 30
    found = linker.link([NewMention(f"{long} by night", long, candidates=("e2",))])
    assert np.isfinite(found[0].candidates[0].score)


def test_other_code_of_a_head_of_ones_own_is_told(world, capsys):
    run = trained(world, "own", {})
    file = world.runs.parent / "own.py"
    capsys.readouterr()
    Linker.load(run, device="cpu", model=file)
    assert "other code" not in capsys.readouterr().err
    file.write_text(file.read_text() + "\nMORE = 1\n")
    Linker.load(run, device="cpu", model=file)
    assert f"{run} was trained by other code" in capsys.readouterr().err


def told(run, folder, **changes):
    """Write results.json with other values into a folder, and return it."""
    found = {name: value for name, value in results_of(run).items() if name != "digest"}
    results.save(folder, run_files.sealed(found | changes))
    return folder


def test_what_cannot_be_linked_is_one_line_before_encoders_are_looked_at(world, toy_cache, tmp_path, monkeypatch):
    own, dwe, drin = trained(world, "own", {}), trained(world, "dwe", {}), trained(world, "drin", {})
    config = results_of(drin)["config"]
    leak = as_json(HEADS["drin_authors"].config(leak_gold=True))
    options = {"model": "drin_authors", "drin_authors": leak}
    leaked = told(drin, tmp_path / "leaked", model="drin_authors", config=config | options)
    damaged = shutil.copytree(drin, tmp_path / "damaged")
    (damaged / "seed-0.safetensors").write_bytes((drin / "seed-0.safetensors").read_bytes()[:-9])
    bare = told(drin, tmp_path / "bare")
    HEADS.pop("own")
    monkeypatch.setattr("link.linker.Encoding", None)
    other = world.runs.parent / "own_edges.py"
    file_of(world, "own_edges")
    for run, options, match in (
        (own, {}, r"is of the head 'own', which melcache does not have: name its file with --model own\.py"),
        (own, {"model": other}, r"own_edges\.py: .* is of the head own; expected its file, own\.py"),
        (drin, {"model": tmp_path / "none.py"}, "expected its file, drin.py"),
        (drin, {"model": tmp_path / "drin.py"}, "drin is a head of melcache; give the file another name"),
        (dwe, {"dataset": str(toy_cache)}, "lacks the parts .*mention.crops.* which dwe reads"),
        (leaked, {}, "--leak-gold"),
        (damaged, {}, "damaged.*seed-0"),
        (bare, {}, "holds no finished seed"),
        (drin, {"seed": 7}, "--seed 7: .* has 0, or give mean"),
        (tmp_path / "nothing", {}, "no finished run"),
    ):
        with pytest.raises((ConfigError, CacheError), match=match) as error:
            Linker.load(run, device="cpu", **options)
        assert "\n" not in error.value.text
