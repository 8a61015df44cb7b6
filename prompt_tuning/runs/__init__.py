"""What the mains run: each a function that a recipe configures."""
