"""A head has one home: its room, one name in the registry and its columns; and a file of a user's own says the same."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

import melcache
import train.heads
from cache.schema import ALWAYS, CHOICES, PARTS, READS
from cache.writing.synth import Synthetic, write
from common.records import SPLITS
from train import loop, own_head
from train.config import TrainConfig
from train.heads import registry
from train.heads.base import Head
from train.heads.head_config import HeadConfig
from train.heads.models import MODELS
from train.heads.registry import HEADS
from train.studies import costs, published

torch.set_num_threads(1)

COLUMNS = {f"{part}.{column}" for part, columns in PARTS.items() for column in columns}
EXAMPLE = re.search(
    r"```python\n(.*?)```",
    (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## A new head")[1],
    re.DOTALL,
).group(1)


@pytest.fixture
def known(monkeypatch):
    """The heads; what a test adds is forgotten afterwards."""
    before = dict(HEADS)
    yield HEADS
    HEADS.clear()
    HEADS.update(before)


def check(entry):
    """Assert what every head is, whoever wrote it."""
    assert set(ALWAYS) <= set(entry.reads) <= COLUMNS
    assert set(entry.needs) <= set(SPLITS)
    if entry.config is None:
        assert entry.network == ""
        return
    assert issubclass(entry.config, HeadConfig) and issubclass(entry.model(), Head)
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(entry.config))
    head = entry.config().named(entry.name)
    assert set(head.more) <= set(CHOICES.get(entry.name, COLUMNS))
    widths = head.with_widths({"text_width": 5, "image_width": 6, "joint_width": 7, "other_width": 8})
    found = {name: value for name, value in dataclasses.asdict(widths).items() if value != getattr(head, name)}
    assert found.items() <= {"text_width": 5, "image_width": 6, "joint_width": 7}.items() and found
    assert isinstance(head.resolved, entry.config)
    said = (head.tokens_read, head.bytes_read, head.learns_without_gold, head.leak_gold, head.label, head.warnings)
    assert list(map(type, said)) == [int, int, bool, bool, str, tuple]


@pytest.mark.parametrize("name", registry.OURS)
def test_every_head_keeps_the_contract(name):
    check(HEADS[name])


def test_a_file_of_ones_own_keeps_the_same_contract(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(EXAMPLE)
    entry = own_head.load(path)
    check(entry)
    assert (entry.name, entry.files()) == ("mine", [path])


def test_what_a_file_says_of_its_head_holds(tmp_path):
    path = tmp_path / "saying.py"
    fields = """    tokens: int = 3
    characters: int = 4
    warnings: tuple[str, ...] = field(default_factory=tuple)

    @property
    def label(self):
        return f"{self.tokens} tokens"
"""
    text = EXAMPLE.replace("import dataclass\n", "import dataclass, field\n")
    path.write_text(text.replace("    width: int = 128\n", f"    width: int = 128\n{fields}"))
    head = own_head.load(path).config(tokens=9, warnings=("mind",))
    assert (head.tokens_read, head.bytes_read, head.label, head.warnings) == (9, 4, "9 tokens", ("mind",))
    assert dataclasses.replace(head, tokens=2).tokens_read == 2
    assert head.more == () and not head.leak_gold


def test_models_are_the_networks_of_trained_heads(known):
    assert list(MODELS) == [name for name in registry.OURS if name not in ("lexical", "prior", "clip")]
    assert all(MODELS[name].__module__.startswith("train.heads.") for name in MODELS)
    assert "lexical" not in MODELS
    with pytest.raises(KeyError):
        MODELS["prior"]


ROOM = {
    "__init__": "",
    "config": """
from dataclasses import dataclass
from train.heads.head_config import HeadConfig
@dataclass(frozen=True)
class PlantedConfig(HeadConfig):
    text_width: int = 768
    width: int = 3
    @property
    def label(self):
        return "planted"
""",
    "model": EXAMPLE.partition("READS =")[0] + "class Model(Head):" + EXAMPLE.partition("class Model(Head):")[2],
    "entry": """
from cache.schema import READS
from train.heads.entry import Ablations, Entry, Estimate, Row
from train.heads.planted.config import PlantedConfig
ENTRIES = (
    Entry(
        "planted", PlantedConfig, "train.heads.planted.model:Model", READS["planted"],
        defaults={"batch": 7}, on_dataset={"world": {"epochs": 2}},
        published=(Row("Planted", "a", "frozen", {"wikimel": (1.0, 2.0, 3.0, 4.0)}),),
        ablations=Ablations({}, {"narrow": {"width": 1}}, alone=("narrow",)),
        estimate=Estimate("somebody estimates w C", lambda head, candidates: head.width * candidates),
    ),
)
""",
}  # fmt: skip


def test_a_room_a_name_and_its_columns_are_a_head(known, tmp_path, monkeypatch):
    room = tmp_path / "heads" / "planted"
    room.mkdir(parents=True)
    for name, text in ROOM.items():
        (room / f"{name}.py").write_text(text)
    monkeypatch.setattr(train.heads, "__path__", [*train.heads.__path__, str(room.parent)])
    monkeypatch.setitem(READS, "planted", READS["bert"])
    (entry,) = registry._entries("planted")  # as for each of ROOMS
    check(entry)
    registry.add(entry)
    write(tmp_path / "world", Synthetic(60, 20, 3, 0.9, 0, "planted", text_width=8))
    config = TrainConfig(dataset=str(tmp_path / "world"), model="planted", run=tmp_path / "run", device="cpu")
    found = loop.fit(config, entry.config())
    assert (found["name"], found["config"]["planted"]) == ("planted (planted)", {"text_width": 8, "width": 3})
    assert (found["config"]["batch"], len(found["seeds"][0]["history"])) == (7, 2)
    assert published.of_head("wikimel", "planted", None)["top20"] == 4.0
    assert published.of_variant("wikimel", "planted", "narrow", entry.config(width=1), "A")["top1"] == 1.0
    numbers = {"parameters": 1, "score": 2, "train": 3, "batch": 4}  # to count them imports torch's compiler: seconds
    monkeypatch.setattr(costs, "count", lambda *given: numbers)
    counted = costs.count_all(melcache.open(tmp_path / "world"), {"planted": entry.config()})
    assert counted["heads"][0]["paper"] == 3 * 3
    assert "somebody estimates w C = 0.0 million for the graph of planted" in costs.notes(counted)
