"""What the tables have in common: the metadata, kinds of columns, partial indexes."""

from __future__ import annotations

from sqlalchemy import Index, MetaData, String, TextClause, text

# Named constraints: a later migration can only alter what has a name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UUID = String(36)
NAME = String(255)
WORD = String(32)
OF_A_USER, OF_A_RUN = text("user_id IS NOT NULL"), text("run_key IS NOT NULL")


def partial(name: str, *columns: str, rows: TextClause) -> Index:
    """Return an index of these rows alone, on both databases: the migrations create it.

    PostgreSQL's own keyword would load its dialect for a server on SQLite, too.
    """
    return Index(name, *columns, sqlite_where=rows)
