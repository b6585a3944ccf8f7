"""Limits concurrent deliveries by organization and by server, so that silent servers delay nobody else."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

# Servers whose speed is remembered.
_MAX_REMEMBERED = 10_000


class Addressed(Protocol):
    """A message of an organization to a server."""

    @property
    def organization_id(self) -> int:
        """The organization whose slots it takes."""
        ...

    @property
    def server(self) -> str:
        """The receiver whose attempts are limited."""
        ...


A = TypeVar("A", bound=Addressed)


@dataclass(frozen=True, slots=True)
class SlotRules:
    """How many attempts may run at a time: in total, for one organization, and to one server.

    Servers that are not known to be fast get only a part of the first two (``unproven_part``), so that slots stay free
    however many silent servers somebody configures. A server whose last attempt took longer than ``fast_seconds`` gets
    one attempt at a time.
    """

    total: int = 128
    per_organization: int = 48
    per_server: int = 4
    unproven_part: float = 0.5
    fast_seconds: float = 2.0


@dataclass
class DeliverySlots:
    """The running attempts, and which servers are fast."""

    rules: SlotRules
    _servers: Counter[str] = field(default_factory=Counter)
    _organizations: Counter[int] = field(default_factory=Counter)
    # By organization; 0, which is no organization, stands for all.
    _unproven: Counter[int] = field(default_factory=Counter)
    _is_fast: OrderedDict[str, bool] = field(default_factory=OrderedDict)

    @property
    def room(self) -> int:
        """How many attempts may start."""
        return self.rules.total - self._organizations.total()

    @property
    def full_servers(self) -> list[str]:
        """The servers without a free slot."""
        return [server for server, count in self._servers.items() if count >= self._limit_of(server)]

    @property
    def full_organizations(self) -> list[int]:
        """The organizations without a free slot."""
        limit = self.rules.per_organization
        return [organization for organization, count in self._organizations.items() if count >= limit]

    def choose(self, due: Iterable[A]) -> list[A]:
        """Return what may start now: fast servers first, and the organizations in turn."""
        by_organization: Counter[int] = Counter(self._organizations)
        ranked = []
        for place, each in enumerate(due):
            by_organization[each.organization_id] += 1
            is_unproven = not self._is_fast.get(each.server, False)
            ranked.append((is_unproven, by_organization[each.organization_id], place, each))
        trial = DeliverySlots(self.rules, self._servers.copy(), self._organizations.copy(), self._unproven.copy())
        trial._is_fast = self._is_fast
        chosen = []
        for _, _, _, each in sorted(ranked, key=lambda item: item[:3]):
            if trial._has_room(each.organization_id, each.server):
                trial._add(each.organization_id, each.server)
                chosen.append(each)
        return chosen

    def begin(self, message: Addressed) -> DeliverySlot:
        """Take a slot for an attempt; ``DeliverySlot.end`` gives it back."""
        organization, server = message.organization_id, message.server
        return DeliverySlot(self, organization, server, is_unproven=self._add(organization, server))

    def _has_room(self, organization: int, server: str) -> bool:
        rules = self.rules
        if self.room <= 0 or self._organizations[organization] >= rules.per_organization:
            return False
        if self._servers[server] >= self._limit_of(server):
            return False
        if self._is_fast.get(server, False):
            return True
        return (
            self._unproven[0] < rules.unproven_part * rules.total
            and self._unproven[organization] < rules.unproven_part * rules.per_organization
        )

    def _limit_of(self, server: str) -> int:
        # An unknown server is probably fine.
        return self.rules.per_server if self._is_fast.get(server, True) else 1

    def _add(self, organization: int, server: str) -> bool:
        """Count an attempt; return whether its server is not known to be fast."""
        self._servers[server] += 1
        self._organizations[organization] += 1
        if self._is_fast.get(server, False):
            return False
        self._unproven.update((0, organization))
        return True

    def _remove(self, slot: DeliverySlot) -> None:
        _take(self._servers, slot.server)
        _take(self._organizations, slot.organization)
        if slot.is_unproven:
            _take(self._unproven, 0)
            _take(self._unproven, slot.organization)

    def _remember(self, server: str, *, is_fast: bool) -> None:
        self._is_fast[server] = is_fast
        self._is_fast.move_to_end(server)
        if len(self._is_fast) > _MAX_REMEMBERED:
            self._is_fast.popitem(last=False)


@dataclass(frozen=True, slots=True)
class DeliverySlot:
    """The slot of one running attempt."""

    slots: DeliverySlots
    organization: int
    server: str
    is_unproven: bool

    def end(self, seconds: float | None) -> None:
        """Give it back; ``seconds`` is how long the server took, None where nobody knows."""
        self.slots._remove(self)  # noqa: SLF001 - its own slots
        if seconds is not None:
            is_fast = seconds <= self.slots.rules.fast_seconds
            self.slots._remember(self.server, is_fast=is_fast)  # noqa: SLF001 - its own slots


def _take(counts: Counter[T], key: T) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
