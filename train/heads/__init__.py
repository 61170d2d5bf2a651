"""The heads, a folder each: config.py holds its options, model.py the network, entry.py what else is known of it."""
