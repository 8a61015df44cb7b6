"""Measures this library against other systems; see docs/performance.md."""
