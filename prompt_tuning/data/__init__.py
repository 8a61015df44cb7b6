"""Turns text into batches of token ids, with slots of soft prompts in place.

Everything here but `seqio_input` and `seqio_evaluation` is NumPy alone and
imports neither TensorFlow nor seqio.
"""
