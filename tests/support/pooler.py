"""A PgBouncer in transaction mode before a PostgreSQL server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.cluster import wait_until
from tests.support.standby import Instance, postgres_folder


@contextmanager
def pooler(postgres: Instance) -> Iterator[str]:
    """Yield the URL of a PgBouncer in transaction mode before the server."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    with postgres_folder() as folder:
        other = Instance(folder, "none")
        (folder / "users").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {other.port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
            "default_pool_size = 8\nmax_client_conn = 200\nignore_startup_parameters = extra_float_digits\n"
            f"auth_file = {folder}/users\n"
        )
        (folder / "pgbouncer.ini").write_text(
            (folder / "pgbouncer.ini").read_text().replace("* = ", "postgres = user=postgres ")
        )
        postgres.own(folder)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, user=postgres.owner
            )
        try:
            url = other.url()
            wait_until(lambda: _connects(other), f"it listens: {(folder / 'log').read_text()}", 20)
            yield url
        finally:
            process.kill()
            process.wait()


def _connects(instance: Instance) -> bool:
    try:
        return bool(instance.execute("SELECT 1"))
    except Exception:  # noqa: BLE001 - not yet
        return False
