"""Link mentions that no dataset has with a finished run: `python examples/link_mentions.py RUN [MENTION] [PICTURE]`.

The run's cache must be where the run found it. What is loaded once links as often as it is asked.
"""

import sys

import melcache

run = sys.argv[1]
name = sys.argv[2] if len(sys.argv) > 2 else "marlow"
picture = sys.argv[3] if len(sys.argv) > 3 else None
try:
    linker = melcache.Linker.load(run, device="cpu")
    asked = [
        melcache.NewMention(f"everyone admires {name}", name, image=picture),
        melcache.NewMention(f"{name} and nobody else", name),
    ]
    links: list[melcache.Link] = linker.link(asked, top=3, nil_below=0.5)
except melcache.MelcacheError as error:  # one line: expected, found, where, what to do
    sys.exit(f"error: {error}")
for link in links:
    print(f"{link.surface} in {link.mention.text!r}{': nil' if link.nil else ''}")
    for found in link.candidates:
        print(f"  {found.probability:.2f}  {found.id}, {found.name}")
