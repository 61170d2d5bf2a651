"""What finished shards must hold, as far as that is known before they are computed: a remote may send anything.

The release alone decides ids, golds, candidates and where sentences stand; a picture is broken where it is so here.
"""

import numpy as np

from cache.kinds import IMAGE_STATUS, KINDS
from cache.manifests.entries import ShardEntry
from cache.writing import limits
from cache.writing.limits import Column
from cache.writing.writer import ShardPlan
from extract import images
from extract.planning.shards import Plan

OK = IMAGE_STATUS.index("ok")


class Trust:
    """The finished shards of a plan: which of them cannot be right."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def problem(self, shard: ShardPlan, entry: ShardEntry, column: Column) -> str:
        """Return what of a finished shard is wrong, "" if nothing is known to be, as cache.writing.limits.problem."""
        for name, values in self._known(shard).items():
            if not np.array_equal(column(name), values):
                return f"{name} differs from the release"
        if found := limits.problem(shard, entry, column):
            return found
        if shard.part.name == "mention.tokens":
            return _spans(column)
        return self._verdicts(shard, column("image_status")) if "image_status" in shard.part.columns else ""

    def _known(self, shard: ShardPlan) -> dict[str, np.ndarray]:
        """Return the columns of a shard that nothing need be computed for."""
        part, rows, table = shard.part.name, slice(shard.start, shard.start + shard.rows), shard.part.table
        if part == "pair.candidates":
            return {name: getattr(self._plan.lists, name)[rows] for name in shard.part.columns}
        if "places" in KINDS[part].reads:
            there = self._plan.sentences[KINDS[part].into]
            return {"first": there.first[rows], "count": there.count[rows]}
        if "release" not in KINDS[part].reads:
            return {}
        return {name: values[rows] for name, values in self._plan.rows.ids[part].items()} | {
            "content_text": self._plan.rows.text_content[table][rows],
            "content_image": self._plan.rows.picture_content[table][rows],
        }

    def _verdicts(self, shard: ShardPlan, codes: np.ndarray) -> str:
        """Return which picture has another reason code than it has here; those said to be broken are opened."""
        table = shard.part.table
        records, statuses = self._plan.rows.records(table), self._plan.rows.picture_status[table]
        for row, code in enumerate(codes.tolist(), shard.start):
            here = int(statuses[row])
            if here == OK and code != OK:
                data, status = images.read(records[row].image.path)
                here = IMAGE_STATUS.index(images.decode(data)[1] if status == "ok" else status)
            if code != here:
                return (
                    f"image_status of {self._plan.label(table, row)} is {IMAGE_STATUS[code]}, but its picture is "
                    f"{IMAGE_STATUS[here]}"
                )
        return ""


def _spans(column: Column) -> str:
    """Return whether tokens are under a mention that its sentence does not have."""
    start, end, count = (column(name) for name in ("start", "end", "count"))
    fits = (start >= -1) & (start <= end) & (end <= count)
    return "" if fits.all() else "start and end lie outside their sentence"
