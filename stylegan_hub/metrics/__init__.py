"""Metrics that judge pictures and edits: one file for each."""
