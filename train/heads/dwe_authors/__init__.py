"""DWE as its released code computes it."""
