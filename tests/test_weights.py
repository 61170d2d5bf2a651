"""Encoder weights: where they are looked for, what is refused, and which parts their change makes anew."""

import hashlib
import json
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from typer.testing import CliRunner

from cache import manifest as manifests
from common.errors import WeightsError
from extract import growth, lists, pipeline, rows
from extract.cli import app
from extract.config import ExtractConfig
from extract.datasets import jsonl
from extract.encoders import Encoders, torchvision_files, vocabulary, weights
from extract.encoders import clip as clips
from extract.encoders.bert import Bert
from extract.encoders.clip import Clip
from extract.encoders.compute import Compute
from extract.encoders.objects import Objects
from extract.encoders.resnet import FILE, ResNet
from extract.plan import Plan

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
        vocab_size=len(vocabulary.build()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        initializer_range=0.3,
    )
    return transformers.BertModel(config).eval()


@pytest.fixture
def folder(source, tmp_path):
    path = tmp_path / "weights" / "bert-base-cased"
    source.save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(vocabulary.build()) + "\n", encoding="utf-8")
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
        build(weights.parse(str(tmp_path)))
    text = str(error.value)
    assert "\n" not in text
    encoder = text.removeprefix("no weights for ").partition(":")[0]
    for name in names:
        assert str(tmp_path / name) in text and str(tmp_path / encoder / name) in text
    assert f"Wanted: {' or '.join(names)}, to be had at https://" in text
    assert "--weights" in text


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(
        WeightsError, match=r"--weights nowhere: no such folder, and not one of pretrained, random-tiny"
    ):
        weights.parse("nowhere")


def test_pretrained_without_network_is_one_line_within_ten_seconds(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / "mentions.jsonl").write_text('{"id": "m", "text": "a b", "mention": "a", "gold": "e"}\n')
    (data / "entities.jsonl").write_text('{"id": "e", "name": "a"}\n')
    start = time.monotonic()
    result = CliRunner().invoke(app, ["--dataset", "jsonl", "--data", str(data), "--shards", str(tmp_path / "s")])
    assert time.monotonic() - start < 10
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(
        "error: no weights for bert-base-cased: looked at the download cache, then https://"
    )
    assert "--weights FOLDER" in result.stderr


@pytest.mark.parametrize("build", [lambda w: ResNet(w, CPU, 8), lambda w: Clip(w, CPU, 8, 8)])
def test_every_pretrained_encoder_says_that_there_is_no_network(build):
    with pytest.raises(WeightsError, match=r"looked at the download cache, then https://\S+ \("):
        build(weights.parse("pretrained"))


# --- refusing what is not the file meant


def test_a_torchvision_file_with_another_hash_than_its_name_says_is_refused(tmp_path):
    path = tmp_path / "resnet152-394f9c45.pth"
    path.write_bytes(b"something else")
    actual = hashlib.sha256(b"something else").hexdigest()[:8]
    with pytest.raises(WeightsError, match=rf"begins with {actual}, .*394f9c45\. Take it afresh from https"):
        ResNet(weights.parse(str(tmp_path)), CPU, 8)


def test_a_file_of_another_model_under_openais_name_is_refused(tmp_path):
    (tmp_path / "ViT-B-32.pt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is not OpenAI's ViT-B-32\.pt"):
        Clip(weights.parse(str(tmp_path)), CPU, 8, 8)


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


# --- BERT from a folder


def test_a_saved_bert_gives_what_its_source_gives(folder, source):
    bert = Bert(weights.parse(str(folder)), CPU, 4)
    assert bert.width == 32
    text = "The Washington harbor"
    tokenizer = transformers.BertTokenizer(str(folder / "bert-base-cased" / "vocab.txt"), do_lower_case=False)
    with torch.inference_mode():
        expected = source(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
    (batch,) = bert.encode([text], 512)
    np.testing.assert_allclose(batch.cls[0], expected.last_hidden_state[0, 0], atol=1e-5)
    np.testing.assert_allclose(batch.pooler[0], expected.pooler_output[0], atol=1e-5)


@pytest.mark.parametrize("lost", ["pooler.dense.bias", "encoder.layer.1.output.dense.weight"])
def test_a_bert_without_one_of_its_weights_is_refused(folder, source, lost):
    state = {name: tensor for name, tensor in source.state_dict().items() if name != lost}
    source.save_pretrained(folder / "bert-base-cased", state_dict=state)
    with pytest.raises(WeightsError, match=rf"lacks 1 of BertModel's weights \({lost}"):
        list(Bert(weights.parse(str(folder)), CPU, 4).encode(["text"], 512))


def test_a_bert_of_other_shapes_than_its_config_is_refused(folder):
    path = folder / "bert-base-cased" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 64}))
    with pytest.raises(WeightsError) as error:
        list(Bert(weights.parse(str(folder)), CPU, 4).encode(["text"], 512))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", None, "no vocab.txt or tokenizer.json beside the weights"),
        ("config.json", None, "cannot read .*config.json"),
        ("config.json", "{", "cannot read .*config.json"),
        ("config.json", "{}", "BERT"),
        ("model.safetensors", "junk", "does not hold a BERT that transformers can load"),
    ],
)
def test_a_bert_folder_with_a_bad_file_is_one_line(folder, name, content, message):
    path = folder / "bert-base-cased" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(WeightsError, match=message) as error:
        list(Bert(weights.parse(str(folder)), CPU, 4).encode(["text"], 512))
    assert "\n" not in str(error.value)


def test_only_line_feeds_end_a_word_of_the_vocabulary(folder):
    words = [*vocabulary.build(), "\u2028", "\x85", "last"]
    (folder / "bert-base-cased" / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    bert = Bert(weights.parse(str(folder)), CPU, 4)
    assert bert._tokenizer.token_to_id("last") == len(words) - 1


# --- what the manifest says


def release(path):
    path.mkdir()
    (path / "mentions.jsonl").write_text('{"id": "m", "text": "Paris", "start": 0, "end": 5, "gold": "e"}\n')
    (path / "entities.jsonl").write_text('{"id": "e", "name": "Paris"}\n')
    return path


def test_random_weights_are_named_in_the_manifests_warnings(tmp_path):
    folder = pipeline.run(
        ExtractConfig(
            dataset="jsonl", data=release(tmp_path / "r"), shards=tmp_path, weights="random-tiny", device="cpu"
        )
    )
    (warning,) = manifests.load(folder)["warnings"]
    assert warning.startswith("random weights (random-tiny)")


def test_other_bert_weights_change_the_parts_of_bert_and_alignment_only(folder, source, tmp_path):
    data, layout = growth.arrange(jsonl.load(release(tmp_path / "r")), None, 2048)

    def fingerprints():
        config = ExtractConfig(weights="random-tiny", device="cpu")
        encoders = Encoders(config)
        encoders.bert = Bert(weights.parse(str(folder)), CPU, 4)
        plan = Plan(config, rows.Rows.hashed(data, layout, 1), lists.make(data, 3), encoders)
        return {name: part.fingerprint for name, part in plan.parts.items()}

    before = fingerprints()
    assert fingerprints() == before
    state = {name: tensor + (name == "pooler.dense.bias") for name, tensor in source.state_dict().items()}
    source.save_pretrained(folder / "bert-base-cased", state_dict=state)
    after = fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"entity.bert", "mention.bert", "pair.alignment"}
