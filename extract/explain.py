"""`--explain`: why a part is computed although one of its name was made before, here or where the remote is."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cache.checks import diff
from cache.kinds import KINDS
from cache.manifests.entries import Manifest
from cache.names import PartName
from cache.remotes.base import Remote
from cache.remotes.folder import Folder
from cache.sharing import remote_shards
from cache.writing.writer import Todo
from common.errors import CacheError
from common.output import table
from extract.planning.shard_keys import home
from extract.planning.shards import Plan
from extract.preparation import Job

LONGEST = 60  # characters of a value
WIDTH, LEAST = 100, 40  # columns of the table, and at least of its reasons
HASH = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{8,}\b")  # of which eight digits tell two apart


@dataclass(frozen=True)
class EarlierCache:
    """A cache that was made before, and where its files are; `name` is what tables call it."""

    name: str
    where: str
    manifest: Manifest
    files: Remote
    _columns: dict[str, np.ndarray] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """Return a column of it, read once.  Raises CacheError."""
        if name not in self._columns:
            self._columns[name] = remote_shards.column(self.files, self.manifest, name)
        return self._columns[name]


def reasons(job: Job, todo: Sequence[Todo]) -> list[dict[str, str]]:
    """Return of every part that is computed where one of its name is, and why that does not serve, a reason a line."""
    plan, draft, shared, earlier = job.plan, job.draft, job.shared, []
    if draft.before is not None:
        earlier.append(EarlierCache("this cache", str(draft.folder), draft.before, Folder(draft.folder)))
    if shared.remote is not None and shared.manifest is not None:
        earlier.append(EarlierCache("remote", shared.url, shared.manifest, shared.remote))
    earlier += [
        EarlierCache(f"sibling {one.name}", str(one.folder), one.manifest, Folder(one.folder))
        for one in job.siblings.lenders
    ]
    ranges: dict[str, list[Todo]] = defaultdict(list)
    for item in todo:
        for part in dict.fromkeys(shard.part.name for shard in item.missing):
            ranges[part].append(item)
    return [
        {"part": part, "name": there.name, "where": there.where, "why": _why(plan, part, ranges[part], there)}
        for part in plan.parts
        if part in ranges
        for there in earlier
        if part in there.manifest.parts
    ]


def report(found: Sequence[dict[str, str]], lent: Mapping[PartName, Mapping[str, int]]) -> str:
    """Return the reasons as text, behind what caches beside have given: shards by their names, by part."""
    given = [(part, name, f"{count:,}") for part, counts in lent.items() for name, count in counts.items()]
    lines = [table(("not computed", "from sibling", "shards"), given), ""] if given else []
    if not found:
        return "\n".join([*lines, "no part is computed again that is present locally or in the remote\n"])
    beside = sum(max(len(reason[name]) for reason in found) + 2 for name in ("part", "name"))
    rows: list[tuple[str, str, str]] = []
    for reason in found:
        told = _wrapped(reason["why"], max(LEAST, WIDTH - beside))
        rows += zip((reason["part"], *[""] * len(told)), (reason["name"], *[""] * len(told)), told, strict=False)
    return "\n".join([*lines, table(("recomputed", "present in", "because"), rows) + "\n"])


def _wrapped(why: str, width: int) -> list[str]:
    """Return reasons as lines of a cell, hashes short."""
    short = HASH.sub(r"\1", why)
    return [
        line
        for reason in short.split("\n")
        for line in textwrap.wrap(reason, width, subsequent_indent="  ", break_on_hyphens=False)
    ]


def _why(plan: Plan, part: PartName, ranges: Sequence[Todo], earlier: EarlierCache) -> str:
    now, then = plan.parts[part].manifest_entry, earlier.manifest.parts[part]
    if now.fingerprint != then.fingerprint:
        return _changed(diff.changes(now, then))
    keys = {shard.key for shard in earlier.manifest.shards_of(part)}
    changed = [item for item in ranges if any(s.part.name == part and s.key not in keys for s in item.missing)]
    count = f"{len(changed or ranges):,} of {len(plan.borders[home(plan.parts[part].table)]):,} ranges"
    if not changed:
        return f"{count}: listed, but their files are missing, damaged, numbered differently, or could not be fetched"
    try:
        return f"{count}: {_rows(plan, part, changed, earlier)}"
    except CacheError as error:
        return f"{count}: which of their rows changed is unknown ({error})"


def _changed(changes: Sequence[tuple[str, Any, Any]]) -> str:
    """Return differences of recipes in words; those of columns follow from others, where there are any."""
    derived = [name.removeprefix("inputs.") for name, *_ in changes if name.startswith("inputs.")]
    recipe = [change for change in changes if not change[0].startswith("inputs.")]
    recipe = [change for change in recipe if not change[0].startswith("columns.")] or recipe
    told = [f"{name} changed from {_short(then)} to {_short(now)}" for name, now, then in recipe]
    return "\n".join([*told, *([f"its inputs changed: {', '.join(derived)}"] if derived else [])])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _rows(plan: Plan, part: PartName, ranges: Sequence[Todo], earlier: EarlierCache) -> str:
    """Return what distinguishes the rows of ranges whose part was made by the same recipe."""
    owner = "entity" if part.startswith("entity") else "mention"
    rows = [row for item in ranges for row in range(*plan.borders[item.table][item.index])]
    places = {name: row for row, name in enumerate(earlier.column(f"{owner}.ids.id").tolist())}
    names = plan.rows.ids[f"{owner}.ids"]["id"][:].tolist()
    held = [_contents(earlier.column(f"{owner}.ids.{column}")) for column in KINDS[part].contents]
    mine = list(_mine(plan, part, owner))
    at = {row: places.get(names[row]) for row in rows}
    differ = sum(
        place is None or any(new[row] != old[place] for new, old in zip(mine, held, strict=True))
        for row, place in at.items()
    )
    if differ:
        return f"{differ:,} of their {len(rows):,} rows are new or changed"
    if gone := len(places.keys() - set(names)):
        return f"no row changed, but {gone:,} of its {owner} rows are no longer in the release"
    if {"release", "places", "lists"} & set(KINDS[part].reads) and not KINDS[part].inputs:
        return "rows, names, golds, splits, lists or scores changed"
    if any(place != row for row, place in at.items()):
        return "no row changed, but rows moved: what is encoded together decides the last bits"
    cuts = {(shard.start, shard.stop) for shard in earlier.manifest.shards_of(f"{owner}.ids")}
    if not {plan.borders[item.table][item.index] for item in ranges} <= cuts:
        return (
            f"the rows are divided differently, {max(end - begin for begin, end in cuts):,} to a range "
            "there: --shard-rows"
        )
    if "faces" in KINDS[part].reads and plan.rows.faces is not None:
        return "no row changed, but --faces says other things of them, or their inputs changed"
    return "no row changed, but rows that they are copied from did, or their inputs"


def _mine(plan: Plan, part: PartName, owner: str) -> Iterator[list[bytes]]:
    """Yield what the columns of ids that stand for what a part reads of a row hold here."""
    for column in KINDS[part].contents:
        text = column == "content_text"
        yield _contents((plan.rows.text_content if text else plan.rows.picture_content)[owner])


def _contents(column: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in column]
