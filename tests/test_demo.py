"""The demo's promise, over three seeds: DRIN beats the string matcher and its own text-only ablation."""

from pathlib import Path

import pytest

from common.paths import SHARDS
from extract import pipeline
from extract.config import ExtractConfig
from train import loop
from train.config import TrainConfig
from train.heads.drin.config import DrinConfig


@pytest.mark.slow  # 40 s
def test_drin_beats_lexical_and_text_only_on_the_demo(tmp_path):
    shards = tmp_path / SHARDS
    pipeline.run(ExtractConfig(dataset="demo", data=tmp_path / "demo", shards=shards, weights="random-tiny"))
    config = TrainConfig(dataset="demo", shards=shards, seeds=(0, 1, 2), run=Path(tmp_path / "run"))
    full, text = (
        loop.fit(config, head) for head in (DrinConfig(width=128), DrinConfig(width=128, edges=("text_to_text",)))
    )
    top = [[seed["test"]["top1"] for seed in found["seeds"]] for found in (full, text)]
    assert full["lexical"]["test"]["top1"] < 0.25
    assert min(top[0]) > max(top[1]) + 0.1
    assert min(top[1]) > 0.35
