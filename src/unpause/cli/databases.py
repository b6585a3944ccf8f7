"""The database of a command that works beside servers."""

from __future__ import annotations

from unpause.cli.options import database_url_or_default
from unpause.errors import InvalidSetting
from unpause.store.engine.database import database_file


def existing_database(database_url: str | None) -> str:
    """Return the URL of the option or the settings; raise InvalidSetting for a file that does not exist.

    Opening it would create it, empty, and a server would take that for a database of its own.
    """
    url = database_url_or_default(database_url)
    file = database_file(url)
    if file is not None and not file.exists():
        raise InvalidSetting(f"There is no database {file}: start a server, or run `unpause db upgrade`")
    return url
