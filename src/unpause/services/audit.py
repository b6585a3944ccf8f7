"""The audit trail: lists its entries, and makes those of an agent's own decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.audit import AuditAction, AuditEntry
from unpause.store.audit import list_entries

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.agents.driver import OwnDecision
    from unpause.domain.paging import Page
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run, ToolCall
    from unpause.store.engine.database import Database


class AuditTrail:
    """What was done in an organization; entries outlive their runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_entries(self, principal: Principal, run_id: str | None, page: Page) -> tuple[list[AuditEntry], int]:
        """Return a page of it, newest first, and how many entries there are in all; of one run, or of all."""
        return await self._database.read(
            lambda connection: list_entries(connection, principal.organization_id, run_id, page)
        )


def decided_by_agent(run: Run, call: ToolCall, own: OwnDecision, at: datetime) -> AuditEntry:
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
