"""Compares what two OpenAPI documents say: ours has at least what the other one has, and that as it has it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.openapi.facts import ANY, Facts, Operation, Schema


def find_differences(ours: Facts, theirs: Facts) -> set[str]:
    """Return what ours lacks or says otherwise about the operations of theirs that it has; empty where it fits.

    More is fine: more statuses, more properties, more parameters, as long as no request has to send them. Where theirs
    says nothing of a type, every type fits; where it names no security, any may be named.
    """
    shared = sorted(set(ours.operations) & set(theirs.operations))
    found = {
        f"{name}: {difference}"
        for name in shared
        for difference in _of_operation(ours.operations[name], theirs.operations[name])
    }
    for name in sorted(set(ours.schemas) & set(theirs.schemas)):
        found |= {f"{name}: {difference}" for difference in _of_schema(ours.schemas[name], theirs.schemas[name])}
    return found


def _of_operation(ours: Operation, theirs: Operation) -> Iterator[str]:
    if ours.operation_id != theirs.operation_id:
        yield f"its id is {ours.operation_id}"
    if theirs.security and ours.security != theirs.security:
        yield f"its security is {ours.security}"
    known = {parameter.name: parameter for parameter in ours.parameters}
    for expected in theirs.parameters:
        has = known.pop(expected.name, None)
        if has is None:
            yield f"no parameter {expected.name}"
        elif not _fits(has.type, expected.type):
            yield f"{expected.name} is {has.type}"
        elif has != expected.model_copy(update={"type": has.type}):
            yield f"{expected.name} is {has!r}"
    yield from (f"{extra.name} is required" for extra in known.values() if extra.required)
    yield from _of_message("body", ours.body, theirs.body)
    for status, message in theirs.responses.items():
        if status not in ours.responses:
            yield f"no response {status}"
        else:
            yield from _of_message(status, ours.responses[status], message)


def _of_message(place: str, ours: dict[str, str], theirs: dict[str, str]) -> Iterator[str]:
    for media, expected in theirs.items():
        if media not in ours:
            yield f"{place} has no {media}"
        elif not _fits(ours[media], expected):
            yield f"{place} is {ours[media]}"


def _of_schema(ours: Schema, theirs: Schema) -> Iterator[str]:
    if ours.type != theirs.type:
        yield f"it is {ours.type}"
    for name, expected in theirs.properties.items():
        has = ours.properties.get(name)
        if has is None:
            yield f"no {name}"
        elif not _fits(has, expected):
            yield f"{name} is {has}"
        elif ours.defaults.get(name) != theirs.defaults.get(name):
            yield f"{name} is {ours.defaults.get(name)!r} where it is not sent"
    for name in sorted(set(ours.required) ^ set(theirs.required)):
        yield f"{name} is {'required' if name in ours.required else 'not required'}"


def _fits(ours: str, theirs: str) -> bool:
    return theirs in {ours, ANY}
