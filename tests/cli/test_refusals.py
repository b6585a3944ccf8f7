"""Everything that makes a start impossible is said in one line on standard error, with exit code 2 and no traceback."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.support.processes import AGENTS_FILE, Finished, ServerProcess, clean_environment, unpause
from tests.support.serving import settings_for

MODULES = {
    "raising.py": "raise ValueError('no\\nsuch thing')\n",
    "interrupting.py": "raise KeyboardInterrupt\n",
    "misspelt.py": "def f(:\n",
    "nameless.py": "from pydantic_ai import Agent\nagent = Agent('test')\n",
    "needing.py": "import a_module_that_nobody_has\n",
    "modelless.py": "from pydantic_ai import Agent\nagent = Agent(name='without')\n",
}

# Arguments after `serve` that are refused once the settings are read, and what the line has to say.
WRONG_SETTINGS = [
    ([], "name a module or file with --agents"),
    (["--agents", "x", "--dev", "--host", "0.0.0.0"], "with --dev nobody needs a token"),  # noqa: S104 - refused
    (["--agents", "x", "--dev", "--host", "::"], "with --dev nobody needs a token"),
    (["--agents", "x", "--dev", "--host", "example.org"], "with --dev nobody needs a token"),
    (["--port", "many"], "port: Input should be a valid integer"),
    (["--port", "65536"], "port: Input should be less than or equal to 65535"),
    (["--port", "-1"], "port: Input should be greater than or equal to 0"),
    (["--rate-limit-read", "often"], "rate_limit_read: Value error, 'often' is not a limit such as 10/minute"),
    (["--keepalive-seconds", "0", "--max-running", "0"], "max_running: Input should be greater than or equal to 1"),
]

# The same for what is refused later.
WRONG_AGENTS = [
    (["no_such_module"], "there is no module 'no_such_module'"),
    (["no_such_file.py"], "there is no file no_such_file.py"),
    (["long" * 100], "cannot be read: File name too long"),
    (["raising.py"], "raising.py failed to load: ValueError: no such thing"),
    (["raising"], "raising failed to load: ValueError: no such thing"),
    (["interrupting.py"], "interrupting.py failed to load: KeyboardInterrupt"),
    (["misspelt.py"], "misspelt.py failed to load: SyntaxError"),
    (["needing"], "needing needs the module 'a_module_that_nobody_has', which is not installed"),
    (["nameless.py"], "nameless.py has no pydantic_ai.Agent with a name"),
    (["modelless.py"], "agent 'without' has no model"),
    ([str(AGENTS_FILE), "--model", "nobody:gpt"], "Unknown model: nobody:gpt"),
    ([str(AGENTS_FILE), "--model", "openai:gpt"], "OPENAI_API_KEY, which is not set"),
]

WRONG_DATABASES = [
    ("somewhere", "database_url cannot be read"),
    ("mysql://someone:canary@localhost/x", "mysql is not supported"),
    ("sqlite:///:memory:", "SQLite needs a file"),
    ("sqlite:///~/unpause.db", "~/unpause.db is no path: write the home folder in place of ~"),
    ("sqlite:///x.db?mode=ro", "no options are read with SQLite, such as mode"),
    ("sqlite:///no-database.txt", "file is not a database"),
    ("sqlite:///no-database.txt/unpause.db", " no-database.txt/unpause.db"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("owner")) as server:
        yield server


def write_modules(folder: Path) -> None:
    """Put the modules with mistakes into the folder."""
    for name, text in MODULES.items():
        (folder / name).write_text(text, encoding="utf-8")


def assert_refused(done: Finished, words: str) -> None:
    """Check that the command refused in one line that says so."""
    assert (done.returncode, done.stdout) == (2, ""), done
    [line] = done.stderr.splitlines()
    assert line.startswith("unpause: ")
    assert words in line


@pytest.mark.parametrize(("arguments", "words"), WRONG_SETTINGS, ids=str)
def test_a_setting_that_cannot_work_is_refused_in_one_line(here: Here, arguments: list[str], words: str) -> None:
    assert_refused(here.run("serve", *arguments), words)
    assert list(here.folder.iterdir()) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - they are refused
def test_the_demo_is_for_this_machine_alone(here: Here, host: str) -> None:
    assert_refused(here.run("demo", "--host", host), "with the demo nobody needs a token")
    assert list(here.folder.iterdir()) == []


def test_a_variable_that_cannot_work_is_refused_like_an_option(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPAUSE_PORT", "many")
    assert_refused(here.run("demo"), "port: Input should be a valid integer")


@pytest.mark.parametrize(("arguments", "words"), WRONG_AGENTS, ids=lambda value: str(value)[-40:])
def test_agents_and_models_that_cannot_be_had_are_refused_in_one_line(
    here: Here, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    write_modules(here.folder)
    # What a server changes for its whole process is not for this one.
    monkeypatch.setattr("unpause.cli.server_process.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr("unpause.cli.server_process.log_uncaught", lambda: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("TEST_FOLDER", str(here.folder))
    settings_for(here.folder)
    assert_refused(here.run("serve", "--port", "0", "--agents", *arguments), words)


@pytest.mark.parametrize("name", ["raising.py", "nameless"])
def test_a_process_that_cannot_load_its_agents_ends_with_one_line(tmp_path: Path, name: str) -> None:
    write_modules(tmp_path)
    settings_for(tmp_path)
    assert_refused(unpause("serve", "--port", "0", "--agents", name, folder=tmp_path), f"agents: {name} ")


@pytest.mark.parametrize(("url", "words"), WRONG_DATABASES, ids=str)
def test_a_database_that_cannot_be_used_is_refused_in_one_line(here: Here, url: str, words: str) -> None:
    (here.folder / "no-database.txt").write_text("my diary\n" * 100, encoding="utf-8")
    for action in ("current", "upgrade"):
        done = here.run("db", action, "--database-url", url)
        assert_refused(done, words)
        assert "canary" not in done.stderr
    assert (here.folder / "no-database.txt").read_text(encoding="utf-8") == "my diary\n" * 100


MISREAD = [
    (["inbox", "--limit", "0"], "0 is less than 1"),
    (["runs", "--limit", "-1"], "-1 is less than 1"),
    (["audit", "--limit", "1.5"], "'1.5' is not a whole number"),
    *(
        (["inbox", "--url", url], "is not the URL of a server")
        for url in ("\udcff", "http://a/\udcff", "http://a..b", f"http://{'a' * 300}", "http://a:99999", "ftp://a")
    ),
    (["serve", "--agents", "\udcff"], "agents: the value is not UTF-8"),
]


@pytest.mark.parametrize(("arguments", "words"), MISREAD, ids=ascii)
def test_arguments_that_cannot_be_meant_are_refused(here: Here, arguments: list[str], words: str) -> None:
    done = here.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[0]


def test_closed_streams_are_no_traceback(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdout", None)
        done = here.run("settings")
    assert (done.returncode, done.stderr) == (1, "unpause: standard output is closed\n")
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdin", None)
        closed.setattr(sys, "stderr", None)
        assert here.run("notify", "add").returncode == 2
        sys.stdin.close()
        sys.stderr.close()


def test_a_variable_that_is_not_utf8_is_refused(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPAUSE_DATABASE_URL", "sqlite:///\udcff")
    assert_refused(here.run("db", "current"), "UNPAUSE_DATABASE_URL: the value is not UTF-8")


def test_a_text_that_is_no_beginning_of_an_id_is_of_no_run(here: Here) -> None:
    done = here.run("runs", "show", "a" * 70_000, "--url", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (3, "")


def test_what_cannot_be_read_or_written_is_refused_in_one_line(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a" * 300
    for arguments in (
        ["db", "backup", long],
        ["db", "restore", long],
        ["db", "current", "--database-url", f"sqlite:///{long}"],
    ):
        settings_for(here.folder)
        done = here.run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"unpause: {long}: File name too long\n"
    (here.folder / "loop.db").symlink_to("loop.db")
    loop = here.run("db", "upgrade", "--database-url", "sqlite:///loop.db")
    assert_refused(loop, "database_url: the database cannot be used: unable to open database file")
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"\xff\n"), encoding="utf-8"))
    assert_refused(here.run("notify", "add"), "the input is not UTF-8")


@pytest.mark.parametrize("command", ["audit purge --older-than 1d", "deliveries purge --older-than 1d"])
def test_a_database_beside_which_nothing_can_be_written_is_told_in_the_words_of_the_driver(
    here: Here, command: str
) -> None:
    here.run("db", "upgrade")
    (here.folder / "unpause.db-shm").mkdir()
    done = here.run(*command.split())
    assert (done.returncode, done.stdout) == (1, "")
    # Which of the two depends on whether root runs the tests.
    words = ("unable to open database file", "attempt to write a readonly database")
    assert done.stderr.splitlines()[-1] in {f"unpause: The database does not answer: {each}" for each in words}


def test_a_server_on_a_database_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "unpause.db").write_text("my diary\n" * 100, encoding="utf-8")
    done = unpause("serve", "--agents", AGENTS_FILE, folder=tmp_path, TEST_FOLDER=str(tmp_path))
    assert_refused(done, "file is not a database")


def test_agents_that_cannot_be_loaded_leave_no_database_behind(tmp_path: Path) -> None:
    assert_refused(unpause("serve", "--agents", "nowhere.py", folder=tmp_path), "there is no file nowhere.py")
    assert list(tmp_path.iterdir()) == []


# What somebody misspelt, and how it is refused: the message first, then how the command is used.
MISSPELT = [
    ("dance", "Unknown command: dance.", "COMMAND"),
    ("serv", "Unknown command: serv. Did you mean serve?", "COMMAND"),
    ("tokens revok", "Unknown command: revok. Did you mean revoke?", "tokens COMMAND"),
    ("serve --prot 80", "Unknown option: --prot. Did you mean --port?", "serve [OPTIONS]"),
    (
        "serve --encryption-kye=canary",
        "Unknown option: --encryption-kye. Did you mean --encryption-key?",
        "serve [OPTIONS]",
    ),
    ("demo --qqq", "Unknown option: --qqq.", "demo [OPTIONS]"),
    ("db current --no-such-option", "Unknown option: --no-such-option.", "db current [OPTIONS]"),
    ("serve agents.py", "Unexpected argument: agents.py.", "serve [OPTIONS]"),
    ("worker --cors-origins x", "Unknown option: --cors-origins.", "worker [OPTIONS]"),
]


@pytest.mark.parametrize(("arguments", "message", "usage"), MISSPELT, ids=str)
def test_what_is_misspelt_is_named_first_with_the_nearest_right_word(
    here: Here, arguments: str, message: str, usage: str
) -> None:
    done = here.run(*arguments.split())
    command = f"unpause {usage}".partition(" COMMAND")[0].partition(" [")[0]
    lines = [f"unpause: {message}", f"Usage: unpause {usage}", f"`{command} --help` explains it."]
    assert done == Finished(2, "", "".join(f"{line}\n" for line in lines))
    assert list(here.folder.iterdir()) == []


def test_a_second_server_on_the_same_file_is_refused_and_does_not_disturb_the_first(server: ServerProcess) -> None:
    link = server.folder / "link.db"
    link.symlink_to(server.database)
    for file in (server.database, link):
        done = unpause(
            *("serve", "--port", "0", "--agents", AGENTS_FILE, "--database-url", f"sqlite:///{file}"),
            folder=server.folder,
            TEST_FOLDER=str(server.folder),
        )
        assert_refused(done, f"Another unpause process has {file} open")
        assert "--database-url" in done.stderr
    with server.client() as client:
        answer = client.post("/agents/scripted/runs", data={"message": "say still here", "stream": "false"})
    assert answer.json()["content"] == "still here"


def test_db_is_refused_while_a_server_owns_the_file(server: ServerProcess, here: Here) -> None:
    url = f"sqlite:///{server.database}"
    for action in ("upgrade", "downgrade base", "current", "check"):
        done = here.run("db", *action.split(), "--database-url", url)
        assert_refused(done, f"Another unpause process has {server.database} open")
    with server.client() as client:
        assert client.get("/ready").status_code == 200


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ("--dev", "--port", port, "--agents", AGENTS_FILE)
        done = unpause("serve", *options, folder=tmp_path, TEST_FOLDER=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"unpause: could not listen on 127.0.0.1 port {port}; is another server there?"
    )
    assert "Traceback" not in done.stderr


def test_a_server_that_asks_for_tokens_may_listen_where_others_can_reach_it(tmp_path: Path) -> None:
    # An address that no machine has, so nothing is opened: listening there is what fails.
    options = ("--host", "192.0.2.1", "--agents", AGENTS_FILE)
    done = unpause("serve", *options, folder=tmp_path, TEST_FOLDER=str(tmp_path))
    assert done.returncode == 2
    assert "could not listen on 192.0.2.1" in done.stderr
    # The administrator's token is created, and shown, by the start that succeeds.
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["--help"], []], ids=str)
def test_the_command_alone_lists_its_commands(tmp_path: Path, arguments: list[str]) -> None:
    done = unpause(*arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("serve", "worker", "demo", "db", "tokens", "organizations", "keys", "settings", "openapi"):
        assert f"│ {command} " in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["tokens", "revok"]], ids=str)
def test_no_colours_are_written_where_no_terminal_is(tmp_path: Path, arguments: list[str]) -> None:
    done = unpause(*arguments, folder=tmp_path, NO_COLOR="1")
    assert "\x1b" not in done.stdout + done.stderr


def test_the_version_is_the_packages(here: Here) -> None:
    assert here.run("--version") == Finished(0, f"{version('unpause')}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(here: Here, shell: str) -> None:
    done = here.run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in ("worker", "revoke", "database-url"))


def test_output_that_finds_no_room_ends_in_one_line(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        done = here.run("settings")
    assert (done.returncode, done.stderr) == (
        1,
        "unpause: the output could not be written: No space left on device\n",
    )


def test_a_working_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("from pydantic_ai import Agent\nagent = Agent('test', name='ops')\n")
    folder = tmp_path / "gone"
    folder.mkdir()
    command = [sys.executable, "-m", "unpause", "agents", "check", str(tmp_path / "agents.py")]
    done = subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "-", *command],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "unpause: the working folder does not exist any more\n")


class Full(StringIO):
    """A file on a full disk."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.ENOSPC, text)


def test_a_standard_error_without_room_keeps_no_token_back_and_changes_no_exit_code(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here.run("db", "upgrade").returncode == 0
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", Full())
        created, refused = here.run("tokens", "create", "--user", "ada"), here.run("tokens", "revoke")
    assert created.stdout.startswith("unp_")
    assert (created.returncode, refused.returncode) == (0, 2)
