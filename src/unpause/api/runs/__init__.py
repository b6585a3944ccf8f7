"""Runs for people: search, one run with its timeline, and an overview."""
