"""A small world in English: an endless corpus and five tasks about it."""
