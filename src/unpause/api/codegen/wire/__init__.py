"""Codegen's wire format: requests, responses and the translation of domain objects into them."""
