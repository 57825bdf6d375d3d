"""Mixture assets: which checkpoints, which documents, which weights."""
