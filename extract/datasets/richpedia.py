"""The Richpedia-MEL releases as records, in the layouts of WikiMEL.

    data/richpedia/                     MEL-GHMFC; or a clone of it
        {train,test}.json               {qid: {sentence, mentions, entities, answer}}; dev.json is optional: without
                                        it train with --valid-from train:0.1
          or Richpedia-MEL.json (MELBench, a clone of it, too) and splits.json {train, dev, test: [ids]}
          or RichpediaMEL.json (KGMEL: docs/guides/get-the-data.md) and splits.json or mapping/ids_split_mappings.json
        qid2ne.json, qid2abs.json       qid to name, qid to properties as text
        qid2abs_long.json               optional: longer texts (or qid2brief.json)
        search_top100.json              optional: candidates, {mention: [qid, ..]}
        images/<qid>.jpg                a caption's id is its gold entity's

Every .json may also be .json.gz or .zip; without splits.json MELBench's file is split as wikimel.py says. In MELBench
the matching of texts and pictures "has been lost" (its issue 4); MEL-GHMFC names pictures by id, and its later crawl
lists them in the record (`img_list`).
"""

from pathlib import Path

from common.records import Dataset
from extract.datasets.wikimel import Layout, load_layout

RICHPEDIA = Layout(
    name="richpedia",
    parts=("{}.json", "mentions/{}.json", "mentions/RICHPEDIA_{}.json"),
    melbench="Richpedia-MEL.json",
    wholes=("nel_121.json",),
    folders=("Richpedia-MEL", "datasets/Richpedia-MEL"),
    kgmel="RichpediaMEL",
    optional=("valid",),
    source="https://github.com/seukgcode/MEL-GHMFC (datasets/Richpedia-MEL)",
    licence="text MIT, facts from Wikidata CC0, pictures Wikimedia Commons per file",
    doc=__doc__,
)


def load(data: Path) -> Dataset:
    """Return the records of Richpedia-MEL.  Raises DatasetError if it is missing, incomplete or of wrong types."""
    return load_layout(data, RICHPEDIA)
