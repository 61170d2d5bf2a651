"""Dataset releases as records: one adapter module per dataset, imported only when it is asked for."""

from importlib import import_module
from pathlib import Path

from common.errors import DatasetError
from common.paths import DATA
from common.records import RELEASES, Dataset
from common.words import one_of
from extract.reading import layouts, packed

ADAPTERS = {name: f"extract.datasets.{name}" for name in RELEASES}


def load(name: str, data: Path | None) -> Dataset:
    """Return the records of the release of dataset `name` in the folder `data` (None: data/<name>).

    Raises DatasetError for an unknown name, and for a release that is missing, incomplete, in no layout
    that its adapter knows, not readable, or larger than the memory.
    """
    if name not in ADAPTERS:
        raise DatasetError(f"unknown dataset {name!r}, expected one of: {one_of(name, ADAPTERS)}")
    folder = DATA / name if data is None else data
    with packed.fitting(f"the {name} release in {folder}"):
        try:
            layouts.check(name, folder)
            dataset = import_module(ADAPTERS[name]).load(folder)
        except OSError as error:
            raise DatasetError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    dataset.name = name
    return dataset
