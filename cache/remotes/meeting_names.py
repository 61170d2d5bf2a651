"""Names of the small files at a remote by which machines make a cache together (cache.sharing.board)."""

import re

MEETING = "meeting"  # the folder
CLAIM, RECEIPT, PROBE = "claim", "json", "probe"
# the meeting, a task, and what the file is
NAMED = re.compile(rf"{MEETING}/([0-9a-f]{{16}})-([a-z0-9_.-]+)\.({CLAIM}|{RECEIPT}|{PROBE})")
