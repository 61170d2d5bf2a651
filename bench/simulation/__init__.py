"""How well extraction is divided among 1 to 512 workers: the claim protocol as discrete events, with measured costs."""
