"""A kind of part that is added to its home and its encoder alone goes all the way through an extraction."""

import re

import numpy as np
import pytest

import cache
from cache.kinds import KINDS, Column, Part
from cache.names import PartName
from cache.schema import PARTS
from common.errors import ConfigError
from extract import pipeline, plan
from extract.encoders.resnet import ResNet
from extract.encoders.text.batches import Encoded
from extract.forecast import calibration
from extract.preparation import prepare
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release

PRESENT, CUT = KINDS["entity.image"].columns["present"], KINDS["entity.text"].columns["truncated"]
THUMBNAIL = Part(
    {"image": Column("V", "feature", "twice the pooled vector"), "present": PRESENT},
    reads=("picture",),
    role="image",
    from_picture=("image",),
)
TITLE = Part({"most": Column("D", "feature", "twice [CLS]"), "truncated": CUT}, reads=("name",), role="text")


def planted(monkeypatch, name, part):
    monkeypatch.setitem(KINDS, PartName(name), part)
    monkeypatch.setitem(PARTS, PartName(name), part.columns)  # a view of KINDS, made when the schema is imported


@pytest.fixture
def encoded(monkeypatch):
    """The two kinds and what their encoders do for them."""
    launched, of = ResNet.launched, Encoded.of

    def seen(self, images, kinds, stored=None):
        if "thumbnail" not in kinds:
            return launched(self, images, kinds)
        return lambda: {"thumbnail": {"image": 2 * self.encode(images)}}

    def read(self, part):
        return {"most": 2 * self.cls, "truncated": self.truncated} if part == "entity.title" else of(self, part)

    monkeypatch.setattr(ResNet, "launched", seen)
    monkeypatch.setattr(Encoded, "of", read)
    for name, part in (("entity.title", TITLE), ("entity.thumbnail", THUMBNAIL), ("mention.thumbnail", THUMBNAIL)):
        planted(monkeypatch, name, part)


@pytest.fixture
def release(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "MOST", 1)
    mentions = [mention_record(i, f"Old {name}", name, f"{name}.png") for i, name in enumerate(("red", "blue"))]
    entities = [entity_record(i, name, "a color", f"{name}.png") for i, name in enumerate(("red", "green", "gone"))]
    write_pictures(tmp_path / "release", {"red.png": (20, 20), "green.png": (21, 20), "blue.png": (22, 20)})
    return write_release(tmp_path / "release", mentions, entities)


def test_a_planted_kind_is_planned_keyed_timed_computed_and_counted(release, encoded, tmp_path, watched):
    config = extract_config(release, tmp_path / "shards", candidates=2)
    job = prepare(config)
    told = plan.forecast(config, job)
    lines = {line["part"]: line for line in told["parts"]}
    rates = {name: rate["seconds_per_item"] for name, rate in told["calibrated"].items()}
    seen = [lines[f"{table}.thumbnail"] for table in ("entity", "mention")]
    assert [line["pictures"] for line in seen] == [2, 1]  # red and green, blue
    assert [line["seconds"] for line in seen] == pytest.approx([2 * rates["ResNet"], rates["ResNet"]])
    assert lines["entity.title"]["texts"] == 3
    assert lines["entity.title"]["seconds"] == pytest.approx(3 * rates["BERT, entities"])
    made = cache.open(pipeline.run(config))
    for table in ("entity", "mention"):
        expected = 2 * made.column(f"{table}.image.vector").astype(np.float32)
        np.testing.assert_allclose(made.column(f"{table}.thumbnail.image"), expected, rtol=2e-3, atol=1e-6)
    assert (made.column("entity.thumbnail.present") == [True, True, False]).all()
    expected = 2 * made.column("entity.text.sentence").astype(np.float32)
    np.testing.assert_allclose(made.column("entity.title.most"), expected, rtol=2e-3, atol=1e-6)
    encoders = watched[0].encoders
    assert encoders.image.counts["pictures"] == 2 * (3 + 1)  # of both kinds, the neutral one too
    assert encoders.text.counts["texts"] == 2 * 3 + 2
    assert re.search(rf"^texts, BERT +{2 * 3 + 2}$", watched[0].counters(), re.MULTILINE)
    assert made.manifest.coverage["entity texts cut by title"] == 0
    recipes = {name: entry.recipe for name, entry in made.manifest.parts.items()}
    assert recipes["entity.thumbnail"]["encoder"] == recipes["entity.image"]["encoder"]
    before = {name: job.plan.keys.of(name, 0) for name in job.plan.parts}
    write_pictures(release, {"green.png": (23, 20)})
    after = prepare(config).plan.keys
    changed = {name for name in before if after.of(name, 0) != before[name]}
    assert "entity.thumbnail" in changed and "entity.title" not in changed
    assert ("mention.thumbnail" in changed) == ("mention.image" in changed)  # red's owner is of the changed shard


def test_a_kind_whose_role_no_encoder_has_is_refused_by_name(release, tmp_path, monkeypatch):
    planted(monkeypatch, "mention.voice", Part(THUMBNAIL.columns, reads=("picture",), role="sound"))
    with pytest.raises(ConfigError, match=r"part mention\.voice has role 'sound', expected one of text, joint, image"):
        prepare(extract_config(release, tmp_path / "shards"))
