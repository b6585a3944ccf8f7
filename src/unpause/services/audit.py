"""The audit trail: lists its entries, and makes those of what no person did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.audit import AuditAction, AuditEntry
from unpause.domain.storable import refuse_unstorable
from unpause.store.audit import list_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from unpause.agents.driver import OwnDecision
    from unpause.domain.audit import AuditFilter
    from unpause.domain.paging import Page
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run, ToolCall
    from unpause.store.engine.database import Database


class AuditTrail:
    """What was done in an organization; entries outlive their runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_entries(self, principal: Principal, chosen: AuditFilter, page: Page) -> tuple[list[AuditEntry], int]:
        """Return a page of the entries that the filter chooses, newest first, and how many there are in all."""
        refuse_unstorable(chosen)
        return await self._database.read(
            lambda connection: list_entries(connection, principal.organization_id, chosen, page)
        )


def entry_for_own_decision(run: Run, call: ToolCall, own: OwnDecision, at: datetime) -> AuditEntry:
    """Return the entry for a decision of an agent's own handler: in the name that the handler gives, or the agent's."""
    return AuditEntry(
        organization_id=run.organization_id,
        at=at,
        action=AuditAction.ANSWERED,
        via="agent",
        actor=own.by or run.agent_id,
        run_id=run.run_id,
        subject=call.tool_call_id,
        decision=own.decision.value,
        note=own.note,
        details={"tool_name": call.tool_name, "tool_call_id": call.tool_call_id},
    )


def entries_for_reopened(
    run: Run, requirements: Iterable[Requirement], calls: Mapping[str, ToolCall]
) -> list[AuditEntry]:
    """Return the entries for calls that were approved, could not run as approved, and wait for another decision.

    One in doubt has none: it did start by its approval.
    """
    return [
        AuditEntry(
            organization_id=run.organization_id,
            at=requirement.created_at,
            action=AuditAction.REOPENED,
            via="server",
            run_id=run.run_id,
            subject=requirement.id,
            note=requirement.message,
            details={"tool_name": requirement.tool_name, "tool_call_id": requirement.call_id},
        )
        for requirement in requirements
        if requirement.message is not None
        and (call := calls[requirement.call_id]).requirement is not None
        and not call.in_doubt
    ]
