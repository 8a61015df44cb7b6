"""Everything is declared in pyproject.toml, dependencies included."""

import setuptools

setuptools.setup()
