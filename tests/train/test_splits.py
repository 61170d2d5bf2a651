"""Which mention is in which split: digests, and valid held out of train as whole captions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import CacheError, ConfigError
from common.records import SPLITS, split_mask
from train.config import TrainConfig, resolved
from train.data import splits
from train.optimizing import checkpoint
from train.studies.runs import Outcome
from train.studies.summary import summarize

TRAIN, VALID, TEST = (split_mask(name) for name in SPLITS)


def reader(ids, captions, masks, gold=None):
    """A cache of these columns."""
    columns = {
        "mention.ids.id": np.array([name.encode() for name in ids]),
        "mention.ids.caption": np.array([name.encode() for name in captions]),
        "mention.ids.surface": np.array([b"x"] * len(ids)),
        "mention.ids.splits": np.array(masks, np.uint8),
        "pair.candidates.gold": np.array([0] * len(ids) if gold is None else gold, np.int32),
    }
    return SimpleNamespace(path="shards/x", columns=list(columns), column=columns.__getitem__)


def without_valid(rng, mentions=60):
    """Ids, captions and masks of a release without valid, some captions in test or in both, some golds not labeled."""
    captions = [f"c{rng.integers(20)}" for _ in range(mentions)]
    of = {caption: rng.choice([TRAIN, TRAIN, TRAIN, TEST, TRAIN | TEST, 0]) for caption in set(captions)}
    gold = rng.choice([0, 3, -1, -2], mentions)
    return [f"m{i}" for i in range(mentions)], captions, [int(of[caption]) for caption in captions], gold


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_held_out_are_whole_captions_of_train_alone_until_the_share_is_reached(seed, share):
    rng = np.random.default_rng(seed)
    ids, captions, masks, gold = without_valid(rng)
    found = splits.masks(reader(ids, captions, masks, gold), f"train:{share}")
    moved = [row for row in range(len(ids)) if found[row] != masks[row]]
    assert moved and all(masks[row] == TRAIN and found[row] == VALID for row in moved)
    assert {captions[row] for row in moved}.isdisjoint(captions[row] for row in range(len(ids)) if row not in moved)
    labeled = [row for row in range(len(ids)) if masks[row] & TRAIN and gold[row] != -2]
    sizes = {caption: sum(captions[row] == caption for row in labeled) for caption in {captions[row] for row in moved}}
    held = sum(sizes.values())
    assert held - max(sizes.values()) < share * len(labeled)  # one caption fewer would not do
    alone = {captions[row] for row in labeled if masks[row] == TRAIN}
    assert held >= share * len(labeled) or len(sizes) == len(alone) - 1  # one caption stays
    order = rng.permutation(len(ids))
    again = splits.masks(reader(*([of[i] for i in order] for of in (ids, captions, masks, gold))), f"train:{share}")
    assert dict(zip((ids[i] for i in order), again, strict=True)) == dict(zip(ids, found, strict=True))


def test_what_is_held_out_follows_the_ids_and_not_the_names_of_captions():
    ids, captions = [f"m{i}" for i in range(30)], [f"c{i // 2}" for i in range(30)]
    found = splits.masks(reader(ids, captions, [TRAIN] * 30), "train:0.2")
    renamed = splits.masks(reader(ids, [f"other {name}" for name in captions], [TRAIN] * 30), "train:0.2")
    assert (found == renamed).all() and (found == VALID).sum() == 6
    others = splits.masks(reader([f"n{i}" for i in range(30)], captions, [TRAIN] * 30), "train:0.2")
    assert (found != others).any()


def test_without_the_option_the_release_is_as_it_says():
    assert splits.masks(reader(["a", "b"], ["a", "b"], [TRAIN, VALID]), None).tolist() == [TRAIN, VALID]


def test_what_cannot_be_held_out_is_one_line():
    with pytest.raises(
        ConfigError, match=r"has 1 mentions in its valid split; --valid-from is for a release that has none"
    ):
        splits.masks(reader(["a", "b"], ["a", "b"], [TRAIN, VALID]), "train:0.1")
    with pytest.raises(ConfigError, match="no two captions that stand in train alone"):
        splits.masks(reader(["a", "b", "c"], ["a", "a", "c"], [TRAIN, TRAIN, TRAIN | TEST]), "train:0.1")
    lacking = SimpleNamespace(path="shards/x", columns=["mention.ids.splits"], column=lambda name: np.array([TRAIN]))
    with pytest.raises(CacheError, match=r"lacks mention\.ids\.id, mention\.ids\.caption"):
        splits.masks(lacking, "train:0.1")
    unlabeled = reader(["a", "b", "c"], ["a", "b", "c"], [TRAIN, TRAIN, VALID], [0, 0, -2])
    assert sorted(splits.masks(unlabeled, "train:0.1").tolist()) == [TRAIN, VALID, VALID]


@pytest.mark.parametrize(
    "value", ["0.1", "train", "train:", "train:0", "train:0.0", "train:1", "train:1.5", "test:0.1"]
)
def test_a_share_that_is_none_is_refused_before_anything_is_read(value):
    with pytest.raises(ConfigError, match=rf"--valid-from {value}: expected train:SHARE"):
        TrainConfig(valid_from=value)
    smallest = "train:0.000001"  # not 1e-06, which no one reads
    for given, written in (("train:.20", "train:0.2"), ("train:0.2", "train:0.2"), (smallest, smallest)):
        assert resolved(TrainConfig(valid_from=given)).valid_from == written


def test_the_digest_is_of_who_is_where_and_of_nothing_else():
    ids, masks = ["a", "b", "c"], [TRAIN, TEST, TRAIN | TEST]
    digest = splits.digest_of(reader(ids, ids, masks))
    assert len(digest) == 64
    assert digest == splits.digest_of(reader(ids[::-1], ["x"] * 3, masks[::-1], [-2, -1, 5]))
    for other in (
        reader(ids, ids, [TRAIN, VALID, TRAIN | TEST]),
        reader(["a", "b", "d"], ids, masks),
        reader(ids, ids, [TEST, TRAIN, TRAIN | TEST]),
        reader([*ids, "d"], [*ids, "d"], [*masks, VALID]),
    ):
        assert splits.digest_of(other) != digest
    assert splits.digest_of(reader([*ids, "d"], [*ids, "d"], [*masks, 0])) == digest  # in no split


def test_runs_on_different_splits_are_not_compared():
    def outcome(name, digest):
        split = {"digest": digest * 64, "known": None, "valid_from": None}
        return Outcome(SimpleNamespace(name=name), {"split": split})

    with pytest.raises(ConfigError, match=r"different splits are not compared: a on split 1{12}; b on split 2{12}\. "):
        summarize(SimpleNamespace(), [outcome("a", "1"), outcome("b", "2")], "a", None)


def test_a_run_folder_whose_split_has_changed_says_so(tmp_path):
    about = {"model": "drin", "cache_id": "1" * 64, "code": "c" * 16, "with_lexical": False, "valid_from": None}
    about |= {"split": "a" * 64, "epochs": 3}
    checkpoint.save(tmp_path / "seed-0.safetensors", {"w": torch.zeros(1)}, about, {"seed": 0})
    for changed, told in (({"cache_id": "2" * 64}, r"now 2{16}\.\.\.\)\. "), ({"split": "b" * 64}, "other splits")):
        about = about | changed
        with pytest.raises(ConfigError, match=rf"belongs to another run: the cache has changed since .*{told}"):
            checkpoint.Checkpoints(tmp_path, about).check()
