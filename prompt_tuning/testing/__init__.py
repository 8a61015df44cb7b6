"""Public fakes and helpers for tests."""
