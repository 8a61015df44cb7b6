"""Experiments of many runs: what they are, how they are run, what came out."""
