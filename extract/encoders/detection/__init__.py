"""Detectors of the role objects beside torchvision's: models of transformers, by name."""
