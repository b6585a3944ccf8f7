"""The hash chain of the audit trail: what an entry's hash covers, and how a whole chain is checked.

An entry's hash covers the hash before it, its own columns, and two digests: of the actor and of the texts. Each digest
has a salt of its own. Erasing a user removes the name or the texts together with their salt: the digest stays, so that
the chain stays whole, and no guess of what was erased can be confirmed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from unpause.domain.audit import AuditAction, AuditEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

# Before the first entry.
NO_HASH: Final = "0" * 64
# Of an organization; how many more there are is counted.
_MAX_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Seal:
    """What sealing adds to an entry: its place in the organization's chain, the digests with their salts, the hash."""

    number: int
    hash: str
    actor_digest: str
    texts_digest: str
    actor_salt: str | None
    texts_salt: str | None


@dataclass(frozen=True, slots=True)
class Head:
    """The newest sealed entry of an organization, and the last one that retention deleted."""

    number: int = 0
    hash: str = NO_HASH
    purged_number: int = 0
    purged_hash: str = NO_HASH


def seal(entry: AuditEntry, before: Head | Seal, new_salt: Callable[[], str]) -> Seal:
    """Return the seal of the entry that follows."""
    actor_salt, texts_salt = new_salt(), new_salt()
    actor, texts = actor_digest(entry, actor_salt), texts_digest(entry, texts_salt)
    number = before.number + 1
    return Seal(number, _entry_hash(entry, number, before.hash, actor, texts), actor, texts, actor_salt, texts_salt)


def actor_digest(entry: AuditEntry, salt: str) -> str:
    """Return what stands for the entry's actor in its hash."""
    return _digest([salt, entry.actor])


def texts_digest(entry: AuditEntry, salt: str) -> str:
    """Return what stands in the entry's hash for its texts, which may tell something about people."""
    return _digest([salt, entry.address, entry.subject, entry.note, entry.details])


def _entry_hash(entry: AuditEntry, number: int, before: str, actor: str, texts: str) -> str:
    columns = (entry.id, entry.organization_id, entry.at.isoformat(), entry.action, entry.via)
    return _digest([before, number, *columns, entry.token_id, entry.run_id, entry.decision, actor, texts])


def _digest(values: list[Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_numbers(numbers: Sequence[int]) -> str:
    """Return numbers in rising order as text, such as ``3-5,9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _read_numbers(text: str, within: range) -> list[range]:
    """Return those of the numbers of such a text that are ``within``; raise ValueError for another text."""
    parts = (part.partition("-") for part in filter(None, text.split(",")))
    return [range(max(within.start, int(first)), min(within.stop, int(last or first) + 1)) for first, _, last in parts]


def _name_digest(number: int, name: object) -> int:
    return int(_digest([number, name]), 16)


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """Something that is wrong with a chain: at which number, and which entry has it, where one does."""

    kind: str
    number: int
    message: str
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """An earlier chain, which a downgrade of the schema dropped: its newest entry, and the entry that notes it."""

    number: object
    hash: object
    at: datetime
    noted_by: int

    @property
    def message(self) -> str:
        """What happened, for people."""
        return (
            f"the chain began anew after a downgrade of the schema at {self.at.isoformat()}, which entry"
            f" {self.noted_by} notes; the newest one of the chain before was {self.number}:{self.hash}"
        )


@dataclass(slots=True)
class ChainCheck:
    """Checks one organization's chain, entry by entry in the order of the numbers, with the same little memory.

    ``expected`` is a hash that somebody noted elsewhere, and that must be among those of the chain.
    """

    organization_id: int
    head: Head
    expected: str | None = None
    unsealed: int = 0
    entries: int = 0
    erased: int = 0
    findings: list[ChainFinding] = field(default_factory=list)
    hidden_findings: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    _number: int = -1
    _hash: str = NO_HASH
    _found_expected: bool = False
    _listed: int = 0
    # The sum of the digests of all erased entries' numbers and actors, less that of all which the trail lists.
    _pseudonyms: int = 0

    def __post_init__(self) -> None:
        """Begin after what retention deleted."""
        # SQLite stores any value in any column.
        if {type(self.head.number), type(self.head.purged_number)} != {int}:
            self._note("head", 0, "the head cannot be read")
            self.head = Head()
        self._number, self._hash = self.head.purged_number, self.head.purged_hash
        self._found_expected = self.expected in {None, self._hash, self.head.hash}

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.findings

    @property
    def has_expected(self) -> bool:
        """Whether the expected hash is among those of the chain."""
        return self._found_expected

    def add(self, entry: AuditEntry, sealed: Seal) -> None:
        """Check the next entry."""
        self.entries += 1
        if sealed.number > self._number + 1:
            self._find_missing(sealed.number - 1)
            self._find_changes(entry, sealed, None)
        elif sealed.number <= self._number:
            message = f"entry {sealed.number} is there, but the head says that entries up to {self._number} were purged"
            self._note("head", sealed.number, message, entry)
            self._find_changes(entry, sealed, None)
        else:
            self._find_changes(entry, sealed, self._hash)
        self._number, self._hash = sealed.number, sealed.hash
        self._found_expected |= sealed.hash == self.expected
        self._count_erased(entry, sealed)

    def add_unreadable(self, entry_id: int) -> None:
        """Note the next entry, with values that no server writes; its number is among those that are missing."""
        self.entries += 1
        self._note("changed", self._number + 1, f"the entry with id {entry_id} was changed and cannot be read")

    def finish(self) -> None:
        """Compare the end with the head, and what is erased with what the trail itself says was erased."""
        if self._number < self.head.number:
            self._find_missing(self.head.number)
        elif (self._number, self._hash) != (self.head.number, self.head.hash):
            message = f"the head says that the newest entry is {self.head.number} with hash {self.head.hash}"
            self._note("head", self._number, f"{message}, but that is {self._number} with {self._hash}")
        if self.erased != self._listed:
            message = f"{self.erased} actors or texts are erased; the trail's own entries account for {self._listed}"
            self._note("erased", self._number, message)
        elif self._pseudonyms:
            self._note("erased", self._number, "an erased actor has another name than the pseudonym in the trail")
        if not self._found_expected:
            of_before = any(one.hash == self.expected for one in self.dropped)
            which = "the newest entry before a downgrade of the schema, and no other," if of_before else "no entry"
            self._note("expected", self._number, f"{which} has the hash {self.expected}")

    def _find_missing(self, last: int) -> None:
        first = self._number + 1
        which = f"entry {first} is" if first == last else f"entries {first} to {last} are"
        self._note("removed", first, f"{which} missing")

    def _find_changes(self, entry: AuditEntry, sealed: Seal, before: str | None) -> None:
        """Note what does not fit; without a hash before, as behind a gap, the entry's own is taken on trust."""
        parts = [
            name
            for name, salt, digest, stored in (
                ("actor", sealed.actor_salt, actor_digest, sealed.actor_digest),
                ("texts", sealed.texts_salt, texts_digest, sealed.texts_digest),
            )
            if salt is not None and digest(entry, salt) != stored
        ]
        if parts:
            self._note("changed", sealed.number, f"the {' and '.join(parts)} of entry {sealed.number} changed", entry)
        digests = (sealed.actor_digest, sealed.texts_digest)
        if before is not None and _entry_hash(entry, sealed.number, before, *digests) != sealed.hash:
            self._note("changed", sealed.number, f"entry {sealed.number} was changed, inserted or moved", entry)

    def _count_erased(self, entry: AuditEntry, sealed: Seal) -> None:
        self.erased += (sealed.actor_salt is None) + (sealed.texts_salt is None)
        if sealed.actor_salt is None:
            self._pseudonyms += _name_digest(sealed.number, entry.actor)
        if sealed.texts_salt is None and entry.note is not None:
            self._note("changed", sealed.number, f"the texts of entry {sealed.number} changed", entry)
        details = entry.details if isinstance(entry.details, dict) else {}
        if entry.action == AuditAction.CHAIN_DROPPED:
            # What was erased before is sealed as it was left, and its numbers were those of the chain before.
            self._listed = self._pseudonyms = 0
            self.dropped.append(Dropped(details.get("number"), details.get("hash"), entry.at, sealed.number))
        if entry.action != AuditAction.USER_ERASED:
            return
        try:
            actors, texts = (
                _read_numbers(str(details.get(name, "")), range(self.head.purged_number + 1, self.head.number + 1))
                for name in ("actors", "texts")
            )
            self._listed += sum(map(len, actors)) + sum(map(len, texts))
            pseudonym = details.get("pseudonym")
            self._pseudonyms -= sum(_name_digest(number, pseudonym) for numbers in actors for number in numbers)
        except ValueError:
            self._note("changed", sealed.number, f"entry {sealed.number} does not say what was erased", entry)

    def _note(self, kind: str, number: int, message: str, entry: AuditEntry | None = None) -> None:
        if len(self.findings) >= _MAX_SHOWN:
            self.hidden_findings += 1
            return
        if entry is not None:
            message += f" ({entry.action} at {entry.at.isoformat()}, id {entry.id})"
        self.findings.append(ChainFinding(kind, number, message, None if entry is None else entry.id))

    def report(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "organization_id": self.organization_id,
            "whole": self.is_whole,
            "entries": self.entries,
            "newest": {"number": self.head.number, "hash": self.head.hash},
            "purged": {"number": self.head.purged_number, "hash": self.head.purged_hash},
            "erased": self.erased,
            "unsealed": self.unsealed,
            "dropped": [
                {"number": one.number, "hash": one.hash, "at": one.at.isoformat(), "entry": one.noted_by}
                for one in self.dropped
            ],
            "findings": [
                {"kind": one.kind, "number": one.number, "id": one.id, "message": one.message} for one in self.findings
            ],
            "more_findings": self.hidden_findings,
        }

    def lines(self) -> Iterator[str]:
        """Yield the result for people."""
        name = f"organization {self.organization_id}"
        head = f"newest {self.head.number}:{self.head.hash}"
        yield f"{name}: {self.entries} entries, {head}, {'whole' if self.is_whole else 'NOT whole'}"
        if self.unsealed:
            yield f"{name}: {self.unsealed} entries are not sealed yet; a server does so within seconds"
        yield from (f"{name}: {one.message}" for one in self.dropped)
        yield from (f"{name}: {one.message}" for one in self.findings)
        if self.hidden_findings:
            yield f"{name}: {self.hidden_findings} more findings"
