"""Attributes of scenes and faces, for DWE: guessed by CLIP, or read from DeepFace's files."""
