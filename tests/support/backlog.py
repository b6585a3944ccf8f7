"""Fills a database with runs that wait for a human, by SQL: far faster than by running them."""

from __future__ import annotations

from sqlalchemy import Connection, text

# Each in a session of its own, after one answer of the model that wants one call confirmed; a third of them with a time
# limit that is far away, and all a second apart. The run's key is the session's, too: the tables must be empty.
_STATEMENTS = (
    """
    INSERT INTO sessions (id, organization_id, session_id, agent_id, created_at, updated_at)
    SELECT n, 1, 'session-' || n, 'scripted', {now}, {now} FROM {series}
    """,
    """
    INSERT INTO runs (id, run_id, organization_id, session_key, session_id, agent_id, status, source_type, prompt,
                      pause_id, content, awaiting, fence, last_sequence, created_at, updated_at)
    SELECT n, 'run-' || n, 1, n, 'session-' || n, 'scripted', 'PAUSED', 'API', 'hello',
           'pause-' || n, 'May I?', 'Waiting for confirmation', 1, 3, {now}, {now} FROM {series}
    """,
    """
    INSERT INTO inputs (run_key, position, prompt, consumed, created_at)
    SELECT n, 0, 'hello', {true}, {now} FROM {series}
    """,
    """
    INSERT INTO messages (run_key, position, native, entries, created_at)
    SELECT n, 0, '{{"role": "user", "text": "hello"}}', '[]', {now} FROM {series}
    """,
    """
    INSERT INTO tool_calls (run_key, tool_call_id, turn, position, tool_name, tool_args, status, created_at)
    SELECT n, 'call-' || n, 0, 0, 'act', '{{"on": "hello"}}', 'proposed', {now} FROM {series}
    """,
    """
    INSERT INTO requirements (id, run_key, position, pause_id, tool_call_id, call_id, tool_name, tool_args, kind,
                              fields, editable, on_expire, organization_id, created_at, updated_at, expires_at, due_at)
    SELECT 'requirement-' || n, n, 0, 'pause-' || n, 'call-' || n, 'call-' || n, 'act', '{{"on": "hello"}}',
           'confirmation', '[]', '[]', 'reject', 1, {now}, {now}, CASE WHEN n % 3 = 0 THEN {far} END,
           CASE WHEN n % 3 = 0 THEN {far} END FROM {series}
    """,
    """
    INSERT INTO events (run_key, sequence, type, payload, created_at)
    SELECT n, s, CASE s WHEN 1 THEN 'run_started' WHEN 2 THEN 'content_completed' ELSE 'run_paused' END, '{{}}', {now}
    FROM {series} CROSS JOIN (SELECT 1 AS s UNION ALL SELECT 2 UNION ALL SELECT 3) AS steps
    """,
)
_WORDS = {
    "postgresql": {
        "now": "TIMESTAMPTZ '2026-01-01 00:00:00+00' + n * INTERVAL '1 second'",
        "far": "TIMESTAMPTZ '2126-01-01 00:00:00+00'",
        "true": "true",
        "series": "generate_series({first}, {last}) AS n",
    },
    "sqlite": {
        "now": "strftime('%Y-%m-%d %H:%M:%S', '2026-01-01', '+' || n || ' seconds') || '.000000'",
        "far": "'2126-01-01 00:00:00.000000'",
        "true": "1",
        "series": "(WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n < {last})"
        " SELECT n FROM c) AS numbers",
    },
}


def add_backlog(connection: Connection, count: int, first: int = 1) -> None:
    """Add paused runs with the keys from ``first`` on; those made later get higher ones."""
    words = dict(_WORDS[connection.dialect.name])
    words["series"] = words["series"].format(first=first, last=first + count - 1)
    for statement in _STATEMENTS:
        connection.execute(text(statement.format(**words).replace(":", "\\:")))
    if connection.dialect.name == "postgresql":
        for table in ("sessions", "runs"):
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {first + count - 1})"))
