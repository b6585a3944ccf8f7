"""Secrets that are planted in a server process: nobody finds them in its answers, its output or its database."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from sqlalchemy.engine import make_url

from tests.support.databases import Place
from tests.support.processes import DEADLINE, ServerProcess, unpause
from tests.support.tokens import first_token
from unpause.vault import new_key

AGENTS = Path(__file__).with_name("leaky_agents.py")
RUN = "/v1/organizations/1/agent/run"
WEBHOOK = "/v1/organizations/1/webhooks/agent-run"


def planted(name: str) -> str:
    """Return a canary: 32 or more characters that are nowhere else."""
    return f"canary{name}{secrets.token_hex(16)}"


@dataclass
class Planting:
    """What was planted, by what it is, and all that was answered."""

    encryption_key: str = field(default_factory=new_key)
    words: dict[str, str] = field(default_factory=dict)
    query: str = field(default_factory=lambda: planted("Query"))
    answers: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def plant(self, name: str) -> str:
        """Return a new canary."""
        self.words[name] = planted(name)
        return self.words[name]

    def hear(self, response: httpx.Response) -> httpx.Response:
        """Note all that was answered."""
        kept = self.shown if response.request.url.path == WEBHOOK and response.is_success else self.answers
        kept.append(f"{response.headers!r}\n{response.read().decode()}")
        return response

    def assert_not_in(self, place: str, text: str, *, query: bool = True) -> None:
        """Fail where a canary is in the text; one in the query of an address unless that may be shown there."""
        words = {**self.words, "encryption key": self.encryption_key}
        if query:
            words["query of an address"] = self.query
        found = [name for name, word in words.items() if word in text]
        assert not found, f"{found} in {place}"


@contextmanager
def planted_server(folder: Path, database_url: str, *, readable: bool) -> Iterator[tuple[ServerProcess, Planting]]:
    """Start a server with secrets in every setting that may hold one."""
    planting = Planting()
    url = make_url(database_url)
    if url.drivername.startswith("postgresql"):
        url = url.set(password=planting.plant("DatabasePassword"))
    environment = {
        "UNPAUSE_DATABASE_URL": url.render_as_string(hide_password=False),
        "UNPAUSE_DEV": "true" if readable else "false",
        "UNPAUSE_JWT_ALGORITHM": "HS256",
        "UNPAUSE_JWT_KEY": planting.plant("JwtKey"),
        "UNPAUSE_ENCRYPTION_KEY": planting.encryption_key,
        "UNPAUSE_WEBHOOK_PRIVATE_TARGETS": "true",
        "UNPAUSE_WEBHOOK_ATTEMPTS": "1",
        "UNPAUSE_RATE_LIMIT_CREATE": "1000/minute",
        "OPENAI_API_KEY": planting.plant("ProviderKey"),
    }
    with ServerProcess(folder, "--agents", str(AGENTS), environment=environment) as server:
        yield server, planting


def sign(key: str, **claims: object) -> str:
    return jwt.encode({"sub": "anna", "scopes": ["agents:run"], "exp": time.time() + 3600, **claims}, key, "HS256")


def enter(server: ServerProcess, planting: Planting, database_url: str) -> dict[str, str]:
    """Return an administrator's header, and plant every token that there is."""
    made = unpause(
        "tokens", "create", "--admin", "--user", "boss", "--database-url", database_url, folder=server.folder
    )
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    planting.words["made token"] = token.partition(".")[2]
    assert planting.words["made token"] not in made.stderr
    planting.words["hash's input"] = token
    return {"Authorization": f"Bearer {token}"}


def knock(client: httpx.Client, planting: Planting) -> None:
    """Ask with everything that may be wrong about an Authorization."""
    forged = sign(planted("Forger"), note=planting.plant("JwtNote"))
    signed = sign(planting.words["JwtKey"])
    for name, text in (("forged", forged), ("signed", signed)):
        planting.words[f"payload of a {name} JWT"] = text.split(".")[1]
        planting.words[f"signature of a {name} JWT"] = text.split(".")[2]
    guess = f"unp_{'A' * 8}.{planting.plant('GuessedToken')}"[:56]
    planting.words["GuessedToken"] = guess[13:]
    headers = [
        f"Bearer {guess}",
        f"Basic {planting.plant('Basic')}",
        f"Bearer {planting.plant('Opaque')}",
        planting.plant("WithoutScheme"),
        f"Bearer {forged}",
        f"Bearer {forged}.{forged}",
        f"Bearer {signed}",
        f"Bearer {signed}x",
    ]
    for path in ("/agents", f"{RUN}/1", "/nowhere", "/v1/nowhere"):
        for header in headers:
            planting.hear(client.get(path, headers={"Authorization": header}))
    planting.hear(client.post(RUN, headers={"Authorization": f"Bearer {signed}"}, json={"prompt": "crash"}))


def misspeak(client: httpx.Client, planting: Planting) -> None:
    """Send secrets in bodies that are refused, in every way in which they can be."""
    secret, password = planting.plant("RefusedSecret"), planting.plant("Userinfo")
    good = f"https://hooks.example/?token={planting.query}"
    hook = {"url": good, "secret": secret}
    bodies: list[tuple[str, Any]] = [
        (WEBHOOK, {"secret": secret}),
        (WEBHOOK, {"Secret": secret}),
        (WEBHOOK, {"url": 5, "secret": secret}),
        (WEBHOOK, {"url": [secret], "secret": secret}),
        (WEBHOOK, {"url": good, "secret": [secret]}),
        (WEBHOOK, {"url": good, "secret": f"whsec_{secret}!"}),
        (WEBHOOK, {"url": good.ljust(3000, "a"), "secret": secret}),
        (WEBHOOK, {"url": f"https://user:{password}@hooks.example/", "secret": secret}),
        (WEBHOOK, [secret]),
        (WEBHOOK, secret),
        (f"{WEBHOOK}/test", {"url": f"https://{password}@hooks.example/"}),
        (f"{WEBHOOK}/test", {"url": [good]}),
        (RUN, {"webhooks": [hook]}),
        (RUN, {"prompt": 5, "webhooks": [hook]}),
        (RUN, {"prompt": "crash", "webhooks": [{"secret": secret}]}),
        (RUN, {"prompt": "crash", "webhooks": {"secret": secret}}),
        (RUN, {"prompt": "crash", "webhooks": secret}),
        (RUN, {"prompt": "crash", "webhooks": [{"url": f"https://user:{password}@hooks.example/"}]}),
        (f"{RUN}/resume", {"agent_run_id": 1, "webhooks": [hook]}),
    ]
    for path, body in bodies:
        refused = planting.hear(client.post(path, json=body))
        assert 400 <= refused.status_code < 500, (path, body, refused.text)
    broken = f'{{"secret": "{secret}"'.encode()
    assert planting.hear(client.post(WEBHOOK, content=broken)).status_code == 422


def work(client: httpx.Client, planting: Planting) -> list[dict[str, Any]]:
    """Use everything that may hold a secret as it is meant to be used; return the runs."""
    hook = {"url": f"http://127.0.0.1:1/?token={planting.query}", "secret": planting.plant("WebhookSecret")}
    assert planting.hear(client.post(WEBHOOK, json=hook)).status_code == 200
    assert planting.hear(client.post(f"{WEBHOOK}/test", json={"url": hook["url"]})).json()["success"] is False
    own = {"url": hook["url"], "secret": planting.plant("SecretOfRun")}
    key = {"Idempotency-Key": planting.plant("IdempotencyKey")}
    for _ in range(2):
        made = planting.hear(client.post(RUN, json={"prompt": "crash", "webhooks": [own]}, headers=key))
        assert made.status_code == 200, made.text
    runs = []
    for message in ("crash", "retry", "refuse", "model"):
        form = {"message": message, "stream": "false", "session_id": message}
        runs.append(planting.hear(client.post("/agents/leaky/runs", data=form)).json())
        form["stream"] = "true"
        planting.hear(client.post("/agents/leaky/runs", data=form))
    return runs


def look(client: httpx.Client, planting: Planting, runs: list[dict[str, Any]]) -> None:
    """Read everything that can be read."""
    paths = ["/audit", "/v1/organizations/1/audit", "/approvals", "/sessions", "/config", "/agents", WEBHOOK]
    paths += ["/v1/organizations/1/agent/runs", "/v1/users/me", "/docs", "/openapi.json"]
    for number in range(1, 11):
        paths += [f"{RUN}/{number}", f"/v1/alpha/organizations/1/agent/run/{number}/logs"]
    for run in runs:
        path = f"/agents/leaky/runs/{run['run_id']}"
        paths += [path, f"{path}/events", f"/sessions/{run['session_id']}/runs"]
    for path in paths:
        assert planting.hear(client.get(path)).status_code < 500


def contents_of(database_url: str) -> Iterator[tuple[str, str, str]]:
    """Yield table, column and text of everything in the database."""
    for table, rows in Place(database_url).dump().items():
        for row in rows:
            for column, value in row.items():
                yield table, column, repr(value)


def wait_for_deliveries(server: ServerProcess) -> None:
    until = time.monotonic() + DEADLINE
    while "webhook delivery failed" not in server.output and time.monotonic() < until:
        time.sleep(0.05)
    assert "webhook delivery failed" in server.output


def assert_nowhere_in_database(planting: Planting, folder: Path, database_url: str) -> None:
    rows = list(contents_of(database_url))
    assert {table for table, _, _ in rows} >= {"runs", "events", "audit", "tokens", "webhook_targets"}
    for table, column, text in rows:
        planting.assert_not_in(f"{table}.{column}", text)
    # What SQLite has written anywhere, its write-ahead log and pages that are free again among it.
    for file in folder.glob("*.db*"):
        planting.assert_not_in(file.name, file.read_bytes().decode("latin-1"))


@pytest.mark.parametrize("readable", [False, True], ids=["json", "readable"])
def test_no_secret_is_answered_written_down_or_printed(tmp_path: Path, database_url: str, *, readable: bool) -> None:
    with planted_server(tmp_path, database_url, readable=readable) as (server, planting):
        headers = enter(server, planting, database_url)
        with server.client() as stranger:
            knock(stranger, planting)
        with server.client(headers=headers) as client:
            misspeak(client, planting)
            runs = work(client, planting)
            look(client, planting, runs)
        wait_for_deliveries(server)
        # As a crash would leave it: nothing is tidied up.
        server.kill()
        output = server.output
    told = {run["run_id"]: run["content"] for run in runs}
    assert sum("[hidden]" in str(content) for content in told.values()) == len(runs)
    for answer in planting.answers:
        planting.assert_not_in("an answer", answer)
    for answer in planting.shown:
        planting.assert_not_in("the webhook's own answer", answer, query=False)
    assert_nowhere_in_database(planting, tmp_path, database_url)
    # Where an agent's own code failed is on record, what it says of secrets is not; requests leave no traceback.
    assert "request failed" not in output
    planting.assert_not_in("the output", output)


def test_the_first_token_is_not_in_the_log_and_is_kept_as_a_hash(tmp_path: Path) -> None:
    environment = {"UNPAUSE_DEV": "false"}
    with ServerProcess(tmp_path, environment=environment) as server:
        token = first_token(server)
        with server.client(headers={"Authorization": f"Bearer {token}"}) as client:
            assert client.get("/agents").status_code == 200
            assert token not in client.get("/audit").text
        server.kill()
        server.start()
        server.kill()
        assert "unp_" not in server.output
        written = b"".join(file.read_bytes() for file in tmp_path.glob("unpause.db*"))
    secret = token.partition(".")[2]
    assert secret.encode() not in written
    assert token.partition(".")[0].removeprefix("unp_").encode() in written


def test_a_secret_is_refused_where_there_is_no_key_to_encrypt_it_with(tmp_path: Path) -> None:
    secret, url = planted("Unkept"), "http://127.0.0.1:1/"
    with ServerProcess(tmp_path, environment={"UNPAUSE_WEBHOOK_PRIVATE_TARGETS": "true"}) as server:
        with server.client() as client:
            bodies = {
                WEBHOOK: {"url": url, "secret": secret},
                RUN: {"prompt": "say hello", "webhooks": [{"url": url, "secret": secret}]},
            }
            for path, body in bodies.items():
                refused = client.post(path, json=body)
                assert refused.status_code == 400
                assert refused.json().keys() == {"message", "status_code"}
                assert "encryption" in refused.json()["message"]
                assert secret not in refused.text
            assert client.get(WEBHOOK).json() == {"url": None, "enabled": False, "has_secret": False}
        server.kill()
        assert server.rows("SELECT count(*) FROM runs") == [(0,)]
        written = b"".join(file.read_bytes() for file in tmp_path.glob("unpause.db*"))
    assert secret.encode() not in written
    assert secret not in server.output
