"""What a linker holds of each entity: bytes of arrays, no objects of Python."""

import tracemalloc

import melcache
from bench.sizes import grown_cache
from extract import datasets
from link.linker import Linker
from link.records import NewMention
from link.release_entities import ById

FEW, MANY = 300, 2_300  # entities
LINKED = NewMention("Paris by night", "Paris")


def held(world, folder, count):
    """Return the bytes of Python's and numpy's that a linker over so many entities has after its first answer."""
    grown_cache.write(melcache.open(world.cache), folder / str(count), count)
    run = world.run("bert")
    tracemalloc.start()
    linker = Linker.load(run, dataset=str(folder / str(count)), device="cpu")
    [link] = linker.link([LINKED])
    lasting = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert link.candidates[0].name.startswith("Paris") and linker.about["entities"] == count
    assert linker.entity(f"Q{count - 1}-new").id == f"Q{count - 1}-new" and linker.entity("nobody") is None
    return lasting


def test_a_linker_holds_some_bytes_of_an_entity(world, tmp_path):
    world.linker("bert").link([LINKED])  # what is loaded once
    per_entity = (held(world, tmp_path, MANY) - held(world, tmp_path, FEW)) / (MANY - FEW)
    assert per_entity < 40, "12 are those of the index; a name of Python's takes 60, an id in a dictionary 110"


def test_entities_of_a_release_are_found_by_id(world):
    entities = datasets.load("jsonl", world.release).entities
    found = ById(entities)
    assert [found.get(entity.id) for entity in entities] == list(entities)
    assert found.get("nobody") is None and ById().get("e0") is None
