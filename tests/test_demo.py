"""The demo's promise, over three seeds: DRIN beats the string matcher and its own text-only ablation."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner

from common.paths import SHARDS
from extract import pipeline
from extract.config import ExtractConfig
from extract.datasets import demo
from link.linker import Linker
from melcache import cli
from serve.app import application
from serve.config import ServeConfig
from train import loop
from train.config import TrainConfig
from train.heads.drin.config import DrinConfig


@pytest.mark.slow  # 40 s
def test_drin_beats_lexical_and_text_only_on_the_demo(tmp_path):
    shards = tmp_path / SHARDS
    pipeline.run(ExtractConfig(dataset="demo", data=tmp_path / "demo", shards=shards, weights="random-tiny"))
    config = TrainConfig(dataset="demo", shards=shards, seeds=(0, 1, 2))
    heads = {"full": DrinConfig(width=128), "text": DrinConfig(width=128, edges=("text_to_text",))}
    full, text = (loop.fit(replace(config, run=tmp_path / name), head) for name, head in heads.items())
    top = [[seed["test"]["top1"] for seed in found["seeds"]] for found in (full, text)]
    assert full["lexical"]["test"]["top1"] < 0.25
    assert min(top[0]) > max(top[1]) + 0.1
    assert min(top[1]) > 0.35
    _new_pictures_decide(tmp_path)


def _new_pictures_decide(tmp_path):
    """Of five things of one name, under a sentence that says nothing, four are told by a new picture; rings are not."""
    linker = Linker.load(tmp_path / "full", shards=tmp_path / SHARDS, device="cpu", release=tmp_path / "demo")
    app, rng = application(linker, ServeConfig(tmp_path / "full")), np.random.default_rng(99)
    sentence, right = {"text": "everyone admires marlow", "mention": "marlow"}, []
    with TestClient(app, "http://127.0.0.1") as client:
        for thing in (thing for thing in demo.draw_things(np.random.default_rng(demo.SEED)) if thing.name == "marlow"):
            new = tmp_path / "new.png"
            Image.fromarray(demo.draw(rng, thing)).save(new)
            words = [
                "--run",
                tmp_path / "full",
                "--shards",
                tmp_path / SHARDS,
                "--image",
                new,
                "--json",
                "--device",
                "cpu",
            ]
            words += ["--text", sentence["text"], "--mention", sentence["mention"], "--release", tmp_path / "demo"]
            done = CliRunner().invoke(cli.PROGRAM, ["link", *map(str, words)], prog_name="melcache")
            [link] = json.loads(done.stdout)
            page = client.post("/", data=sentence, files={"image": ("new.png", new.read_bytes())}).text
            assert "random weights" in page  # that the encoders are untrained stands beside the answer
            shown = re.findall(r"/picture/([\w-]+)", page)
            assert link["known"] is None and shown[0] == link["candidates"][0]["id"]
            right += [thing.kind] if shown[0] == thing.id else []
    app.close()
    assert {*right} >= {"tent", "ladder", "box", "kite"}
