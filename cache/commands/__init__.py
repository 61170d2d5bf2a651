"""The commands of `melcache`, by what they are about; cache.cli joins them."""
