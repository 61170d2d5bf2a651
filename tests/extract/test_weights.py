"""Encoder weights: where they are looked for, what is refused, and which parts their change makes anew."""

import contextlib
import hashlib
import json
import os
import pickle
import re
import socket
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from typer.testing import CliRunner

from cache import manifests
from common.errors import WeightsError
from extract import pipeline
from extract.cli import app
from extract.config import ExtractConfig
from extract.datasets import jsonl
from extract.encoders import Encoders, detector, resnet
from extract.encoders.compute import Compute
from extract.encoders.detector import Objects
from extract.encoders.joint import clip as clips
from extract.encoders.joint.clip import Clip
from extract.encoders.resnet import FILE, ResNet
from extract.encoders.text import bert_files, toy_vocabulary
from extract.encoders.text.bert import Bert
from extract.planning import candidate_lists, row_order, rows
from extract.planning.shards import Plan
from extract.weights import hub_files, sources, states, torchvision_files
from tests.worlds import entity_record, extract_config, mention_record, write_release

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """No test here may reach anything, nor find what this machine has downloaded."""

    def refuse(*arguments, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def source():
    """A tiny BertModel with weights that no seed of ours draws."""
    config = transformers.BertConfig(
        vocab_size=len(toy_vocabulary.build()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        initializer_range=0.3,
    )
    return transformers.BertModel(config).eval()


@pytest.fixture
def weight_files(source, tmp_path):
    path = tmp_path / "weights" / "bert-base-cased"
    source.save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(toy_vocabulary.build()) + "\n", encoding="utf-8")
    return path.parent


# --- looking for files


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda w: Bert(w, CPU, 8), ["model.safetensors", "pytorch_model.bin"]),
        (lambda w: ResNet(w, CPU, 8), ["resnet152-394f9c45.pth"]),
        (lambda w: Clip(w, CPU, 8, 8), ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "ViT-B-32.pt"]),
        (
            lambda w: Objects(w, CPU, SimpleNamespace(width=8, recipe={}), "v1", 3),
            ["fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"],
        ),
        (
            lambda w: Objects(w, CPU, SimpleNamespace(width=8, recipe={}), "v2", 3),
            ["fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"],
        ),
    ],
)
def test_an_empty_folder_is_refused_naming_every_place_and_the_file_wanted(tmp_path, build, names):
    with pytest.raises(WeightsError) as error:
        build(sources.parse(str(tmp_path)))
    text = str(error.value)
    assert "\n" not in text
    encoder = text.removeprefix("no weights for ").partition(":")[0]
    for name in names:
        assert str(tmp_path / name) in text and str(tmp_path / encoder / name) in text
    assert f"Expected: {' or '.join(names)}, available at https://" in text
    assert "--weights" in text


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(
        WeightsError, match=r"--weights nowhere: no such folder, and not one of pretrained, random-tiny"
    ):
        sources.parse("nowhere")


def test_pretrained_without_network_is_one_line_at_once(release, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    result = CliRunner().invoke(app, ["--dataset", "jsonl", "--data", str(release), "--shards", str(tmp_path / "s")])
    assert result.exit_code == 2 and not waits  # the hub, left alone, tries again for half a minute
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(
        "error: no weights for bert-base-cased: looked at the download cache, then https://"
    )
    assert "--weights FOLDER" in result.stderr


@pytest.mark.parametrize("build", [lambda w: ResNet(w, CPU, 8), lambda w: Clip(w, CPU, 8, 8)])
def test_every_pretrained_encoder_says_that_there_is_no_network(build):
    with pytest.raises(WeightsError, match=r"looked at the download cache, then https://\S+ \("):
        build(sources.parse("pretrained"))


# --- refusing what is not the file meant


def test_a_torchvision_file_with_another_hash_than_its_name_says_is_refused(tmp_path):
    path = tmp_path / "resnet152-394f9c45.pth"
    path.write_bytes(b"something else")
    actual = hashlib.sha256(b"something else").hexdigest()[:8]
    with pytest.raises(WeightsError, match=rf"begins with {actual}, .*394f9c45\. Download it again from https"):
        ResNet(sources.parse(str(tmp_path)), CPU, 8)


def test_a_file_of_another_model_under_openais_name_is_refused(tmp_path):
    (tmp_path / "ViT-B-32.pt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is not OpenAI's ViT-B-32\.pt"):
        Clip(sources.parse(str(tmp_path)), CPU, 8, 8)


def test_a_state_dict_is_loaded_strictly_and_never_unpickled_as_code(tmp_path):
    model, path = torch.nn.Linear(2, 2), tmp_path / "w.pth"
    torch.save({"weight": torch.ones(2, 2)}, path)
    with pytest.raises(WeightsError, match=r"does not hold the weights of resnet152: .*Missing key.*bias"):
        torchvision_files.load_strictly(model, path, FILE)
    torch.save(model.state_dict() | {"extra": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="Unexpected key"):
        torchvision_files.load_strictly(model, path, FILE)
    torch.save({"weight": print}, path)
    with pytest.raises(WeightsError, match="does not hold the weights"):
        torchvision_files.load_strictly(model, path, FILE)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="does not hold the weights"):
        torchvision_files.load_strictly(model, path, FILE)


def test_a_clip_file_that_lacks_weights_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "open_clip_pytorch_model.bin"
    torch.save({"logit_scale": torch.ones(())}, path)
    tiny = clips._load(None, True)
    monkeypatch.setattr("open_clip.create_model", lambda *arguments, **options: tiny)
    with pytest.raises(WeightsError, match=r"does not hold the weights of ViT-B-32-quickgelu: .*Missing key"):
        clips._load(path, False)


# --- files that would run something


class Runs:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


class Scripted(torch.nn.Module):
    """Writes a file where it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.weight, self.path = torch.nn.Parameter(torch.ones(1)), path

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
        self.weight, self.path, self.training = state[0], state[1], state[2]
        torch.save(state[0], self.path)

    def forward(self, x):
        return x * self.weight


def pickled(path, mark):
    path.write_bytes(pickle.dumps({"weight": Runs(mark)}))


def saved(path, mark):
    torch.save({"weight": Runs(mark)}, path)


def saved_as_before(path, mark):
    torch.save({"weight": Runs(mark)}, path, _use_new_zipfile_serialization=False)


def scripted(path, mark):
    torch.jit.save(torch.jit.script(Scripted(str(mark))), path)


EVIL = (pickled, saved, saved_as_before, scripted)
LOADERS = {
    "open_clip_pytorch_model.bin": lambda path: clips._load(path, False),
    "open_clip_model.safetensors": lambda path: clips._load(path, False),
    "ViT-B-32.pt": lambda path: clips._load(path, False),
    "pytorch_model.bin": lambda path: bert_files.load(path, {}),
    "model.safetensors": lambda path: bert_files.load(path, {}),
    "resnet152-394f9c45.pth": lambda path: resnet._load(path, False),
    "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth": lambda path: detector._load(path, sources.Weights("files"), "v1"),
    "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth": lambda path: detector._load(path, sources.Weights("files"), "v2"),
}


@pytest.fixture
def small_models(monkeypatch):
    """Encoders of one layer, and a torch that would unpickle anything that does not say otherwise."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr("open_clip.create_model", lambda *given, **more: torch.nn.Linear(1, 1))
    monkeypatch.setattr("torchvision.models.resnet152", lambda *given, **more: torch.nn.Linear(1, 1))
    monkeypatch.setattr(detector, "_settled", lambda *given: torch.nn.Linear(1, 1))
    for name in ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"):
        monkeypatch.setattr(f"torchvision.models.detection.{name}", lambda *given, **more: None)


def test_every_weights_file_has_a_loader_that_is_tried():
    wanted = (clips.FILE, bert_files.MODEL, FILE, *detector.FILES.values())
    assert LOADERS.keys() == {name for file in wanted for name in file.names}


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("evil", EVIL, ids=lambda evil: evil.__name__)
def test_no_loader_runs_what_a_file_says(tmp_path, small_models, evil):
    for name, load in LOADERS.items():
        path, mark = tmp_path / name, tmp_path / "mark"
        evil(path, mark)
        with pytest.raises(WeightsError, match=re.escape(name)) as error:
            load(path)
        assert "\n" not in str(error.value) and not mark.exists(), name
    with contextlib.suppress(Exception):
        torch.jit.load(path) if evil is scripted else torch.load(path, weights_only=False)
    assert mark.exists()  # so it would have run


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(1 << 22))
    with pytest.raises(WeightsError, match=r"bytes that unpack to 4,194,304"):
        states.read(tmp_path / "w.pth", "resnet152")


@pytest.mark.parametrize("value", [3, ["x"], {"weight": 3}, {"state_dict": {}}])
def test_a_file_of_other_values_than_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="it holds other values than tensors by name"):
        states.read(tmp_path / "w.pth", "resnet152")


# --- BERT from a folder


def test_a_saved_bert_gives_what_its_source_gives(weight_files, source):
    bert = Bert(sources.parse(str(weight_files)), CPU, 4)
    assert bert.width == 32
    text = "The Washington harbor"
    tokenizer = transformers.BertTokenizer(str(weight_files / "bert-base-cased" / "vocab.txt"), do_lower_case=False)
    with torch.inference_mode():
        expected = source(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
    (batch,) = bert.encode([text], 512)
    np.testing.assert_allclose(batch.cls[0], expected.last_hidden_state[0, 0], atol=1e-5)
    np.testing.assert_allclose(batch.pooler[0], expected.pooler_output[0], atol=1e-5)


def test_older_names_and_heads_behind_the_model_are_read_as_transformers_does(weight_files, source):
    """google-bert/bert-base-cased calls weights so; the oracle is transformers' own loader."""
    path = weight_files / "bert-base-cased" / "model.safetensors"
    state = {f"bert.{name}": tensor for name, tensor in states.read(path, "BERT").items()}
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in older.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    save_file(state | {"cls.predictions.bias": torch.ones(3)}, path, {"format": "pt"})
    expected = transformers.BertModel.from_pretrained(path.parent, local_files_only=True)
    found = bert_files.load(path, bert_files.config_of(path.with_name("config.json")))
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in found.state_dict().items())
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        assert torch.equal(found.eval()(ids).last_hidden_state, expected.eval()(ids).last_hidden_state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 1_000_000), ("num_hidden_layers", 1), ("hidden_size", "32"), ("vocab_size", 1 << 40),
        ("layer_norm_eps", [1]), ("hidden_act", "evil"), ("num_attention_heads", 5), ("hidden_size", True),
        ("max_position_embeddings", 100_000), ("intermediate_size", -1),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_its_weights_is_one_line(weight_files, name, value):
    path = weight_files / "bert-base-cased" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(WeightsError) as error:
        list(Bert(sources.parse(str(weight_files)), CPU, 4).encode(["text"], 512))
    assert "\n" not in str(error.value) and "bert-base-cased" in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"[1]", b"[PAD]\n[UNK]\n"])
@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "config.json"])
def test_a_file_of_words_or_sizes_that_is_none_is_one_line(weight_files, name, content):
    (weight_files / "bert-base-cased" / "vocab.txt").unlink()
    (weight_files / "bert-base-cased" / name).write_bytes(content)
    with pytest.raises(WeightsError) as error:
        Bert(sources.parse(str(weight_files)), CPU, 4)
    assert "\n" not in str(error.value)


def test_a_word_that_the_model_does_not_know_is_one_line(weight_files):
    with (weight_files / "bert-base-cased" / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("zzz\n")
    bert = Bert(sources.parse(str(weight_files)), CPU, 4)
    assert list(bert.encode(["text"], 512))
    with pytest.raises(WeightsError, match=r"has 2,365 words .* word 2,365"):
        list(bert.encode(["zzz"], 512))


@pytest.mark.parametrize("lost", ["pooler.dense.bias", "encoder.layer.1.output.dense.weight"])
def test_a_bert_without_one_of_its_weights_is_refused(weight_files, source, lost):
    state = {name: tensor for name, tensor in source.state_dict().items() if name != lost}
    source.save_pretrained(weight_files / "bert-base-cased", state_dict=state)
    with pytest.raises(WeightsError, match=rf"lacks 1 of BertModel's weights \({lost}"):
        list(Bert(sources.parse(str(weight_files)), CPU, 4).encode(["text"], 512))


def test_a_bert_of_other_shapes_than_its_config_is_refused(weight_files):
    path = weight_files / "bert-base-cased" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 64}))
    with pytest.raises(WeightsError) as error:
        list(Bert(sources.parse(str(weight_files)), CPU, 4).encode(["text"], 512))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", None, "no vocab.txt or tokenizer.json beside the weights"),
        ("config.json", None, "cannot read .*config.json"),
        ("config.json", "/dev/null", "cannot read .*config.json: not a regular file"),
        ("config.json", "{", "cannot read .*config.json"),
        ("config.json", "{}", "BERT"),
        ("model.safetensors", "junk", "does not hold the weights of BERT"),
    ],
)
def test_a_bert_folder_with_a_bad_file_is_one_line(weight_files, name, content, message):
    path = weight_files / "bert-base-cased" / name
    path.unlink()
    if content == "/dev/null":  # stands for a FIFO, for which one would wait
        path.symlink_to(content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(WeightsError, match=message) as error:
        list(Bert(sources.parse(str(weight_files)), CPU, 4).encode(["text"], 512))
    assert "\n" not in str(error.value)


def test_only_line_feeds_end_a_word_of_the_vocabulary(weight_files):
    words = [*toy_vocabulary.build(), "\u2028", "\x85", "last"]
    (weight_files / "bert-base-cased" / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    bert = Bert(sources.parse(str(weight_files)), CPU, 4)
    assert bert._tokenizer.token_to_id("last") == len(words) - 1


# --- what the manifest says


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "r", [mention_record(0, "Paris", "Paris")], [entity_record(0, "Paris")])


def test_random_weights_are_named_in_the_manifests_warnings(release, tmp_path):
    folder = pipeline.run(extract_config(release, tmp_path))
    (warning,) = manifests.load(folder).warnings
    assert warning.startswith("random weights (random-tiny)")


def test_other_bert_weights_change_the_parts_of_bert_and_alignment_only(weight_files, source, release):
    data, layout = row_order.arrange(jsonl.load(release), None, 2048)

    def fingerprints():
        config = ExtractConfig(weights="random-tiny", device="cpu")
        encoders = Encoders(config)
        encoders.text = Bert(sources.parse(str(weight_files)), CPU, 4)
        plan = Plan(config, rows.Rows.hashed(data, layout, 1), candidate_lists.make(data, 3), encoders)
        return {name: part.fingerprint for name, part in plan.parts.items()}

    before = fingerprints()
    assert fingerprints() == before
    state = {name: tensor + (name == "pooler.dense.bias") for name, tensor in source.state_dict().items()}
    source.save_pretrained(weight_files / "bert-base-cased", state_dict=state)
    after = fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"entity.text", "mention.text", "pair.alignment"}


def test_tables_call_an_encoder_by_its_name_or_its_folders(tmp_path, monkeypatch):
    snapshot = tmp_path / "hub/models--BAAI--bge-base-en-v1.5/snapshots" / ("0a" * 20)
    for folder in (snapshot, tmp_path / "my-siglip", tmp_path / "minilm/model"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "my-siglip")
    called = {
        str(tmp_path / "my-siglip"): "my-siglip",
        f"local-dir:{tmp_path}/my-siglip/": "my-siglip",
        "../my-siglip": "my-siglip",
        ".": "my-siglip",
        str(tmp_path / "minilm/model"): "minilm/model",
        str(snapshot): "BAAI/bge-base-en-v1.5",
        "BAAI/bge-m3": "BAAI/bge-m3",
        "hf-hub:timm/ViT-B-16-SigLIP2": "hf-hub:timm/ViT-B-16-SigLIP2",
        "ViT-L-14:openai": "ViT-L-14:openai",
    }
    assert {asked: hub_files.called(asked) for asked in called} == called


def test_two_encoders_of_one_name_are_told_apart_in_tables():
    encoders = Encoders(ExtractConfig(weights="random-tiny", device="cpu"))
    before = {role: encoder.name for role, encoder in encoders.by_role.items()}
    encoders.joint.name = encoders.image.name = "my-siglip"
    encoders._tell_apart()
    found = {role: encoder.name for role, encoder in encoders.by_role.items()}
    assert found == before | {"joint": "my-siglip (joint)", "image": "my-siglip (image)"}
