"""Which release lies in a folder, by the files that only it has: for users who name another, and for those not read."""

from pathlib import Path

from common.errors import DatasetError
from common.foreign import shell
from common.paths import is_folder, names

# adapter: patterns of files and folders that only its layouts have, wherever the release's root was unpacked
MARKS = {
    "jsonl": ("mentions.jsonl*",),
    "mimic": ("kb_entity.*",),
    "richpedia": (
        "Richpedia-MEL*", "datasets/Richpedia-MEL", "mentions/RICHPEDIA_*", "qid2abs_long.json*", "RichpediaMEL.json*",
        "RichpediaMEL.zip", "dataset/RichpediaMEL.*", "data/dataset/RichpediaMEL.*",
    ),
    "wikidiverse": (
        "candidates/*_w_10cands.*", "wikidiverse_w_cands", "*_w_10cands.*", "WikiDiverse.json*", "WikiDiverse.zip",
        "dataset/WikiDiverse.*", "data/dataset/WikiDiverse.*", "wikinewsImgs",
    ),
    "wikimel": (
        "Wikidata-MEL*", "datasets/WikiMEL", "mentions/WIKIMEL_*", "nel_12n.*", "input_data", "WikiMEL.json*",
        "WikiMEL.zip", "dataset/WikiMEL.*", "data/dataset/WikiMEL.*",
    ),
}  # fmt: skip
OURS = "Write it as mentions.jsonl and entities.jsonl with pictures as files (--dataset jsonl)"
# layouts that no adapter reads: whose, patterns of files, what keeps melcache from it, what to do
UNREAD = (
    (
        "FissFuse's release (ThinkLinker and VERA take it, too)",
        ("[Ww][Ii][Kk][Ii]*_*.jsonl", "[Rr][Ii][Cc][Hh]*_*.jsonl", "*image.h5", "*image.h5py"),
        "its pictures lie inside an HDF5 file, and the first of each candidate list is gold",
        f"Take MIMIC's release of the same dataset (--dataset mimic). {OURS}",
    ),
    (
        "GEMEL's release",
        ("clip_vit_*.hdf5", "prefix_tree_*.pkl", "SimCSE_train_mention_embeddings.pkl"),
        "it has CLIP vectors instead of pictures, and no table of entities",
        f"Take the release that it was made from. {OURS}",
    ),
    (
        "I2CR's test sets",
        ("*_testset_label.json", "dataset_*/*_testset_label.json", "datasets/dataset_*/*_testset_label.json"),
        "they have no train split and no table of entities",
        "Take the release that they were made from (--dataset wikimel, richpedia or wikidiverse)",
    ),
    (
        "Weibo-MEL of MELBench",
        ("Weibo-MEL*",),
        "its entities are names of pages without an id or a text",
        OURS,
    ),
    (
        "DRIN's preprocessed arrays",
        ("mention-text-feature_*.npy",),
        "they are features already, not a release",
        "Make a cache of them: melcache import --from drin DIR --name NAME",
    ),
)


def check(name: str, data: Path) -> None:
    """Raise DatasetError if `data` holds the release of another adapter than `name`, or one that none reads.

    A folder that has something of `name`'s own passes, whatever else lies in it.
    """
    if name not in MARKS or _any(data, MARKS[name]):
        return
    others = [other for other, marks in MARKS.items() if other != name and _any(data, marks)]
    if others:
        raise DatasetError(f"No {name} release in {data}: this looks like --dataset {' or --dataset '.join(others)}")
    for whose, marks, why, instead in UNREAD:
        if found := _first(data, marks):
            raise DatasetError(
                f"No {name} release in {data}: {found.relative_to(data)} is of {whose}, which melcache does not read, "
                f"because {why}. {instead}"
            )


def below(name: str, data: Path) -> str:
    """Return, in words, which folder in `data` looks like a release of `name`, "" if none does."""
    folders = [folder for folder in (data / entry for entry in names(data)) if is_folder(folder)]
    alike = [folder for folder in folders if _any(folder, MARKS.get(name, ()))]
    named = ", ".join(f"--data {shell(folder)}" for folder in alike[:3])
    return f" Did you mean {named}?" if alike else ""


def _any(data: Path, marks: tuple[str, ...]) -> bool:
    return _first(data, marks) is not None


def _first(data: Path, marks: tuple[str, ...]) -> Path | None:
    return next((path for mark in marks for path in sorted(data.glob(mark))), None) if is_folder(data) else None
