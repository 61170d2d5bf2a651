"""Open a cache, check it, and read its columns as numpy arrays: `python examples/read_a_cache.py CACHE`."""

import sys

import numpy as np

import melcache

reader = melcache.open(sys.argv[1])  # a directory, or a name under shards/
print(f"cache {reader.id[:16]}... with {len(reader.columns)} columns")

damaged = [finding.file for finding in melcache.verify(reader.path) if finding.problem]
print("every byte is as written" if not damaged else f"damaged: {damaged}")

surfaces, names = reader.strings("mention.ids.surface"), reader.strings("entity.ids.name")
gold = reader.column("mention.ids.gold")  # (N,) row of the gold entity; no copy where it lies in one shard
for row in range(3):
    meant = names[gold[row]] if gold[row] >= 0 else "an entity that is not in the table"
    print(f"{surfaces[row]!r} means {meant!r}")

lists, place = reader.column("pair.candidates.candidates"), reader.column("pair.candidates.gold")
scores = reader.column("pair.candidates.lexical")  # (N, C) of strings
hits = (np.where(lists >= 0, scores, -1).argmax(1) == place)[place >= -1]
print(f"the most similar name is gold for {hits.mean():.1%} of {len(hits)} labeled mentions")
