"""Encoders of the role image by name: any model of timm."""
