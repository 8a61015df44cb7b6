"""Turns text into batches of token ids, with slots of soft prompts in place.

Everything here but the modules named `seqio_...` is NumPy alone and imports
neither TensorFlow nor seqio.
"""
