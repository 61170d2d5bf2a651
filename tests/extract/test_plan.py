"""`--plan`: what an extraction would do, told before it does it, and nothing written."""

import json
from functools import partial

import pytest
from typer.testing import CliRunner

import melcache
from cache.sharing import push
from common.errors import ConfigError
from extract import explain, pipeline, plan
from extract.cli import app
from extract.forecast import calibration
from extract.preparation import prepare
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release

pytestmark = pytest.mark.usefixtures("toys_built_once")
ENTITIES = [
    ("Paris", "in France", "red.png"),
    ("Lyon", "", "blue.png"),
    ("Rome", "in Italy", "cut.png"),
    ("Paris", "in France", "red.png"),
]
MENTIONS = [  # sentence, surface, picture; pictures of an entity too, of mentions only, and repeated
    ("Paris at night", "Paris", "red.png"),
    ("Old Lyon", "Lyon", None),
    ("A walk in Rome", "Rome", "green.png"),
    ("Old Lyon", "Old", "green.png"),
    ("Lyon", "Lyon", "wide.png"),
]
SIZES = {"red.png": (40, 30), "blue.png": (64, 48), "green.png": (33, 50), "wide.png": (70, 40)}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    write_pictures(folder, SIZES)
    (folder / "images/cut.png").write_bytes((folder / "images/red.png").read_bytes()[:60])
    mentions = [mention_record(i, *mention) for i, mention in enumerate(MENTIONS)]
    return write_release(folder, mentions, [entity_record(i, *entity) for i, entity in enumerate(ENTITIES)])


config = partial(extract_config, candidates=2, shard_rows=2)


@pytest.fixture(autouse=True)
def little_to_measure(without_fsync, monkeypatch):
    monkeypatch.setattr(calibration, "MOST", 2)


@pytest.fixture(scope="module")
def extracted(release, tmp_path_factory):
    """A finished cache with regions and tokens, and the work that made it; tests only read both."""
    seen = []

    class Watched(pipeline.Work):
        def __init__(self, *arguments):
            seen.append(self)
            super().__init__(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Work", Watched)
        folder = pipeline.run(config(release, tmp_path_factory.mktemp("made"), heads=("ghmfc",)))
    return melcache.open(folder), seen[0]


def listing(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in sorted(folder.rglob("*"))}


def planned(config):
    return plan.forecast(config, prepare(config))


def test_a_plan_says_what_the_extraction_then_does(release, extracted, tmp_path):
    told = planned(config(release, tmp_path, heads=("ghmfc",)))
    parts = {line["part"]: line for line in told["parts"]}
    work, encoders = extracted[1], extracted[1].encoders
    assert parts.keys() == extracted[0].manifest.parts.keys()
    for name, line in parts.items():
        mine = [shard for shard in extracted[0].manifest.shards if shard.part == name]
        assert line["shards"] == line["compute"] == len(mine) and line["here"] == line["remote"] == 0
        assert line["rows"] == sum(shard.rows for shard in mine)
        held = sum(shard.bytes for shard in mine)
        assert held <= line["bytes"] <= held + 5000 * len(mine), name
    texts, pictures = ({name: line[kind] for name, line in parts.items()} for kind in ("texts", "pictures"))
    assert texts["entity.text"] + texts["mention.text"] + texts["token.text"] == encoders.text.counts["texts"]
    assert texts["entity.joint"] + texts["mention.joint"] == encoders.joint.counts["texts"]
    unreadable = 1  # of an entity: a plan opens no picture
    seen = pictures["entity.joint"] + pictures["mention.joint"] - unreadable
    assert seen == encoders.joint.counts["pictures"] - 1  # the neutral picture
    seen = pictures["entity.image"] + pictures["mention.image"] + pictures["mention.regions"] - unreadable
    assert seen == encoders.image.counts["pictures"] - 2  # the neutral one, and its regions later
    assert pictures["entity.objects"] + pictures["mention.objects"] - unreadable == encoders.objects.counts["pictures"]
    assert work.draft.made == sum(line["compute"] for line in told["parts"])


def test_a_plan_writes_nothing_and_makes_no_folder(release, extracted, tmp_path):
    before = listing(tmp_path), listing(release)
    planned(config(release, tmp_path / "new", heads=("ghmfc",)))
    assert (listing(tmp_path), listing(release)) == before
    folder = extracted[0].path
    (folder / ".partial-x-1-1-aa").touch()  # nor does it sweep
    before = listing(folder)
    planned(config(release, folder.parent, objects=2))
    assert listing(folder) == before
    (folder / ".partial-x-1-1-aa").unlink()


def test_a_plan_tells_what_is_here_what_is_there_and_what_is_neither(release, extracted, tmp_path):
    push.push(extracted[0].path, str(tmp_path / "team"))
    folder = pipeline.run(config(release, tmp_path, remote=str(tmp_path / "team")))
    shards = melcache.open(folder).manifest.shards
    here, there = (next(s for s in shards if s.part == part) for part in ("entity.joint", "mention.joint"))
    for shard in (here, there):
        (folder / shard.file).unlink()
    (tmp_path / "team" / here.file).unlink()
    told = planned(config(release, tmp_path, remote=str(tmp_path / "team"), explain=True))
    counts = {line["part"]: (line["here"], line["remote"], line["compute"]) for line in told["parts"]}
    assert counts.pop("entity.joint") == (1, 0, 1) and counts.pop("mention.joint") == (1, 1, 0)
    assert all(remote == compute == 0 for _, remote, compute in counts.values())
    assert told["fetch_bytes"] == there.bytes and 0 <= told["compute_bytes"] - here.bytes <= 5000
    assert set(told["calibrated"]) == {"CLIP, texts", "CLIP, pictures", "decoding"}
    assert {reason["part"] for reason in told["why"]} == {"entity.joint"}
    text = plan.report(told)
    assert f"from {tmp_path / 'team'}" in text and "recomputed" in text


def test_nothing_to_do_runs_no_encoder(release, extracted):
    wanted = config(release, extracted[0].path.parent, heads=("ghmfc",))
    job = prepare(wanted)
    told = plan.forecast(wanted, job)
    assert told["calibrated"] == {} and told["seconds"] == told["compute_bytes"] == 0
    assert (
        job.encoders.text.counts["texts"]
        == job.encoders.joint.counts["pictures"]
        == job.encoders.image.counts["pictures"]
        == 0
    )
    assert "to compute: nothing" in plan.report(told)


def test_a_disk_that_is_too_small_is_an_error_line(release, tmp_path, monkeypatch):
    monkeypatch.setattr("cache.sharing.download.free", lambda folder: 1000)
    told = planned(config(release, tmp_path))
    assert not told["enough"]
    [line] = [line for line in plan.report(told).splitlines() if line.startswith("error")]
    assert "has 1.0 kB free, this needs " in line and "name another --shards" in line


def test_time_is_items_by_the_measured_rate(release, tmp_path):
    told = planned(config(release, tmp_path))
    rates = {name: rate["seconds_per_item"] for name, rate in told["calibrated"].items()}
    assert all(rate > 0 for rate in rates.values())
    parts = {line["part"]: line for line in told["parts"]}
    clip = parts["entity.joint"]
    expected = clip["texts"] * rates["CLIP, texts"] + clip["pictures"] * rates["CLIP, pictures"]
    assert clip["seconds"] == pytest.approx(expected)
    assert parts["pair.alignment"]["seconds"] is None
    texts = {"entity.text": "BERT, entities", "mention.text": "BERT, sentences", "entity.joint": "CLIP, texts"}
    texts |= {"mention.joint": "CLIP, texts"}
    reading = sum(rates[encoder] * parts[part]["texts"] for part, encoder in texts.items())
    seeing = sum(line["seconds"] or 0 for line in told["parts"]) - reading
    assert told["seconds"] == pytest.approx(reading + max(seeing, told["decode_seconds"]))


def test_pictures_that_cannot_be_opened_leave_the_neutral_one_to_measure(release, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "_decode", lambda path: None)
    assert planned(config(release, tmp_path))["calibrated"]["detector"]["items"] == 1


def test_json_is_json_and_the_table_has_a_line_per_part(release, tmp_path):
    options = [
        "--dataset",
        "jsonl",
        "--data",
        str(release),
        "--shards",
        str(tmp_path / "s"),
        "--weights",
        "random-tiny",
    ]
    options += ["--device", "cpu", "--max-missing", "1", "--remote", str(tmp_path / "nowhere"), "--plan"]
    found = CliRunner().invoke(app, [*options, "--json"])
    assert found.exit_code == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["remote"] == str(tmp_path / "nowhere") and told["enough"] is True and told["device"] == "cpu"
    assert f"nothing is published at {tmp_path / 'nowhere'}" in found.stderr
    lines = plan.report(told).splitlines()
    assert lines[0].split() == "part rows shards present remote compute texts pictures size time".split()
    assert [line.split()[0] for line in lines[2 : 2 + len(told["parts"])]] == [line["part"] for line in told["parts"]]
    assert lines[-1] == f"Nothing was written to {tmp_path / 's' / 'jsonl'}." and not (tmp_path / "s").exists()


def test_a_plan_is_not_for_publishing(tmp_path):
    with pytest.raises(ConfigError, match="--push with --plan"):
        config(tmp_path, tmp_path, push=True, plan=True, remote="team")


def test_reasons_are_readable_at_a_hundred_columns_and_whole_in_json():
    here, there = "3fa2b1c9" * 8, "0" * 56 + "8812fd03"
    why = f"encoder.weights changed from '{here}' to '{there}'\nits inputs changed: {', '.join(['entity.image'] * 9)}"
    far = {"name": "remote", "where": "s3://a-bucket/" + "deep/" * 20, "why": "encoder.objects changed from 3 to 2"}
    near = {"name": "sibling wikidiverse-siglip2", "where": "/a/path", "why": why}
    told = explain.report([{"part": "entity_joint_token.states"} | near, {"part": "entity.image"} | far], {})
    header, _, *lines = told.splitlines()
    assert max(map(len, told.splitlines())) <= 100 and "deep" not in told and "/a/path" not in told
    reason = header.index("because")
    cells = [line[reason:] for line in lines]
    assert lines[0].split()[:3] == ["entity_joint_token.states", "sibling", "wikidiverse-siglip2"]
    assert " ".join(cells).startswith("encoder.weights changed from '3fa2b1c9' to   '00000000'")
    assert [line.split()[0] for line in cells if not line.startswith(" ")] == [
        "encoder.weights",
        "its",
        "encoder.objects",
    ]
    assert " ".join(cells).count("entity.image") == 9
    assert lines[-1].split(None, 2) == ["entity.image", "remote", "encoder.objects changed from 3 to 2"]
