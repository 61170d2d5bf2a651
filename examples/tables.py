"""Tables of a cache in pandas, only of the columns that are named: `python examples/tables.py CACHE`."""

import sys

import melcache

reader = melcache.open(sys.argv[1])
mentions = melcache.to_pandas(reader, "mention", ["mention.ids.surface", "mention.ids.gold", "mention.ids.splits"])
print(mentions.head(3))
nil = (mentions["mention.ids.gold"] == -1).mean()
print(f"{nil:.1%} of the mentions mean no entity of the table")

pairs = melcache.to_pandas(reader, "pair", ["pair.candidates.candidates", "pair.candidates.lexical"])
best = pairs["pair.candidates.lexical"].groupby("mention").max()  # a row of pairs is a candidate of a mention
print(f"the best string score of a list is {best.mean():.2f} on average")
