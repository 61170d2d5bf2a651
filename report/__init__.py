"""Finished runs as a folder of pages that opens from disk: a summary, and every test mention to look at.

It may import every stage; no stage imports it.
"""
