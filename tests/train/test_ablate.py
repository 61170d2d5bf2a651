"""Ablations beside DRIN's tables, and what heads cost against counts by hand."""

import dataclasses
import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from typer.testing import CliRunner

import melcache
from cache import schema
from cache.writing.synth import Synthetic, write
from tests.studies import cells, entries, run_study
from tests.worlds import SIGNAL_WIDTHS
from train.cli import app
from train.config import TrainConfig
from train.config.studies import AblateConfig
from train.heads.drin.config import DrinConfig
from train.heads.dwe.config import DweConfig
from train.heads.entry import Ablations, Entry
from train.heads.head_config import HeadConfig
from train.heads.joint.config import JointConfig
from train.heads.models import MODELS, build
from train.heads.registry import HEADS
from train.prepare import table_of, with_widths
from train.studies import ablate, costs, published

# ablate


def test_an_ablation_is_drins_tables_3_and_4(wikidiverse, tmp_path):
    options = ["--seeds", "0", "--epochs", "1", "--width", "8"]
    done = run_study("ablate", wikidiverse, tmp_path, *options)
    assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "ablate.json").read_text())
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
    first = next(entry for entry in found["entries"] if entry["difference"])
    first["difference"]["top1"]["holm"] = 0.0499
    marked = ablate.show(found, AblateConfig(run=tmp_path), marked=True)
    tops = {entry["head"]: entry["mean"]["test"]["top1"] for entry in found["entries"]}
    starred = {name for name, row in cells(marked).items() if row["top1"].endswith("*")}
    assert starred == {name for name, top in tops.items() if top == max(tops.values())}
    assert cells(marked)[first["head"]]["p"] == "0.0499†"
    assert "† top1 differs from that of full: p below 0.05" in marked and not {"*", "†"} & set(done.stdout)
    again = run_study("ablate", wikidiverse, tmp_path, *options)
    assert "0 of 10 runs to train" in again.stderr
    assert again.stdout == done.stdout
    for file in (tmp_path / "static-edges").glob("*.*"):
        file.unlink()
    one = run_study("ablate", wikidiverse, tmp_path, *options, "--workers-on", "others")
    assert one.exit_code == 0 and one.stdout == "" and "training static-edges" in one.stderr
    assert "0 of 10 runs to train" in run_study("ablate", wikidiverse, tmp_path, *options).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "bert"], "--model bert has no ablations; choose from dwe, drin"),
        (["--model", "prior"], "--model prior has no ablations"),
        (["--layers", "3"], "--layers is what the ablation varies: leave it out"),
        (["--temperature", "3"], "--temperature is no option of drin"),
    ],
)
def test_what_cannot_be_ablated_is_one_line(wikidiverse, tmp_path, options, message):
    done = run_study("ablate", wikidiverse, tmp_path, *options)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_ablations_name_knobs_that_heads_have_and_differ_from_each_other():
    assert ablate.known() == ("dwe", "drin")
    for model in ablate.known():
        ablations = HEADS[model].ablations
        full = dataclasses.replace(HEADS[model].config(), **ablations.full)
        variants = [dataclasses.replace(full, **change) for change in ablations.variants.values()]
        assert len(set(variants)) == len(variants) > 1, model
        assert variants.count(full) == (model == "drin"), model  # two layers, a row of Table 4, are the full head


@dataclasses.dataclass(frozen=True)
class Described(HeadConfig):
    """A head whose full form reads a column that few caches have."""

    text: str = "short"
    refine: bool = True

    @property
    def more(self):
        return ("entity.joint.description",) if self.text == "long" else ()


def test_without_the_columns_of_the_full_head_the_plain_one_is_ablated(wikidiverse, monkeypatch):
    variants = {"without text": {"text": "short"}, "raw": {"refine": False}}
    entry = Entry("described", Described, "", schema.READS["clip"], ablations=Ablations({"text": "long"}, variants))
    monkeypatch.setitem(HEADS, "described", entry)
    reader = melcache.open(wikidiverse)
    found, lacking = ablate._variants("described", {"described": Described()}, reader)
    assert found == {"full": Described(), "raw": Described(refine=False)}
    assert lacking[0]["name"] == "described with text long"
    assert "entity.joint.description" in lacking[0]["reason"]
    there = [*reader.columns, "entity.joint.description"]
    monkeypatch.setattr(type(reader.manifest), "columns", there)
    found, lacking = ablate._variants("described", {"described": Described()}, reader)
    assert lacking == []
    assert found["full"] == Described("long")
    assert found["without text"] == Described("short")
    assert found["raw"] == Described("long", False)


def test_dwe_without_wikipedia_stands_beside_dwe_and_the_full_one_beside_dwe_plus():
    names = ("full", "without Wikipedia text", "raw visual features")
    long = DweConfig(entity_text="description")
    heads = (long, DweConfig(), dataclasses.replace(long, refine=False))
    found = [published.of_variant("wikimel", "dwe", name, own, "B") for name, own in zip(names, heads, strict=True)]
    assert [row and row["top1"] for row in found] == [72.8, 44.7, None]


# costs


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_counted_operations_of_drin_equal_a_count_by_hand(wikidiverse, layers):
    c, d, w, v = 6, 20, SIGNAL_WIDTHS["text_width"], SIGNAL_WIDTHS["image_width"]
    found = costs.count(melcache.open(wikidiverse), "drin", DrinConfig(width=d, layers=layers))
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


def test_counted_operations_of_a_training_step_of_drin_equal_a_count_by_hand(wikidiverse):
    c, d, w, v = 6, 20, SIGNAL_WIDTHS["text_width"], SIGNAL_WIDTHS["image_width"]
    found = costs.count(melcache.open(wikidiverse), "drin", DrinConfig(width=d))
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


def test_counted_operations_of_bert_equal_a_count_by_hand(wikidiverse):
    c, d, w = 6, 20, SIGNAL_WIDTHS["text_width"]
    found = costs.count(melcache.open(wikidiverse), "bert", JointConfig(width=d))
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
    write(tmp_path / "all", Synthetic(80, 40, 4, 0.4, 0, model, regions=4, **SIGNAL_WIDTHS))
    kind = HEADS[model].config
    small = {"head": model, "width": 32}
    head = kind(**{name: value for name, value in small.items() if name in kind.__dataclass_fields__})
    reader = melcache.open(tmp_path / "all")
    found = costs.count(reader, model, head)
    assert found["train"] > found["score"] > 0
    config = TrainConfig(model=model)
    head = with_widths(head, reader)
    table = table_of(config, head, reader, torch.device("cpu"))
    with Seen() as seen:
        build(model, head, with_lexical=False).objective(table.batch(torch.arange(20))).backward()
    counted = flop_registry.keys() | costs.UNSEEN.keys()
    assert {packet for packet in seen.names - counted if packet.__name__ in PRODUCTS} == set()


def test_costs_are_a_command(wikidiverse):
    done = CliRunner().invoke(app, ["costs", "--dataset", str(wikidiverse), "--width", "16"])
    assert done.exit_code == 0, done.stderr
    assert "DRIN 5.5 estimates 12 L r d^2 = 0.0 million" in done.stdout
    found = json.loads(
        CliRunner().invoke(app, ["costs", "--dataset", str(wikidiverse), "--width", "16", "--json"]).stdout
    )
    counted = {cost["head"]: cost for cost in found["heads"]}
    assert counted["drin"]["paper"] == 12 * 2 * 6 * 16 * 16
    assert counted["bert"]["parameters"] == 2 * (24 * 16 + 16)
    for other in found["not_counted"]:
        assert f"not counted: {other['head']}: " in done.stdout
