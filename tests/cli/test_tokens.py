"""`unpause tokens` and `unpause organizations`, and what a real server makes of what they print."""

from __future__ import annotations

import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.here import Here
from tests.support.databases import PostgresServer
from tests.support.processes import AGENTS_FILE, DEADLINE, Finished, ServerProcess, unpause
from tests.support.serving import settings_for
from tests.support.tokens import first_token

TOKEN = re.compile(r"unp_([A-Za-z0-9]{8})\.[A-Za-z0-9_-]{43}")

WRONG = [
    (["tokens", "create", "--org", "99"], "There is no organization 99"),
    (["tokens", "create", "--org", "999999999999999999"], "There is no organization 999999999999999999"),
    (["tokens", "list", "--org", "99"], "There is no organization 99"),
    (["tokens", "create", "--scopes", " , "], "--scopes is empty"),
    (["tokens", "create", "--user", " "], "A name must have 1 to 255 printable characters"),
    (["runs", "export", "--org", "99"], "There is no organization 99"),
    (["tokens", "create", "--scopes", "agents:run,agents:fly"], "Unknown scope: agents:fly"),
    (["tokens", "create", "--scopes", "admin"], "Unknown scope: admin"),
    (["tokens", "create", "--user", ""], "A name must have 1 to 255 printable characters"),
    (["tokens", "create", "--user", "a\nb"], "A name must have 1 to 255 printable characters"),
    (["tokens", "create", "--name", "\udcff"], "A name must have 1 to 255 printable characters"),
    (["tokens", "revoke", "nothing"], "There is no token with that id"),
    (["tokens", "revoke", f"unp_AAAAAAAA.{'canary' * 7}x"], "There is no token with that id"),
    (["tokens", "rotate", "\udcff"], "There is no token with that id"),
    (["organizations", "create", ""], "A name must have 1 to 255 printable characters"),
    (["organizations", "create", "\udcff"], "A name must have 1 to 255 printable characters"),
]
MISUSED = [
    (["tokens", "revoke"], 'Command "tokens revoke" parameter TOKEN_ID requires an argument.'),
    *(
        (["tokens", "list", "--org", text], f"Invalid value for --org: '{text}' is not a whole number of")
        for text in ("one", "1.0", "1.5", "1e3", "", "٣", "9" * 30)
    ),
    (["notify", "remove", "1.5"], "'1.5' is not a whole number of"),
    *(
        (["tokens", "create", "--expires", text], f"'{text}' is not a duration such as 90d, 12h or 30m")
        for text in ("", "90", "d", "0d", "1.5h", "1w", "9999999d")
    ),
    (["tokens", "rotate", "x", "--keep-old", "soon"], "'soon' is not a duration such as"),
]


@pytest.fixture
def with_database(here: Here) -> Here:
    settings_for(here.folder)
    return here


def created(done: Finished) -> tuple[str, str]:
    """Return id and text of the token that a command printed, alone on standard output."""
    assert done.returncode == 0, done
    [text] = done.stdout.splitlines()
    found = TOKEN.fullmatch(text)
    assert found is not None
    assert text not in done.stderr
    assert done.stderr.startswith(f"Token {found[1]} for ")
    return found[1], text


def listed(here: Here, *options: str) -> dict[str, list[str]]:
    """Return the columns of each token that is listed, by its id."""
    done = here.run("tokens", "list", *options)
    assert (done.returncode, done.stderr) == (0, "")
    return {line.partition("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}


def test_a_token_is_shown_once_and_listed_without_its_secret(with_database: Here) -> None:
    assert with_database.run("tokens", "list").stdout == "There are no tokens\n"
    done = with_database.run(
        *("tokens", "create", "--user", "alice", "--name", "laptop", "--expires", "90d"),
        *("--scopes", "agents:ops:run, finance:approve,agents:ops:run"),
    )
    public, text = created(done)
    assert "for user alice, of organization 1, until " in done.stderr
    assert listed(with_database) == {
        public: ["valid", "alice", "laptop", "never used", "agents:ops:run,finance:approve"]
    }
    secret = text.partition(".")[2]
    assert all(secret.encode() not in file.read_bytes() for file in with_database.folder.iterdir())


def test_without_options_a_token_is_a_programs_with_the_usual_scopes(with_database: Here) -> None:
    done = with_database.run("tokens", "create")
    public, _ = created(done)
    assert "for the user that each request names, of organization 1. It is shown only now" in done.stderr
    usual = "agents:read,agents:run,approvals:read,sessions:read,sessions:write,sessions:delete,system:read"
    assert listed(with_database) == {public: ["valid", "-", "-", "never used", usual]}


def test_tokens_are_revoked_by_their_id_or_by_the_whole_of_them(with_database: Here) -> None:
    by_id, by_text = created(with_database.run("tokens", "create")), created(with_database.run("tokens", "create"))
    for public, provided in ((by_id[0], by_id[0]), by_text):
        done = with_database.run("tokens", "revoke", provided)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"Token {public} is revoked; running servers refuse it within 2 seconds\n"
        assert listed(with_database)[public][0] == "revoked"
        assert with_database.run("tokens", "revoke", provided) == done, "and again is no mistake"


def test_a_token_is_rotated_at_once_or_with_a_time_for_both(with_database: Here) -> None:
    first, _ = created(with_database.run("tokens", "create", "--user", "alice", "--admin"))
    second, _ = created(with_database.run("tokens", "rotate", first))
    third, _ = created(with_database.run("tokens", "rotate", second, "--keep-old", "24h"))
    found = listed(with_database)
    assert {public: found[public][0] for public in (first, second, third)} == {
        first: "revoked",
        second: "valid",
        third: "valid",
    }
    assert found[third][1:] == ["alice", "-", "never used", "agent_os:admin"]
    refused = with_database.run("tokens", "rotate", first)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"unpause: Token {first} is revoked or expired: create a new one\n"


def test_an_organization_has_tokens_of_its_own(with_database: Here) -> None:
    done = with_database.run("organizations", "create", "Second Ltd")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Organization 2 is created\n", "")
    public, _ = created(with_database.run("tokens", "create", "--org", "2"))
    assert list(listed(with_database, "--org", "2")) == [public]
    assert with_database.run("tokens", "list").stdout == "There are no tokens\n"
    assert with_database.run("organizations", "list").stdout.splitlines()[-1] == "2\tSecond Ltd"


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=ascii)
def test_what_cannot_be_is_refused_in_one_line(with_database: Here, arguments: list[str], words: str) -> None:
    done = with_database.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"unpause: {words}")
    assert "canary" not in line
    assert listed(with_database) == {"There are no tokens": []}


@pytest.mark.parametrize(("arguments", "words"), MISUSED, ids=str)
def test_what_makes_no_sense_is_refused_before_the_usage(here: Here, arguments: list[str], words: str) -> None:
    done = here.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    first, usage, _ = done.stderr.splitlines()
    assert words in first
    assert usage.startswith(f"Usage: unpause {' '.join(arguments[:2])} ")
    assert list(here.folder.iterdir()) == []


@pytest.mark.parametrize("arguments", [["tokens", "create"], ["tokens", "list"], ["organizations", "list"]], ids=str)
def test_before_there_is_a_database_none_is_made(here: Here, arguments: list[str]) -> None:
    done = here.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "unpause: There is no database unpause.db: start a server, or run `unpause db upgrade`\n"
    assert list(here.folder.iterdir()) == []


def asking(folder: Path, *options: str, **environment: str) -> ServerProcess:
    """Return a server that asks everybody for a token."""
    return ServerProcess(folder, *options, environment={"UNPAUSE_DEV": "false", **environment})


def status(client: httpx.Client, text: str | None, path: str = "/agents") -> int:
    """Return the status that somebody with this token is answered with."""
    return client.get(path, headers={} if text is None else {"Authorization": f"Bearer {text}"}).status_code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with asking(tmp_path_factory.mktemp("asking")) as server:
        yield server


def test_a_server_asks_for_a_token_and_takes_the_one_it_wrote_to_a_file(server: ServerProcess) -> None:
    with server.client() as client:
        refused = client.get("/agents")
        assert (refused.status_code, refused.json()) == (401, {"detail": "Authorization header required"})
        refused = client.get("/v1/users/me")
        assert (refused.status_code, refused.json()) == (
            401,
            {"message": "Invalid or missing API token", "status_code": 401},
        )
        assert [status(client, None, path) for path in ("/health", "/ready", "/")] == [200, 200, 200]
        text = first_token(server)
        for path in ("/agents", "/audit", "/v1/users/me", "/v1/organizations/1/audit"):
            assert status(client, text, path) == 200
        assert status(client, f"{text[:-1]}{'A' if text[-1] != 'A' else 'B'}") == 401


def test_a_token_made_beside_a_running_server_counts_at_once_and_no_more_once_revoked(server: ServerProcess) -> None:
    def tokens(*arguments: str) -> Finished:
        database = f"sqlite:///{server.database}"
        return unpause("tokens", *arguments, "--database-url", database, folder=server.folder)

    public, text = created(tokens("create"))
    with server.client() as client:
        assert status(client, text) == 200
        assert f"{public}\tvalid\t" in tokens("list").stdout
        assert tokens("revoke", public).returncode == 0
        revoked = time.monotonic()
        while status(client, text) == 200:
            assert time.monotonic() - revoked < DEADLINE
            time.sleep(0.05)
        assert status(client, text) == 401
        # When it was used is written down by and by.
        while f"{public}\trevoked\t-\t-\tnever used" in tokens("list").stdout:
            assert time.monotonic() - revoked < DEADLINE


def test_the_first_token_is_in_a_file_for_its_owner_only_and_never_in_the_log(tmp_path: Path) -> None:
    with asking(tmp_path) as server:
        text, file = first_token(server), tmp_path / "unpause-admin-token"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert server.stop() == -15
        file.unlink()
        server.start()
        assert not file.exists(), "not again"
        assert "unp_" not in server.output
        with server.client() as client:
            assert status(client, text) == 200
        server.stop()
        assert server.rows("SELECT count(*) FROM tokens") == [(1,)]
    secret = text.partition(".")[2].encode()
    assert all(secret not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_first_token_that_cannot_be_written_is_not_made_and_the_log_says_how_to_make_one(tmp_path: Path) -> None:
    with asking(tmp_path, "--first-token-file", str(tmp_path / "missing" / "token")) as server:
        server.stop()
        # Only now is all read that it wrote: the log comes through another pipe than the line that says it is ready.
        assert "first administrator's token not created" in server.output
        assert "unpause tokens create --admin" in server.output
        assert server.rows("SELECT count(*) FROM tokens") == [(0,)]


def test_nodes_that_start_at_once_make_one_token(tmp_path: Path, postgres: PostgresServer) -> None:
    with postgres.migrated_database() as url:
        nodes = [asking(tmp_path / name, UNPAUSE_DATABASE_URL=url) for name in ("one", "two")]
        threads = [threading.Thread(target=node.start) for node in nodes]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
            [text] = [file.read_text().strip() for file in tmp_path.glob("*/unpause-admin-token")]
            for node in nodes:
                with node.client() as client:
                    assert (status(client, text), status(client, None)) == (200, 401)
        finally:
            for node in nodes:
                if node.is_running:
                    node.stop()


def test_in_development_nobody_is_asked_and_no_token_is_made(tmp_path: Path) -> None:
    with asking(tmp_path, "--dev") as server, server.client() as client:
        assert (status(client, None), status(client, "garbage"), status(client, None, "/audit")) == (200, 200, 200)
        assert "unp_" not in server.output
        server.stop()
        assert server.rows("SELECT count(*) FROM tokens") == [(0,)]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - refused
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_server_that_asks_nobody_listens_on_this_machine_only(here: Here, command: str, host: str) -> None:
    options = ["--dev", "--agents", str(AGENTS_FILE)] if command == "serve" else []
    done = here.run(command, "--host", host, *options)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"unpause: other machines can reach host {host}")
    assert list(here.folder.iterdir()) == []
