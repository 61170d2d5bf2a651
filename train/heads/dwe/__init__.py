"""DWE, from its paper, and what both heads of DWE share."""
