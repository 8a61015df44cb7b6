"""Predictions of a model on batches, and tables of what came out."""
