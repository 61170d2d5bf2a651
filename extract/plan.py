"""`--plan`: what an extraction would fetch and compute, how big that is and how long it takes; nothing is written."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cache.sharing import download
from cache.writing.writer import ShardPlan, Todo
from common import console
from common.output import duration, size, table
from extract import explain
from extract.beginning import Begun
from extract.config import ExtractConfig
from extract.forecast.calibration import Calibration
from extract.forecast.workload import Workload
from extract.planning.shards import missing
from extract.planning.trust import Trust
from extract.preparation import Job, prepare


@dataclass(frozen=True)
class Line:
    """What becomes of a part: shards by where they come from, and what encoding the rest takes.

    Those `here` include what `siblings` have, by name: it costs nothing. `bytes` are those of the shards that are
    fetched or computed; `seconds` None where no encoder is asked.
    """

    part: str
    rows: int
    shards: int
    here: int
    siblings: dict[str, int]
    remote: int
    compute: int
    texts: int
    pictures: int
    bytes: int
    seconds: float | None


def show(config: ExtractConfig, begun: Begun) -> None:
    """Print what `pipeline.run` would do, as a table or as JSON."""
    job = prepare(config, begun)
    found = forecast(config, job)
    console.present(found, report, as_json=config.json)


def forecast(config: ExtractConfig, job: Job) -> dict[str, Any]:
    """Return what `report` shows."""
    todo = missing(job.plan, job.draft.has)
    beside = job.siblings.offers([shard for item in todo for shard in item.missing], Trust(job.plan).problem)
    lacking = [shard for item in todo for shard in item.missing if shard.file not in beside]
    offers = job.shared.offers(lacking)
    known = beside | offers.keys()
    rest = [Todo(item.table, item.index, [s for s in item.missing if s.file not in known]) for item in todo]
    items = Workload(job.plan, rest)
    calibration = Calibration(config, job.encoders, items)
    coming = {name: listed.entry.bytes for name, listed in offers.items()}
    lines = _lines(job, lacking, coming, items, calibration)
    fetched, whole = sum(coming.values()), sum(line.bytes for line in lines)
    free = download.free(config.folder)
    return {
        "folder": str(config.folder),
        "remote": config.url or None,
        "parts": [asdict(line) for line in lines],
        "fetch_bytes": fetched,
        "compute_bytes": whole - fetched,
        "free_bytes": free,
        "enough": free is None or whole <= free,
        "seconds": calibration.total(),
        "decode_seconds": calibration.decoding(),
        "device": str(job.encoders.compute.device),
        "calibrated": calibration.measured,
        "why": explain.reasons(job, rest) if config.explain else [],
    }


def _lines(
    job: Job, lacking: Sequence[ShardPlan], coming: dict[str, int], items: Workload, calibration: Calibration
) -> list[Line]:
    shards: Counter[str] = Counter()
    for name in ("entity", "mention", "pair"):
        shards.update(shard.part.name for group in job.plan.shards(name) for shard in group)
    mine: dict[str, list[ShardPlan]] = defaultdict(list)
    for shard in lacking:
        mine[shard.part.name].append(shard)
    rows, lines = job.plan.tables(), []
    for part, plan in job.plan.parts.items():
        there = [shard for shard in mine[part] if shard.file in coming]
        bytes_ = sum(coming.get(shard.file) or shard.most_bytes for shard in mine[part])
        lines.append(
            Line(
                part=part,
                rows=rows[plan.table],
                shards=shards[part],
                here=shards[part] - len(mine[part]),
                siblings=dict(job.siblings.lent[part]) if part in job.siblings.lent else {},
                remote=len(there),
                compute=len(mine[part]) - len(there),
                texts=len(items.text_items[part]),
                pictures=len(items.picture_items[part]),
                bytes=bytes_,
                seconds=calibration.seconds(part),
            )
        )
    return lines


def report(found: dict[str, Any]) -> str:
    """Return a forecast as text."""
    header = ("part", "rows", "shards", "present", "remote", "compute", "texts", "pictures", "size", "time")
    rows = [
        (
            line["part"],
            *(f"{line[name]:,}" for name in ("rows", "shards", "here", "remote", "compute")),
            *(f"{line[name]:,}" if line[name] else "-" for name in ("texts", "pictures")),
            size(line["bytes"]) if line["bytes"] else "-",
            "-" if line["seconds"] is None else duration(line["seconds"]),
        )
        for line in found["parts"]
    ]
    lines = [table(header, rows), ""]
    lent = {line["part"]: line["siblings"] for line in found["parts"]}
    if total := sum(map(Counter, lent.values()), Counter()):
        told = ", ".join(f"{count:,} shards from sibling {name}" for name, count in total.items())
        lines += [f"of those present: {told}, shared with it and not computed", ""]
    if found["calibrated"]:
        rates = [(name, r["items"], f"{1 / r['seconds_per_item']:,.1f}") for name, r in found["calibrated"].items()]
        lines += [table(("calibrated", "items", "a second"), rates), ""]
    if found["why"]:
        lines.append(explain.report(found["why"], lent))
    if found["remote"]:
        lines.append(f"to fetch: {size(found['fetch_bytes'])} from {found['remote']}")
    return "\n".join([*lines, _work(found), _disk(found), f"Nothing was written to {found['folder']}."])


def _work(found: dict[str, Any]) -> str:
    if not found["compute_bytes"]:
        return "to compute: nothing"
    done = f"to compute: {size(found['compute_bytes'])}"
    if not found["calibrated"]:
        return f"{done}, without any encoder"
    beside = f", decoding pictures meanwhile {duration(found['decode_seconds'])}" if found["decode_seconds"] else ""
    return f"{done}, about {duration(found['seconds'])} of encoding on {found['device']}{beside}"


def _disk(found: dict[str, Any]) -> str:
    needed, free = found["fetch_bytes"] + found["compute_bytes"], found["free_bytes"]
    if not found["enough"]:
        return (
            f"error: {found['folder']} has {size(free)} free, this needs {size(needed)}. Make room, or name another "
            "--shards"
        )
    room = "free space unknown" if free is None else f"{size(free)} free"
    return f"disk: {size(needed)} needed, {room} at {found['folder']}"
