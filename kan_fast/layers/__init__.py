"""Layers and networks as torch modules, and what they share."""
