"""The database of a command that works beside servers, and the name of its operator."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from unpause.cli.exits import reason_of
from unpause.cli.options import database_url_or_default
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.errors import InvalidSetting, Startup, UnpauseError
from unpause.store.engine.database import database_file
from unpause.store.engine.dialects import read_now
from unpause.store.engine.schema import check_schema, plain_connection
from unpause.store.users import find_organization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpause.store.engine.database import Connection


def existing_database(database_url: str | None) -> str:
    """Return the URL of the option or the settings; raise InvalidSetting for a file that does not exist.

    Opening it would create it, empty, and a server would take that for a database of its own.
    """
    url = database_url_or_default(database_url)
    file = database_file(url)
    if file is not None and not file.exists():
        raise InvalidSetting(f"There is no database {file}: start a server, or run `unpause db upgrade`")
    return url


def check_organization(connection: Connection, organization_id: int | None) -> None:
    """Raise InvalidSetting where an organization is named that the database does not have."""
    if organization_id is not None and find_organization(connection, organization_id) is None:
        raise InvalidSetting(f"There is no organization {organization_id}")


@contextmanager
def open_database(database_url: str | None) -> Iterator[tuple[Connection, datetime]]:
    """Open a transaction, and read the clock that servers compare with; raise InvalidSetting for any refusal."""
    url = existing_database(database_url)
    try:
        with plain_connection(url) as connection, connection.begin():
            check_schema(connection)
            yield connection, read_now(connection, datetime.now(UTC))
    except Startup:
        raise
    except UnpauseError as error:
        raise InvalidSetting(reason_of(error)) from None


def command_line(organization: int = DEFAULT_ORGANIZATION) -> Principal:
    """Return the operator, as the audit trail names them."""
    return Principal(organization, "command line", via="cli")
