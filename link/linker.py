"""A run that links: its cache, its encoders and its heads, loaded once; `Linker.link` is the function to read first."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cache.names import ColumnName, PartName
from cache.reader.row_index import RowIndex
from common.errors import ConfigError
from common.output import say
from common.records import Entity, Mention
from extract.retrieval import sources
from extract.retrieval.by_name import NO_ALIASES, Aliases
from link import release_entities
from link.opened_run import OpenedRun
from link.questions import label, records
from link.ranking.aliases import by_row
from link.ranking.candidate_lists import CandidateLists, retrieval_of
from link.ranking.ranker import Given, Ranked, Ranker
from link.records import Candidate, EntityCard, Link, NewMention
from link.vectors import new_entities
from link.vectors.encoder_settings import Asked
from link.vectors.encoding import Drafted, Encoding
from link.vectors.known_mentions import KnownMentions

IDS = PartName("mention.ids")
AT_ONCE = 256  # mentions that are encoded and ranked together


class Linker:
    """Links new mentions as the test of the run that it was loaded from ranked those of the dataset."""

    def __init__(
        self,
        run: OpenedRun,
        ranker: Ranker,
        encoding: Encoding,
        new: Sequence[Entity],
        shown: Path | None,
        aliases: Aliases = NO_ALIASES,
        index: str = "exact",
    ):
        """Join what `load` has opened.

        `new` are entities behind those of the cache, `shown` is the release's folder, `aliases` are by row.
        """
        self._run, self._ranker, self._encoding, self._new, self._shown = run, ranker, encoding, new, shown
        reader = ranker.reader
        self._ids, self._names = reader.strings("entity.ids.id"), reader.strings("entity.ids.name")
        self._rows = RowIndex(self._ids)
        self._known = KnownMentions(run.reader)
        lists = {"grown": bool(new), "aliases": aliases, "index": index}
        self._lists = CandidateLists(reader, self._names, self._ids, self._rows, **lists)
        if run.reads_lists and retrieval_of(reader) is None:
            say("the lists of this cache are the release's own; those of new mentions are retrieved by name")

    @classmethod
    def load(
        cls,
        run: Path | str,
        *,
        shards: Path | str | None = None,
        dataset: str | None = None,
        weights: str | None = None,
        encoders: Mapping[str, str] | None = None,
        encoder_weights: Mapping[str, str] | None = None,
        entities: Path | str | None = None,
        release: Path | str | None = None,
        model: Path | str | None = None,
        aliases: Path | str | None = None,
        seed: str | int = "mean",
        device: str = "auto",
        index: str = "exact",
    ) -> Self:
        """Return the linker of a finished run.

        `encoders` and `encoder_weights` are by role: text, image, joint, detector; needed where extraction named them.
        `model` is the file of the run's head, where that is the user's own; `aliases` that of the cache's --aliases.
        `index` is what searches vectors for candidates: exact, or faiss, which may miss some; how many is said.
        Raises ConfigError for a run or an option that is none, CacheError and WeightsError for a cache or weights that
        are not the run's.
        """
        own = None if model is None else str(model)
        opened = OpenedRun.of(Path(run), dataset, _path(shards), own)
        if index != "exact" and not opened.reads_lists:
            raise ConfigError(f"{run} ranks all entities, so nothing is retrieved: leave --index {index} out")
        asked = Asked(weights, dict(encoders or {}), dict(encoder_weights or {}))
        new = new_entities.read(_path(entities), opened.reader)
        columns = _columns_of(opened)
        opened.check_recipes(columns)
        others = by_row(opened.reader, _path(aliases)) if opened.reads_lists or aliases is not None else {}
        opened.check_weights(str(seed))
        encoding = Encoding(opened.reader, _encoded(columns, grown=bool(new)), asked, device)
        reader = new_entities.grown(opened.reader, new, columns, encoding) if new else opened.reader
        ranker = Ranker(opened, reader, str(seed), device)
        _refuse_other_parts(ranker, encoding, run)
        return cls(opened, ranker, encoding, new, _path(release), others, index)

    def link(
        self,
        mentions: Sequence[NewMention],
        *,
        top: int = 10,
        nil_below: float = 0.0,
        done: Callable[[int], None] = lambda count: None,
    ) -> list[Link]:
        """Return the answer to each mention, `top` candidates each, 0 = all; `done` is told how many more are linked.

        Raises link.questions.QuestionError, naming the mention that cannot be linked.
        """
        found: list[Link] = []
        for begin in range(0, len(mentions), AT_ONCE):
            some = mentions[begin : begin + AT_ONCE]
            found += self._linked(some, begin, top, nil_below)
            done(len(some))
        return found

    def entity(self, id: str) -> EntityCard | None:
        """Return an entity by its id, None where there is none."""
        row = self._rows.find(id)
        return None if row is None else self._card(row)

    @property
    def about(self) -> dict[str, Any]:
        """The run, its name, dataset, cache_id, warnings, seeds, entities, temperature, and candidates of a mention."""
        results, reader = self._run.results, self._run.reader
        told = {"run": str(self._run.folder), "name": results["name"], "model": results["model"]}
        told |= {"dataset": results["dataset"], "cache_id": reader.id, "candidates": reader.manifest.candidates}
        return told | {"warnings": list(reader.manifest.warnings)} | self._ranker.about()

    def _linked(self, mentions: Sequence[NewMention], begin: int, top: int, nil_below: float) -> list[Link]:
        """Return the answers to mentions that are encoded and ranked together; `begin` came before."""
        held = any(isinstance(mention.image, bytes) for mention in mentions)
        with tempfile.TemporaryDirectory(prefix="melcache-link-") if held else nullcontext("") as folder:
            asked = list(records(mentions, Path(folder), begin))
            contents, pictures = self._encoding.contents(asked)
            ids = [mention.id for mention in mentions]
            known = np.array([self._known.row(*pair) for pair in zip(contents, ids, strict=True)], np.int64)
            places, drafted = self._encoded(asked, known)
        surfaces = [record.surface for record in asked]
        names = dict.fromkeys([*self._ranker.columns, *(self._lists.columns if self._run.reads_lists else ())])
        columns = self._known.columns([*names], known, places, drafted)
        given = [self._lists.given(one.candidates, label(place, one)) for place, one in enumerate(mentions, begin)]
        ranked = self._ranked(columns, surfaces, known, given)
        decoded = drafted.pictures("mention") if drafted else []
        found = []
        for place, (mention, record) in enumerate(zip(mentions, asked, strict=True)):
            listed = ranked.candidates[place]
            order = np.argsort(-ranked.scores[place], kind="stable")[: int((listed >= 0).sum())]
            shown = order[: top or None]
            cards = [self._card(row) for row in listed[shown].tolist()]
            values = (ranked.scores[place, shown].tolist(), ranked.shares[place, shown].tolist())
            strings = self._lists.strings(record.surface, listed[shown])
            best = tuple(map(Candidate, cards, *values, ranked.evidence(place, shown, strings)))
            row, picture = int(known[place]), pictures[place]
            if picture == "ok":  # so far
                picture = decoded[places[place]] if row < 0 else self._known.picture(row)
            found.append(
                Link(
                    mention,
                    record.surface,
                    record.start,
                    record.end,
                    best,
                    not len(order) or float(ranked.shares[place, order[0]]) < nil_below,
                    picture,
                    None if row < 0 else self._known.id(row),
                )
            )
        return found

    def _ranked(
        self, columns: Mapping[str, np.ndarray], surfaces: Sequence[str], known: np.ndarray, given: Given
    ) -> Ranked:
        """Return mentions ranked among what the run ranks, or among entities that are given."""
        if self._run.reads_lists:
            lists = given if self._ranker.among == "list" else [None] * len(given)
            found = self._lists.of(surfaces, columns, known, lists)
        else:
            found = self._lists.none(len(surfaces))
        return self._ranker.rank(columns, surfaces, known, *found, given)

    def _encoded(self, asked: Sequence[Mention], known: np.ndarray) -> tuple[np.ndarray, Drafted | None]:
        """Return the mentions that are not known, encoded, and where each of all stands among them, (n,)."""
        new = [place for place, row in enumerate(known.tolist()) if row < 0]
        first: dict[str, int] = {}
        for place in new:
            first.setdefault(asked[place].sentence, place)
        new.sort(key=lambda place: first[asked[place].sentence])  # those of one sentence stand together
        places = np.zeros(len(asked), np.int64)
        places[new] = np.arange(len(new))
        return places, self._encoding.mentions([asked[place] for place in new]) if new else None

    def _card(self, row: int) -> EntityCard:
        id, held = self._ids[row], self._run.reader.manifest.tables["entity"]
        entity = self._new[row - held] if row >= held else self._release.get(id)
        picture = entity.image.path if entity and entity.image else None
        text = entity.text if entity else None
        return EntityCard(id, self._names[row], text or None, picture, row >= held)

    @cached_property
    def _release(self) -> release_entities.ById:
        about = self._run.reader.manifest.dataset
        return release_entities.found(about.name, about.source, self._shown)


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given)


def _columns_of(run: OpenedRun) -> list[str]:
    """Return the columns that a run's heads and its candidates' retrieval read."""
    retrieved = sources.columns(retrieval_of(run.reader) or ()) if run.reads_lists else ()
    return [*dict.fromkeys([*run.columns(), *retrieved])]


def _encoded(columns: Sequence[str], *, grown: bool) -> set[PartName]:
    """Return the parts of columns that are encoded for new mentions, where `grown` for new entities, too."""
    tables = ("mention", "token", "joint_token", *(["entity"] if grown else []))
    return {part for name in columns if (part := ColumnName(name).part).table in tables}


def _refuse_other_parts(ranker: Ranker, encoding: Encoding, run: Path | str) -> None:
    """Raise ConfigError where a run's heads read of mentions what its options do not say."""
    if {ColumnName(name).part for name in ranker.columns} - {*encoding.parts, IDS}:
        raise ConfigError(f"{run}: results.json and the weights are of heads with other options. Train it with --fresh")
