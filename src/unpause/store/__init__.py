"""Everything that is kept: the only importer of SQLAlchemy.

Functions here take a plain SQLAlchemy connection and run inside the caller's transaction; ``database.py`` decides on
which thread and in which transaction that is.
"""
