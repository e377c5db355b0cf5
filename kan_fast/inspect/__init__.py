"""Edges of models as data and as pictures."""
