"""Batch client for the archive of the Murchison Widefield Array (MWA ASVO)."""

__version__ = "0.1.0"
