"""Metrics: (targets, predictions) -> figures by name; no JAX, no TensorFlow."""
