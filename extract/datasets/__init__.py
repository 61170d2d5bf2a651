"""Dataset releases as records: one adapter module per dataset, imported only when it is asked for."""

from importlib import import_module
from pathlib import Path

from common.errors import DatasetError
from common.paths import DATA
from common.records import Dataset

ADAPTERS = {
    "demo": "extract.datasets.demo",
    "jsonl": "extract.datasets.jsonl",
    "mimic": "extract.datasets.mimic",
    "richpedia": "extract.datasets.richpedia",
    "wikidiverse": "extract.datasets.wikidiverse",
    "wikimel": "extract.datasets.wikimel",
}


def load(name: str, data: Path | None) -> Dataset:
    """Return the records of the release of dataset `name` in the folder `data` (None: data/<name>).

    Raises DatasetError for an unknown name, and for a release that is missing, incomplete or in no layout
    that its adapter knows.
    """
    if name not in ADAPTERS:
        raise DatasetError(f"unknown dataset {name!r}, expected one of: {', '.join(ADAPTERS)}")
    dataset = import_module(ADAPTERS[name]).load(DATA / name if data is None else data)
    dataset.name = name
    return dataset
