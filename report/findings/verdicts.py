"""What the doctor counted (train.inspecting.doctor), in words: what a reader of the accuracy must know."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from common.output import percent

SURE = 1.96  # standard deviations of a 95% interval
MANY = 0.05  # of a split: from there on a leak is a warning
MUCH = 0.5  # of a split, right by remembering strings
# key of doctor.diagnose: of what it is a share, what is said of none and of some, with the split's name
SEEN = {
    "in_another_split": (
        "mentions",
        "no {} mention stands in another split",
        "{} mentions stand in another split, too",
    ),
    "repeated": (
        "mentions",
        "no {} mention repeats sentence, mention and position of one in train",
        "{} mentions repeat sentence, mention and position of one in train",
    ),
    "picture_of_gold": (
        "labeled",
        "no {} mention has the very picture of its gold entity",
        "{} mentions have the very picture of their gold entity: comparing files answers them",
    ),
}


@dataclass(frozen=True)
class Verdict:
    """A sentence, and how much it matters: `good`, `note`, or `warning`."""

    level: str
    text: str


def of_split(counts: Mapping[str, float], split: str = "test") -> list[Verdict]:
    """Return the verdicts on what doctor.diagnose counted in a split."""
    mentions = int(counts["mentions"])
    labeled = int(counts.get("labeled", mentions))
    if not labeled:
        return [Verdict("warning", f"{split} has no labeled mention: nothing can be measured on it")]
    found = [_size(labeled, split)]
    if labeled < mentions:
        left = mentions - labeled
        found.append(Verdict("note", f"{left:,} of {mentions:,} {split} mentions are not labeled, and count nowhere"))
    for key, (of, none, some) in SEEN.items():
        whole = labeled if of == "labeled" else mentions
        found.append(_seen(int(counts[key]), whole, none.format(split), some.format(split)))
    found.append(_golds(int(counts["gold_in_train"]), labeled, split))
    prior = counts["prior"] / labeled
    always = f"always the commonest meaning of the string in train would be right for {percent(prior)}% of {split}"
    return [*found, Verdict("warning" if prior > MUCH else "note", always)]


def _size(labeled: int, split: str) -> Verdict:
    """Say how far chance alone moves a Top-1 of so many mentions, at most."""
    width = 100 * SURE / (2 * math.sqrt(labeled))
    told = f"{width:.0f}" if width >= 10 else f"{width:.1f}"
    level = "warning" if width > 5 else "note" if width > 2 else "good"
    return Verdict(level, f"{labeled:,} {split} mention{'s' * (labeled != 1)}: ±{told} points (95%, at a Top-1 of 50%)")


def _seen(count: int, of: int, none: str, some: str) -> Verdict:
    if not count:
        return Verdict("good", none)
    return Verdict("warning" if count > MANY * of else "note", f"{count:,} of {of:,} ({percent(count / of)}%) {some}")


def _golds(seen: int, labeled: int, split: str) -> Verdict:
    if not seen:
        return Verdict("good", f"no {split} gold occurs in train")
    share = f"{seen:,} of {labeled:,} ({percent(seen / labeled)}%)"
    return Verdict("note", f"{share} {split} mentions have a gold that occurs in train: see the slices for the others")
