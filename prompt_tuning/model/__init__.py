"""The linen T5: shape, layers, decoding, scoring."""
