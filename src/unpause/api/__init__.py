"""The HTTP side: the only importer of FastAPI."""
