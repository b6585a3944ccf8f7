"""``unpause notify``: the channels of notifications, for operators. Running servers use them at once."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unpause.auth.tokens import check_name, check_scopes
from unpause.cli.databases import existing_database
from unpause.cli.exits import reason_of, tell
from unpause.cli.numbers import Whole
from unpause.cli.options import DatabaseUrl, Organization
from unpause.clock import SystemClock
from unpause.domain.notifications import ALL_EVENTS, ChannelEvent
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.errors import InvalidSetting, UnpauseError
from unpause.factories import build_channel_sender, load_vault
from unpause.notifications.service import ChannelService, NewChannel
from unpause.settings_sources import read_settings
from unpause.store.engine.database import Database
from unpause.store.engine.schema import check_database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from unpause.domain.notifications import Channel

    T = TypeVar("T")

app = App(name="notify")
_Id = Annotated[Whole, Parameter(help="Id of the channel, as `list` shows it.")]
_AT_ONCE = 200


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class _ChannelOptions:
    user: Annotated[
        str | None, Parameter(metavar="NAME", help="User of the channel; by default it is the organization's.")
    ] = None
    scopes: Annotated[str, Parameter(metavar="LIST", help="What the user may do, comma-separated.")] = ",".join(
        DEFAULT_SCOPES
    )
    admin: Annotated[bool, Parameter(negative=(), help=f"The user may do everything: {ADMIN}.")] = False
    name: Annotated[str | None, Parameter(metavar="NAME", help="Name to recognize it by.")] = None
    events: Annotated[str, Parameter(metavar="LIST", help="What it tells about, comma-separated.")] = ",".join(
        ALL_EVENTS
    )
    org: Organization = DEFAULT_ORGANIZATION

    def principal(self) -> Principal:
        """Return the user, or the operator."""
        if self.user is None:
            return _operator(self.org)
        check_name(self.user)
        scopes = frozenset((ADMIN,) if self.admin else _words(self.scopes))
        check_scopes(scopes)
        return replace(_operator(self.org), user_id=self.user, subject=self.user, scopes=scopes)

    def channel(self, url: str) -> NewChannel:
        """Return the options as the domain's object."""
        unknown = [word for word in _words(self.events) if word not in ALL_EVENTS]
        if unknown:
            raise InvalidSetting(f"Unknown event: {', '.join(unknown)} (known: {', '.join(ALL_EVENTS)})")
        events = tuple(ChannelEvent(word) for word in _words(self.events))
        return NewChannel(url=url, events=events, name=self.name, is_own=self.user is not None)


@app.command
def add(
    url: Annotated[
        str, Parameter(help="URL of apprise, such as ntfys://host/topic; - reads it from standard input.")
    ] = "-",
    /,
    *,
    options: _ChannelOptions = _ChannelOptions(),
    database_url: DatabaseUrl = None,
) -> None:
    """Add a channel and print its id. The URL is a secret: better from standard input than as an argument."""
    text = sys.stdin.readline().strip() if url == "-" else url
    new = options.channel(text)
    channel = _run(database_url, lambda service: service.add_channel(options.principal(), new))
    _print(f"Channel {channel.id} is added: {channel.kind}")


@app.command(name="list")
def show_channels(*, org: Organization = DEFAULT_ORGANIZATION, database_url: DatabaseUrl = None) -> None:
    """List the channels of an organization, without their URLs."""

    async def collect(service: ChannelService) -> list[Channel]:
        found: list[Channel] = []
        while page := await service.list_channels(_operator(org), found[-1].id if found else 0, _AT_ONCE):
            found += page
        return found

    _print(*[_line(channel) for channel in _run(database_url, collect)] or ["There are no channels"])


@app.command
def remove(channel_id: _Id, /, *, org: Organization = DEFAULT_ORGANIZATION, database_url: DatabaseUrl = None) -> None:
    """Remove a channel, with what was still to be sent to it."""
    _run(database_url, lambda service: service.remove_channel(_operator(org), channel_id))
    _print(f"Channel {channel_id} is removed")


@app.command(name="test")
def send_test(
    channel_id: _Id, /, *, org: Organization = DEFAULT_ORGANIZATION, database_url: DatabaseUrl = None
) -> None:
    """Send a test message now; exit with 1 where that fails."""
    sent = _run(database_url, lambda service: service.send_test(_operator(org), channel_id))
    if not sent.success:
        tell(f"unpause: the test message was not delivered: {sent.error}\n")
        sys.exit(1)
    _print("The test message was delivered")


def _run(database_url: str | None, use: Callable[[ChannelService], Awaitable[T]]) -> T:
    """Return what a use of the service returns; raise InvalidSetting for any refusal."""
    url = existing_database(database_url)
    check_database(url)
    settings = read_settings()
    vault = load_vault(settings)

    async def call() -> T:
        async with Database(url).opened() as database:
            service = ChannelService(database, SystemClock(), vault, build_channel_sender(settings, vault))
            return await use(service)

    try:
        return asyncio.run(call())
    except UnpauseError as error:
        raise InvalidSetting(reason_of(error)) from None


def _operator(organization: int) -> Principal:
    return Principal(organization, "command line", via="cli", is_isolated=True)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _line(channel: Channel) -> str:
    sent = f"{channel.last_sent_at:%Y-%m-%d %H:%M}" if channel.last_sent_at else "never used"
    words = [str(channel.id), channel.kind, channel.user_id or "organization", channel.name or "-", sent]
    return "\t".join([*words, ",".join(channel.events), channel.last_error or ""]).rstrip()
