"""Shares the attempts under way among organizations and servers, so that nobody waits for others' silence."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpause.domain.webhooks import Delivery
    from unpause.store.deliveries import Due

T = TypeVar("T")

# Of more servers nothing is remembered than how many attempts are under way.
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class ShareRules:
    """How many attempts may be under way: in all, of one organization, and to one server.

    Of the first two only a part goes to servers that were not seen to answer soon: ``unproven`` of 1. So what others
    are to hear has room, however many silent servers somebody names. A server whose last attempt got no answer within
    ``soon_seconds`` gets one attempt at a time.
    """

    at_once: int = 128
    to_one_organization: int = 48
    to_one_server: int = 4
    unproven: float = 0.5
    soon_seconds: float = 2.0


@dataclass
class Shares:
    """What is under way, and which servers answer."""

    rules: ShareRules
    _servers: Counter[str] = field(default_factory=Counter)
    _organizations: Counter[int] = field(default_factory=Counter)
    # By organization; under 0, which none has, of all.
    _unproven: Counter[int] = field(default_factory=Counter)
    _answers_soon: OrderedDict[str, bool] = field(default_factory=OrderedDict)

    @property
    def room(self) -> int:
        """How many attempts may begin."""
        return self.rules.at_once - self._organizations.total()

    @property
    def full_servers(self) -> list[str]:
        """The servers that get no further attempt now."""
        return [server for server, count in self._servers.items() if count >= self._limit_of(server)]

    @property
    def full_organizations(self) -> list[int]:
        """The organizations that get no further attempt now."""
        most = self.rules.to_one_organization
        return [organization for organization, count in self._organizations.items() if count >= most]

    def choose(self, due: Iterable[Due]) -> list[Due]:
        """Return what may begin now: of each organization in turn, servers that answer before those that may not."""
        by_organization: Counter[int] = Counter(self._organizations)
        ranked = []
        for place, each in enumerate(due):
            by_organization[each.organization_id] += 1
            is_unproven = not self._answers_soon.get(each.address.server, False)
            ranked.append((is_unproven, by_organization[each.organization_id], place, each))
        trial = Shares(self.rules, self._servers.copy(), self._organizations.copy(), self._unproven.copy())
        trial._answers_soon = self._answers_soon
        chosen = []
        for _, _, _, each in sorted(ranked, key=lambda item: item[:3]):
            if trial._has_room(each.organization_id, each.address.server):
                trial._add(each.organization_id, each.address.server)
                chosen.append(each)
        return chosen

    def begin(self, delivery: Delivery) -> Share:
        """Count an attempt; ``Share.end`` comes when it is over."""
        organization, server = delivery.organization_id, delivery.address.server
        return Share(self, organization, server, is_unproven=self._add(organization, server))

    def _has_room(self, organization: int, server: str) -> bool:
        rules = self.rules
        if self.room <= 0 or self._organizations[organization] >= rules.to_one_organization:
            return False
        if self._servers[server] >= self._limit_of(server):
            return False
        if self._answers_soon.get(server, False):
            return True
        return (
            self._unproven[0] < rules.unproven * rules.at_once
            and self._unproven[organization] < rules.unproven * rules.to_one_organization
        )

    def _limit_of(self, server: str) -> int:
        # One that nobody knows may well be fine.
        return self.rules.to_one_server if self._answers_soon.get(server, True) else 1

    def _add(self, organization: int, server: str) -> bool:
        """Count an attempt; return whether it is one to a server that was not seen to answer."""
        self._servers[server] += 1
        self._organizations[organization] += 1
        if self._answers_soon.get(server, False):
            return False
        self._unproven.update((0, organization))
        return True

    def _remove(self, share: Share) -> None:
        _take(self._servers, share.server)
        _take(self._organizations, share.organization)
        if share.is_unproven:
            _take(self._unproven, 0)
            _take(self._unproven, share.organization)

    def _note(self, server: str, *, answers_soon: bool) -> None:
        self._answers_soon[server] = answers_soon
        self._answers_soon.move_to_end(server)
        if len(self._answers_soon) > _MOST_REMEMBERED:
            self._answers_soon.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Share:
    """One attempt that is under way."""

    shares: Shares
    organization: int
    server: str
    is_unproven: bool

    def end(self, seconds: float | None) -> None:
        """Give it back; ``seconds`` is how long the server took, None where nobody knows."""
        self.shares._remove(self)  # noqa: SLF001 - its own shares
        if seconds is not None:
            soon = seconds <= self.shares.rules.soon_seconds
            self.shares._note(self.server, answers_soon=soon)  # noqa: SLF001 - its own shares


def _take(counts: Counter[T], key: T) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
