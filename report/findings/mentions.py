"""Every mention of test as a page shows it: its sentence, candidates of each run, outcomes and marks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache import Reader
from cache.edges import EDGES
from report.findings import classes
from report.findings.answers import Answers
from report.findings.release import Release
from report.writing.pages import anchor
from train.data.row_names import row_names

TEXT = 240  # characters of an entity's description that are shown
AROUND = 60  # of a sentence, before and behind the mention, in the list of mentions
PICTURED = ("image_to_image", "mention.objects.present", "entity.objects.present")


@dataclass(frozen=True)
class Looked:
    """All that is known of the mentions of test, row by row (n,), for each of the runs that answer.

    `outcomes` (n,) str by run; `marks` (n,) bool by run and mark; `edges` (n, C, L, 4) of a DRIN by run.
    """

    rows: np.ndarray
    gold_row: np.ndarray
    answers: Mapping[int, Answers]
    outcomes: Mapping[int, np.ndarray]
    marks: Mapping[int, Mapping[str, np.ndarray]]
    edges: Mapping[int, np.ndarray]
    frequency: np.ndarray | None


def looked(reader: Reader, answers: Mapping[int, Answers], edges: Mapping[int, np.ndarray]) -> Looked:
    """Return outcomes and marks of the mentions that all runs answered."""
    rows = next(iter(answers.values())).rows
    gold_row = _golds(reader, next(iter(answers.values())))
    frequency = _frequency(reader, rows)
    names = row_names(reader, "entity.ids.name")
    outcomes, marks = {}, {}
    for run, own in answers.items():
        outcomes[run] = classes.outcomes(own.gold, gold_row, own.right, every=own.ranked == "all")
        chosen, wrong = own.entities[:, 0], np.isin(outcomes[run], [classes.OTHER, classes.NOT_LISTED])
        marks[run] = classes.of_names(names, chosen, gold_row, wrong)
        if frequency is not None:
            marks[run] |= classes.of_gold(frequency, gold_row)
        if (stored := _edges(reader, own)) is not None:
            marks[run] |= classes.of_edges(stored, own.gold, classes.rivals(own.entities, own.gold))
    return Looked(rows, gold_row, answers, outcomes, marks, edges, frequency)


def _golds(reader: Reader, own: Answers) -> np.ndarray:
    """Return the entity row of gold, negative where there is none.  A synthetic cache may know those of lists alone."""
    if "mention.ids.gold" in reader.columns:
        found: np.ndarray = np.asarray(reader.column("mention.ids.gold"))[own.rows]
        return found
    listed = own.entities[np.arange(len(own.rows)), own.gold.clip(0)]
    return np.where(own.gold >= 0, listed, -1)


def _frequency(reader: Reader, rows: np.ndarray) -> np.ndarray | None:
    if "mention.ids.gold" not in reader.columns:
        return None
    return classes.frequencies(reader.column("mention.ids.gold"), reader.column("mention.ids.splits"))[rows]


def _edges(reader: Reader, own: Answers) -> dict[str, np.ndarray] | None:
    """Return the cache's text-to-text and image-to-image edges in the order of answers, NaN without both pictures.

    None of other lists than the cache's, and of a cache without edges.
    """
    stored = {edge.column: name for edge, name in ((EDGES[0], "text"), (EDGES[3], "picture"))}
    if not own.stored or not set(stored) <= set(reader.columns):
        return None
    found = {
        name: np.take_along_axis(np.array(reader.column(column))[own.rows], own.order, 1)
        for column, name in stored.items()
    }
    _, of_mention, of_entity = PICTURED
    if {of_mention, of_entity} <= set(reader.columns):
        there = reader.column(of_mention)[own.rows][:, None] & reader.column(of_entity)[own.entities]
        found["picture"] = np.where(there, found["picture"], np.nan)
    return found


@dataclass(frozen=True)
class Texts:
    """What rows are called, and what the release has of them."""

    mentions: Sequence[str]
    surfaces: Sequence[str]
    types: Sequence[str]
    entities: Sequence[str]
    names: Sequence[str]
    release: Release
    thumbnails: Mapping[Any, str]


def cards(looked: Looked, texts: Texts, top: int) -> Iterator[dict[str, Any]]:
    """Yield what a page shows of each mention, in the order of rows."""
    for place, row in enumerate(looked.rows.tolist()):
        id = texts.mentions[row]
        gold = int(looked.gold_row[place])
        yield {
            "anchor": anchor(id),
            "id": id,
            "surface": texts.surfaces[row],
            "type": texts.types[row] if texts.types else "",
            "sentence": texts.release.sentence(id),
            "picture": _thumbnail(texts, id, of_entity=False),
            "gold": {"id": texts.entities[gold], "name": texts.names[gold]} if gold >= 0 else None,
            "frequency": None if looked.frequency is None or gold < 0 else int(looked.frequency[place]),
            "runs": {run: _said(looked, run, place) for run in looked.answers},
            "candidates": [_candidate(looked, texts, place, entity) for entity in shown(looked, place, top)],
        }


def _said(looked: Looked, run: int, place: int) -> dict[str, Any]:
    """Return the outcome of a mention for a run, its marks, and the rank and probability of gold."""
    own = looked.answers[run]
    there = int(own.gold[place])
    return {
        "outcome": str(looked.outcomes[run][place]),
        "marks": [name for name, mark in looked.marks[run].items() if mark[place]],
        "rank": there + 1 if there >= 0 else None,
        "sure": float(own.probabilities[place, 0]),
        "gold_probability": float(own.probabilities[place, there]) if there >= 0 else None,
    }


def shown(looked: Looked, place: int, top: int) -> list[int]:
    """Return the entities that a page shows of a mention: the first `top` of each run, and gold, if any has it."""
    found: dict[int, None] = {}
    for own in looked.answers.values():
        found |= dict.fromkeys(own.entities[place, :top].tolist())
    if any(own.gold[place] >= 0 for own in looked.answers.values()):
        found[int(looked.gold_row[place])] = None
    return [entity for entity in found if entity >= 0]


def _candidate(looked: Looked, texts: Texts, place: int, entity: int) -> dict[str, Any]:
    id, scored, edges = texts.entities[entity], {}, {}
    for run, own in looked.answers.items():
        at = np.flatnonzero(own.entities[place] == entity)
        if len(at):
            rank = int(at[0])
            scored[run] = {
                "rank": rank + 1,
                "score": float(own.scores[place, rank]),
                "probability": float(own.probabilities[place, rank]),
            }
            if run in looked.edges:
                edges[run] = looked.edges[run][place, rank]
    gold = entity == int(looked.gold_row[place])
    drawn = gold or any(said["rank"] == 1 for said in scored.values())
    return {
        "id": id,
        "name": texts.names[entity],
        "text": texts.release.text(id)[:TEXT],
        "picture": _thumbnail(texts, id, of_entity=True),
        "gold": gold,
        "scored": scored,
        "edges": {run: figure(found) for run, found in edges.items()} if drawn else {},
    }


def figure(edges: np.ndarray) -> list[dict[str, Any]]:
    """Return each edge of a DRIN before and after its updates, None where it was not read.  edges (L, 4)

    After is the weight that entered the last layer which reads the edge.
    """
    found = []
    for column, edge in enumerate(EDGES):
        read = edges[:, column][~np.isnan(edges[:, column])].tolist()
        before, after = (read[0], read[-1]) if read else (None, None)
        found.append({"name": edge, "before": before, "after": after, "updated": len(read) > 1})
    return found


def _thumbnail(texts: Texts, id: str, *, of_entity: bool) -> str | None:
    image = texts.release.picture(id, of_entity=of_entity)
    return None if image is None else texts.thumbnails.get(image.path)


def listed(card: Mapping[str, Any], page: int) -> list[Any]:
    """Return what the list of mentions holds of one, for the script: see report/static/report.js."""
    sentence = card["sentence"]
    before, behind = (_end(sentence.before), _beginning(sentence.after, AROUND)) if sentence else ("", "")
    surface = sentence.marked if sentence and sentence.marked else card["surface"]
    if sentence and not sentence.marked:
        before, behind = "", _beginning(sentence.before, 2 * AROUND)
    gold = card["gold"] or {"name": "", "id": ""}
    said = [[own["outcome"], round(own["sure"], 3), own["marks"]] for own in card["runs"].values()]
    lost = int(sentence is not None and not sentence.marked)
    return [card["anchor"], page, card["id"], before, surface, behind, gold["name"], said, lost]


def _beginning(text: str, most: int) -> str:
    """Return what a text begins with, cut behind a word where there is one to spare."""
    return text if len(text) <= most else (text[:most].rpartition(" ")[0] or text[:most]) + " …"


def _end(text: str) -> str:
    """Return what a text ends with, cut before a word where there is one to spare."""
    return text if len(text) <= AROUND else "… " + (text[-AROUND:].partition(" ")[2] or text[-AROUND:])


def counted(looked: Looked) -> dict[int, dict[str, dict[str, int]]]:
    """Return by run how many mentions have each outcome, and each mark, and how many of these are not right."""
    found = {}
    for run in looked.answers:
        right = looked.outcomes[run] == classes.RIGHT
        outcomes = {name: int((looked.outcomes[run] == name).sum()) for name in classes.OUTCOMES}
        marks = {name: (int(mark.sum()), int((mark & ~right).sum())) for name, mark in looked.marks[run].items()}
        found[run] = {"outcomes": outcomes, "marks": marks, "wrong": int((~right).sum()), "mentions": len(right)}
    return found


def texts_of(reader: Reader, release: Release, thumbnails: Mapping[Any, str]) -> Texts:
    """Return what rows are called."""
    types = reader.strings("mention.ids.type") if "mention.ids.type" in reader.columns else []
    columns = ("mention.ids.id", "mention.ids.surface")
    mentions, surfaces = (row_names(reader, name) for name in columns)
    return Texts(
        mentions, surfaces, types, row_names(reader, "entity.ids.id"), row_names(reader, "entity.ids.name"), release,
        thumbnails,
    )  # fmt: skip


def pictured(looked: Looked, texts: Texts, top: int) -> Sequence[Any]:
    """Return the pictures that pages show."""
    entities = {entity for place in range(len(looked.rows)) for entity in shown(looked, place, top)}
    own = [texts.release.picture(texts.mentions[row], of_entity=False) for row in looked.rows.tolist()]
    return own + [texts.release.picture(texts.entities[entity], of_entity=True) for entity in sorted(entities)]
