"""Soft prompts: modules, starts, layouts, files."""
