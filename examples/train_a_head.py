"""Train DRIN on two edges and on one, and read what each reached: `python examples/train_a_head.py CACHE`.

Each run has a folder with results.json and weights; the same call again returns what is there.
"""

import sys
from pathlib import Path

import melcache

cache, runs = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "runs")
for name, edges in (("both", ("text_to_text", "image_to_image")), ("text", ("text_to_text",))):
    config = melcache.TrainConfig(dataset=cache, run=runs / f"example-{name}", epochs=2, seeds=(0, 1), device="cpu")
    try:
        results = melcache.train(config, melcache.DrinConfig(width=8, edges=edges))
    except melcache.MelcacheError as error:  # one line: expected, found, where, what to do
        sys.exit(f"error: {error}")
    top1 = results["mean"]["test"]["top1"]  # a fraction; results.json holds the same
    print(f"edges of {name}: Top-1 {top1:.1%}, the mean of {len(results['seeds'])} seeds")
