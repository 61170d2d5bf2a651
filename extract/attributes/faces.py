"""`--faces PATH`: what DeepFace said of the faces in pictures, in place of CLIP's guesses (DWE's authors).

A result belongs to the picture of its name, or, as of their cut-outs `41487_1`, `41487_2`, to that before the last `_`;
faces of a picture are in the order of its cut-outs. Of a picture that is not named no face is known: CLIP is not asked
instead, whose answers are others (groups of age for years).
"""

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import DatasetError
from common.paths import is_folder, names
from common.records import Dataset, Face
from extract.attributes import prompts
from extract.reading import picture_folders, readers

OLDEST = 150  # years
CUT_OUT = re.compile(r"(.+)_(\d+)")
Found = dict[str, list[Face]]


def add(dataset: Dataset, path: Path, keep: int, *, gender: bool, race: bool) -> Dataset:
    """Return the dataset with the faces of its mentions' pictures, `keep` each at most; what became of them is counted.

    What is not asked for of `gender` and `race` is dropped here. Raises DatasetError if it is asked for and a face
    lacks it, if no picture of a mention is named, and if a name is that of two pictures.
    """
    asked = {"gender": gender, "race": race}
    images = (mention.image for mention in dataset.mentions)
    paths = dict.fromkeys(image.path for image in images if image is not None and image.path is not None)
    pictures = {_name(picture): picture for picture in paths}
    found, counts = _by_picture(load_deepface(path), pictures, path)
    for picture in paths:
        if (name := _name(picture)) in found and picture != (other := pictures[name]):
            raise DatasetError(f"--faces {path} names {name!r}, but {picture} and {other} are two such pictures")
    faces = {
        pictures[name]: tuple(_kept(face, asked, f"{path}: a face of {name!r}") for face in of[:keep])
        for name, of in found.items()
    }
    counts["given"] = sum(map(len, found.values()))
    counts["beyond --objects"] = counts["given"] - sum(map(len, faces.values()))
    counts["pictures of mentions without a result"] = len(paths) - len(faces)
    mentions = [
        replace(mention, faces=faces.get(mention.image.path, ()) if mention.image is not None else ())
        for mention in dataset.mentions
    ]
    counted = {f"faces: {what}": count for what, count in counts.items() if count}
    return replace(dataset, mentions=mentions, counts=dataset.counts | counted)


def _by_picture(results: Found, pictures: dict[str, Path], path: Path) -> tuple[Found, Counter[str]]:
    """Return the faces of each picture by name, and how many results are of one and of none."""
    cut_outs: dict[str, dict[int, list[Face]]] = {}
    unknown = []
    for name, faces in results.items():
        cut = CUT_OUT.fullmatch(name)
        if name in pictures:
            cut_outs.setdefault(name, {})[-1] = faces
        elif cut and cut[1] in pictures:
            cut_outs.setdefault(cut[1], {})[int(cut[2])] = faces
        else:
            unknown.append(name)
    if not cut_outs:
        example = next(iter(pictures), "(none)")
        raise DatasetError(
            f"--faces {path} names no picture of a mention: its first is {unknown[0]!r}, the release's {example!r}. "
            "Is it of another release?"
        )
    found = {name: [face for _, of in sorted(parts.items()) for face in of] for name, parts in cut_outs.items()}
    return found, Counter({"results for no picture of a mention": len(unknown)})


def _name(picture: Path) -> str:
    return picture_folders.composed(picture.stem)


def _kept(face: Face, asked: dict[str, bool], where: str) -> Face:
    for trait in (trait for trait, wanted in asked.items() if wanted and not getattr(face, trait)):
        raise DatasetError(
            f"{where} has no dominant_{trait}, which --infer-{trait} asks for: run DeepFace.analyze with the action "
            f"{trait!r}, or leave --infer-{trait} out"
        )
    return replace(face, **{trait: "" for trait, wanted in asked.items() if not wanted})


def load_deepface(path: Path) -> dict[str, list[Face]]:
    """Return the faces that `DeepFace.analyze` found in each picture, by the picture's name without its suffix.

    `path` is a folder with one `<picture>.json` each, as the authors of DWE keep them for their cut-outs
    (`41487_1.json`), one such file, or a file {picture: what analyze returned}; that is a face or a list of faces.
    A face needs `age` and `dominant_emotion`; `dominant_gender` and `dominant_race` may be absent. Raises
    DatasetError naming file and entry for anything else.
    """
    if is_folder(path):
        results = {
            (file.stem, str(file)): readers.read_json(file, object)
            for file in (path / name for name in names(path) if name.endswith(".json"))
        }
    else:
        record = readers.read_json(path, object)
        if isinstance(record, list) or (isinstance(record, dict) and "age" in record):
            results = {(path.name.partition(".json")[0], str(path)): record}
        else:
            named = readers.expect(record, dict, "the whole file", str(path))
            results = {(name, f"{path} entry {name!r}"): found for name, found in named.items()}
    if not results:
        raise DatasetError(f"{path} names no picture, expected what DeepFace.analyze returned for at least one")
    faces: dict[str, list[Face]] = {}
    for (name, where), found in results.items():
        stem, suffix = os.path.splitext(name)
        picture = picture_folders.composed(stem if suffix.lower() in picture_folders.SUFFIXES else name)
        if picture in faces:
            raise DatasetError(f"{where}: picture {picture!r} is listed already, under another suffix")
        faces[picture] = [_face(face, where) for face in (found if isinstance(found, list) else [found])]
    return faces


def _face(record: Any, where: str) -> Face:
    age = readers.expect(record, dict, "a face", where).get("age")
    if type(age) not in (int, float) or not 0 <= age <= OLDEST:
        raise DatasetError(f"{where}: age must be a number of years, 0 to {OLDEST}, found {age!r:.60}")
    said = {}
    for name, answers in ((question.name, question.prompts) for question in prompts.FACE if question.name != "age"):
        field = f"dominant_{name}"
        said[name] = readers.expect(record.get(field) or "", str, field, where)
        if said[name] not in answers and (said[name] or name == "emotion"):
            raise DatasetError(f"{where}: {field} must be one of {', '.join(answers)}; found {said[name]!r:.60}")
    return Face(age, **said)
