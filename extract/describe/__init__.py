"""`describe`: texts of Wikipedia's articles on a release's entities, into one file."""
