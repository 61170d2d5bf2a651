"""GHMFC, and the lighter form that DRIN compares with."""
