"""Attributes of scenes and faces without a model of their own: CLIP compares a picture with written prompts.

Within a question p(answer) = softmax of 100 cos(picture, prompt), 100 being the temperature that CLIP was trained to,
and another joint encoder's own in its place.
The likeliest answers make a sentence ("setting: outdoors, place: stage, ..."), whose CLIP text vector the heads read,
as DWE does with DeepFace's output. These are guesses about what is seen: see extract/attributes/prompts.py. What it
asks about gender and race is asked only on request.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cache import fingerprint
from common.errors import DatasetError
from common.records import Face
from extract.attributes import prompts
from extract.attributes.prompts import Question

TEMPERATURE = 100.0


class Attributes:
    """Probabilities and sentence vectors of pictures (scenes) and of pictures cut out around a person (faces).

    `sizes` are the axes of the probabilities: A of a scene's prompts, F of a face's. `encode_texts` is CLIP's,
    n texts -> float32 (n, P); it is called when the first picture comes. Each sentence is encoded once and by
    itself, and cosines are summed in float64, so that no result depends on which pictures came together.
    """

    def __init__(
        self,
        encode_texts: Callable[[Sequence[str]], np.ndarray],
        *,
        gender: bool,
        race: bool,
        temperature: float = TEMPERATURE,
    ) -> None:
        asked = {"gender": gender, "race": race}
        self._encode_texts, self._temperature = encode_texts, temperature
        self._face = tuple(question for question in prompts.FACE if asked.get(question.name, True))
        self._sentences: dict[str, np.ndarray] = {}
        self.sizes = {"A": len(_prompts(prompts.SCENE)), "F": len(_prompts(self._face))}
        words = [[[q.name, list(q.prompts.items())] for q in questions] for questions in (prompts.SCENE, self._face)]
        self.recipe: dict[str, Any] = {
            "prompts": prompts.VERSION,
            "digest": fingerprint.digest(words),  # of the questions that are on
            "scene": [question.name for question in prompts.SCENE],
            "face": [question.name for question in self._face],
            "probabilities": f"softmax of {temperature:.9g} cosine within a question",
            "sentence": "question: likeliest answer, ...; encoded by itself",
        }

    def scene(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what whole pictures show: CLIP vectors (n, P) -> probabilities (n, A) and sentence vectors (n, P).

        Both are float32. A row of zeros, no picture, gets zeros.
        """
        return self._ask(images, prompts.SCENE, self._scene_prompts)

    def faces(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the same of persons cut out: CLIP vectors (m, P) -> (m, F) and (m, P)."""
        return self._ask(crops, self._face, self._face_prompts)

    def from_faces(self, faces: Sequence[Face]) -> tuple[np.ndarray, np.ndarray]:
        """Return the same of m faces that DeepFace analyzed: 1 for each of its answers, 0 for the others.

        The sentence is the one of DWE's authors, with the age in years. Gender and race are dropped unless this
        object asks for them. Raises DatasetError for a face that lacks one that it asks for.
        """
        answers = [(question.name, answer) for question in self._face for answer in question.prompts]
        probabilities = np.zeros((len(faces), len(answers)), np.float32)
        sentences = []
        for row, face in enumerate(faces):
            said = {question.name: str(getattr(face, question.name)) for question in self._face}
            if absent := [name for name, answer in said.items() if not answer]:
                raise DatasetError(
                    f"face {row} of {len(faces)} has no {absent[0]}, which was asked for: run DeepFace.analyze with "
                    f"the action {absent[0]!r}, or do not ask for it"
                )
            for answer in (said | {"age": _age_group(face.age)}).items():
                probabilities[row, answers.index(answer)] = 1
            sentences.append(_sentence((said | {"age": f"{face.age:g}"}).items()))
        return probabilities, self._vectors(sentences)

    def _ask(
        self, pictures: np.ndarray, questions: Sequence[Question], directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        logits = self._temperature * _unit(pictures) @ directions.T  # (n, prompts)
        probabilities, said, begin = np.zeros(logits.shape, np.float32), [], 0
        for question in questions:
            columns = slice(begin, begin := begin + len(question.prompts))
            answers = list(question.prompts)
            said.append([(question.name, answers[best]) for best in logits[:, columns].argmax(1)])
            powers = np.exp(logits[:, columns] - logits[:, columns].max(1, keepdims=True))
            probabilities[:, columns] = powers / powers.sum(1, keepdims=True)
        there = pictures.any(1)
        probabilities[~there] = 0
        vectors = np.zeros(pictures.shape, np.float32)
        sentences = [_sentence(answers) for answers in zip(*said, strict=True)]
        if there.any():
            vectors[there] = self._vectors([sentences[row] for row in np.flatnonzero(there)])
        return probabilities, vectors

    def _vectors(self, sentences: Sequence[str]) -> np.ndarray:
        for sentence in sentences:
            if sentence not in self._sentences:
                self._sentences[sentence] = self._encode_texts([sentence])[0]
        return np.stack([self._sentences[sentence] for sentence in sentences]) if sentences else self._encode_texts([])

    @cached_property
    def _scene_prompts(self) -> np.ndarray:
        return _unit(self._encode_texts(_prompts(prompts.SCENE)))

    @cached_property
    def _face_prompts(self) -> np.ndarray:
        return _unit(self._encode_texts(_prompts(self._face)))


def _age_group(age: float) -> str:
    groups = next(question.prompts for question in prompts.FACE if question.name == "age")
    return list(groups)[bisect_right(prompts.AGE_ENDS, age)]


def _sentence(answers: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{question}: {answer}" for question, answer in answers)


def _prompts(questions: Iterable[Question]) -> list[str]:
    return [prompt for question in questions for prompt in question.prompts.values()]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return rows of length 1 in float64; zeros stay zeros."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)
