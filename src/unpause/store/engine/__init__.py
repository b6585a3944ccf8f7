"""Knows the two databases; nothing outside of it does."""
