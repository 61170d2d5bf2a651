"""Caches beside the one that is made, in the same folder: what they have finished by the same key is not made again.

A shard that is taken is one file with a name in each cache (a hard link): no byte is stored twice, and each cache stays
an ordinary folder, to be moved, pushed or deleted alone. What a cache beside fails to give costs a warning and is
computed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cache import manifests
from cache.manifests.entries import Manifest, ShardEntry
from cache.names import PartName
from cache.sharing.remote_shards import Listed
from cache.store.resumable_file import WriteError
from cache.writing.draft import Draft, Problem
from cache.writing.writer import ShardPlan, Todo
from common.errors import CacheError
from common.output import say
from common.paths import exists, is_folder, names
from common.records import Dataset
from extract.config import ExtractConfig
from extract.planning import best_order, row_order
from extract.planning.best_order import HeldRows
from extract.planning.row_order import EarlierRows


@dataclass(frozen=True)
class Sibling:
    """A finished cache beside the one that is made; `draft` is asked for its finished shards."""

    draft: Draft
    manifest: Manifest

    @classmethod
    def of(cls, folder: Path) -> "Sibling":
        """Return the cache in a folder.  Raises CacheError for one that is damaged, or holds links to files."""
        draft = Draft(folder)
        return cls(draft, draft.before or manifests.load(folder))

    @property
    def folder(self) -> Path:
        """Its directory."""
        return self.draft.folder

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name


class Siblings:
    """The finished caches beside that of a config, in the order of their names.  Nothing of them is ever changed.

    `taken` are the shards that came from them; `lent` counts by part what each has given, or could give.
    """

    def __init__(self, config: ExtractConfig) -> None:
        self._config, self._folder = config, config.folder
        self.taken: list[Listed] = []
        self.lent: dict[PartName, Counter[str]] = defaultdict(Counter)
        self._doubts: dict[Path, list[str]] = {}  # why something of a cache is not taken
        self._caches = list(self._find())

    @property
    def lenders(self) -> list[Sibling]:
        """Those of which something was taken, or could be."""
        lent = {name for counts in self.lent.values() for name in counts}
        return [sibling for sibling in self._caches if sibling.name in lent]

    def order(self, release: Dataset, earlier: EarlierRows | None) -> EarlierRows | None:
        """Return the order of rows to follow: `earlier` or a cache's beside that continues it.

        Where there is no earlier one, that under which the most can be taken: see best_order.
        """
        held = list(self._held(release))
        if earlier is None:
            found = best_order.best(release, held, self._config.shard_rows)
            if found is not None:
                say("rows are numbered as in a cache beside, so that its shards serve; --reorder numbers them anew")
            return found
        for rows in held:
            earlier = row_order.later(earlier, rows.order)
        return earlier

    def offers(self, missing: list[ShardPlan], problem: Problem) -> set[str]:
        """Return the file names of those missing shards that `take` would take, and count them as lent.

        `problem` finds what is wrong with the values of a finished shard.
        """
        found = {plan.file for plan in missing if self._offers(plan, problem)}
        self._tell()
        return found

    def take(self, todo: list[Todo], draft: Draft) -> list[Todo]:
        """Take what caches beside have of the missing shards into the draft; return what is still to do."""
        rest = [replace(item, missing=[plan for plan in item.missing if not self._take(plan, draft)]) for item in todo]
        self._tell()
        return rest

    def _find(self) -> Iterator[Sibling]:
        """Yield the caches beside, with a manifest each.  Those that may not be looked at are noted."""
        try:
            beside = [self._folder.parent / name for name in names(self._folder.parent)]
        except CacheError as error:
            self._doubts[self._folder.parent] = [str(error)]
            return
        for folder in beside:
            try:
                if exists(folder / manifests.NAME) and not self._is_own(folder):
                    yield Sibling.of(folder)
            except CacheError as error:
                self._doubts[folder] = [str(error)]

    def _held(self, release: Dataset) -> Iterator[HeldRows]:
        """Yield the rows of the caches beside whose order a release may follow."""
        counts = (len(release.entities), len(release.mentions))
        for sibling in self._caches:
            alike = sibling.manifest.dataset.source == release.source
            if alike and row_order.worth(sibling.manifest, counts, self._config):
                try:
                    rows = HeldRows.of(sibling.folder, sibling.manifest)
                except CacheError as error:
                    self._doubt(sibling, str(error))
                else:
                    yield from () if rows is None else (rows,)

    def _is_own(self, folder: Path) -> bool:
        return is_folder(self._folder) and folder.samefile(self._folder)

    @cached_property
    def _listed(self) -> dict[tuple[PartName, str], list[tuple[Sibling, ShardEntry]]]:
        """The shards that are listed beside, by part and key; a key stands for all that a shard must hold."""
        found = defaultdict(list)
        for sibling in self._caches:
            for entry in sibling.manifest.shards:
                found[entry.part, entry.key].append((sibling, entry))
        return found

    def _offers(self, plan: ShardPlan, problem: Problem) -> bool:
        for sibling, entry in self._listed.get((plan.part.name, plan.key), ()):
            try:
                sibling.draft.examine(problem)
                if sibling.draft.has(there := replace(plan, index=_number(entry))):
                    self.lent[plan.part.name][sibling.name] += 1
                    return True
                self._doubt(sibling, _wrong(sibling.draft, there, entry))
            except CacheError as error:
                self._doubt(sibling, str(error))
        return False

    def _take(self, plan: ShardPlan, draft: Draft) -> bool:
        for sibling, entry in self._listed.get((plan.part.name, plan.key), ()):
            try:
                if draft.take(plan, sibling.folder, entry):
                    self.taken.append(Listed(entry, sibling.manifest))
                    self.lent[plan.part.name][sibling.name] += 1
                    return True
                self._doubt(sibling, _wrong(draft, plan, entry))
            except WriteError:
                raise
            except CacheError as error:
                self._doubt(sibling, str(error))
        return False

    def _doubt(self, sibling: Sibling, reason: str) -> None:
        self._doubts.setdefault(sibling.folder, []).append(reason)

    def _tell(self) -> None:
        """Say in one line what is not taken."""
        if self._doubts:
            count = sum(map(len, self._doubts.values()))
            folder, reasons = next(iter(self._doubts.items()))
            more = f" ({count - 1:,} more such)" if count > 1 else ""
            say(f"warning: not taken from the cache in {folder}: {reasons[0]}{more}. What is missing is computed")
        self._doubts.clear()


def _number(entry: ShardEntry) -> int:
    """Return the number in a shard's file name."""
    return int(entry.file.removeprefix(f"{entry.part}-").partition(".")[0])


def _wrong(draft: Draft, plan: ShardPlan, entry: ShardEntry) -> str:
    """Return why a draft did not take a listed shard that it was to take as planned."""
    return f"{entry.file}: {draft.wrong.get(plan.file, 'damaged since it was finished')}"
