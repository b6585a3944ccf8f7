"""Codegen's API."""
