"""Fill what needs no text and no picture: it derives from lists and from stored columns."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from cache import edges
from cache.edges import ALIGNMENT, ALIGNMENT_READS
from cache.writing.draft import Draft
from common.records import Face
from extract.computing.row_range import Range
from extract.encoders import Encoders
from extract.planning.shards import Plan

PERSON = 1  # COCO category


class Derived:
    """Ids, candidates, alignments and attributes."""

    def __init__(self, plan: Plan, encoders: Encoders, draft: Draft) -> None:
        self._plan, self._encoders, self._draft = plan, encoders, draft

    def fill(self, rows: Range) -> None:
        """Fill what is missing of a range; what it derives from is there."""
        if f"{rows.table}.ids" in rows:
            self._ids(rows)
        if "mention.attributes" in rows:
            self._attributes(rows)
        if "pair.candidates" in rows:
            for name in self._plan.parts["pair.candidates"].columns:
                rows.put(f"pair.candidates.{name}", rows.rows, getattr(self._plan.lists, name)[rows.start : rows.stop])
        if "pair.alignment" in rows:
            mentions = {name: rows.get(name, rows.rows) for name in ALIGNMENT_READS if name.table == "mention"}
            listed = self._plan.lists.candidates[rows.start : rows.stop]
            probability = edges.Probability.of(self._plan.parts[ALIGNMENT].recipe)
            for name, values in edges.align(self._entities | mentions, listed, probability).items():
                rows.put(f"pair.alignment.{name}", rows.rows, values)

    def _ids(self, rows: Range) -> None:
        """Fill all columns but the reason codes, which are those of decoding."""
        part, at = f"{rows.table}.ids", slice(rows.start, rows.stop)
        for column, values in self._plan.rows.ids[part].items():
            rows.put(f"{part}.{column}", rows.rows, values[at])
        rows.put(f"{part}.content_text", rows.rows, self._plan.rows.text_content[rows.table][at])
        rows.put(f"{part}.content_image", rows.rows, self._plan.rows.picture_content[rows.table][at])

    def _attributes(self, rows: Range) -> None:
        """Say what CLIP's stored vectors tell of scenes and faces; zeros without a picture, and where no person is.

        Of faces only where --faces says nothing.
        """
        there = rows.get("mention.joint.present", rows.rows)
        persons = rows.get("mention.crops.labels", rows.rows) == PERSON
        pictures = rows.get("mention.joint.image", rows.rows)[there].astype(np.float32)
        crops = rows.get("mention.crops.vector", rows.rows)[persons].astype(np.float32)
        columns = self._plan.parts["mention.attributes"].columns
        made = {name: np.zeros((len(there), *shape), np.float32) for name, (_, shape) in columns.items()}
        if len(pictures):
            made["scene_probabilities"][there], made["scene"][there] = self._encoders.attributes.scene(pictures)
        if (faces := self._plan.rows.faces) is not None:
            self._given(made, faces[rows.start : rows.stop])
        elif len(crops):
            made["face_probabilities"][persons], made["faces"][persons] = self._encoders.attributes.faces(crops)
        for name, values in made.items():
            rows.put(f"mention.attributes.{name}", rows.rows, values)

    def _given(self, made: dict[str, np.ndarray], faces: Sequence[Sequence[Face]]) -> None:
        """Fill in the faces of mentions that --faces gave, K of each at most; of which object each is is not known."""
        places = [(row, k) for row, of in enumerate(faces) for k in range(len(of))]
        if places:
            found = self._encoders.attributes.from_faces([faces[row][k] for row, k in places])
            at = tuple(np.array(places).T)
            made["face_probabilities"][at], made["faces"][at] = found

    @cached_property
    def _entities(self) -> dict[str, np.ndarray]:
        """What the alignments read of all entities."""
        return {name: self._draft.column(name) for name in ALIGNMENT_READS if name.table == "entity"}
