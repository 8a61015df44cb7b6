"""Prompts pre-trained on running text (Gu et al., 2022, sec. 3)."""
