"""Fills a database with runs of an organization of which nearly all have ended long ago, by SQL."""

from __future__ import annotations

from sqlalchemy import Connection, text

from tests.support.backlog import add_backlog

# Of a hundred runs one still waits for a human; of ten one failed. Ten runs a session, seven agents, twenty users.
_CHANGES = (
    """
    UPDATE runs SET session_key = 1 + id % (SELECT max(id) / 10 FROM sessions), agent_id = 'agent-' || id % 7,
        user_id = 'user-' || id % 20
    """,
    "UPDATE runs SET session_id = 'session-' || session_key",
    "UPDATE sessions SET user_id = 'user-' || id % 20",
    """
    UPDATE runs SET status = CASE WHEN id % 10 = 1 THEN 'ERROR' ELSE 'COMPLETED' END, ended_at = updated_at
    WHERE id % 100 <> 0
    """,
    """
    UPDATE requirements SET status = 'decided', decision = 'confirmed', decided_at = created_at, due_at = NULL,
        decided_by = 'user-' || run_key % 20
    WHERE run_key % 100 <> 0
    """,
    "UPDATE requirements SET tool_name = 'act-' || run_key % 10",
    """
    INSERT INTO approvals (id, organization_id, run_key, status, approval_type, pause_type, tool_name, tool_args,
                           agent_id, user_id, created_at, updated_at)
    SELECT 'requirement-' || id, 1, id, CASE WHEN id % 100 = 0 THEN 'pending' ELSE 'approved' END, 'required',
        'confirmation', 'act', '{}', agent_id, user_id, created_at, created_at
    FROM runs
    """,
    """
    INSERT INTO audit (organization_id, at, action, actor, via, run_id, subject, number)
    SELECT 1, created_at, 'run.created', user_id, 'api', run_id, run_id, id FROM runs
    """,
    """
    INSERT INTO audit_heads (organization_id, number, hash, purged_number, purged_hash)
    SELECT 1, max(id), 'h', 0, 'h' FROM runs
    """,
    """
    INSERT INTO webhook_deliveries (id, organization_id, url, payload, attempts, delivered_at, created_at, run_id)
    SELECT 'delivery-' || id, 1, 'https://example.invalid', '{}', 1, created_at, created_at, run_id FROM runs
    """,
    """
    INSERT INTO notification_channels (id, organization_id, kind, url, events, created_at)
    SELECT 1, 1, 'slack', 'url', '[]', created_at FROM runs WHERE id = 1
    """,
    """
    INSERT INTO notifications (id, organization_id, channel_id, event, subject, run_id, agent_id, attempts,
                               delivered_at, created_at)
    SELECT 'notification-' || id, 1, 1, 'failed', run_id, run_id, agent_id, 1, created_at, created_at FROM runs
    """,
    """
    INSERT INTO grants (id, organization_id, agent_id, tool_name, scope, "match", run_key, granter, created_at)
    SELECT 'requirement-' || id, 1, agent_id, 'act', 'run', 'tool', id, user_id, created_at FROM runs
    """,
)


def add_history(connection: Connection, count: int) -> None:
    """Add runs with what belongs to each of them: requirement, approval, grant, messages to others, audit entry."""
    add_backlog(connection, count)
    for statement in _CHANGES:
        connection.execute(text(statement))
