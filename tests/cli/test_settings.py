"""Every setting is an option and an environment variable, and both mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from cyclopts import App

from tests.cli.here import Here
from tests.support.processes import unpause
from unpause.cli.options import settings_command
from unpause.settings import GROUPS, ServerSettings, Settings

# A value for every setting, none of them its default; a setting without one fails the test.
VALUES = {
    "console": "false",
    "console_session_seconds": "3600",
    "rate_limit_sign_in": "5/hour",
    "log_level": "warning",
    "log_format": "readable",
    "access_log": "true",
    "metrics": "true",
    "traces": "true",
    "metrics_port": "9090",
    "metrics_host": "127.0.0.2",
    "first_token_file": "token.txt",
    "agent_processes": "3",
    "agent_env": "A_KEY,A_FOLDER",
    "agent_folder": "/srv",
    "agent_max_segments": "100",
    "agent_max_bytes": "500000000",
    "agent_unresponsive_seconds": "30",
    "agent_cancel_seconds": "5",
    "agent_drain_seconds": "90",
    "reload": "true",
    "host": "127.0.0.2",
    "port": "1234",
    "dev": "true",
    "database_url": "sqlite:///other.db",
    "agents": "one,two.py",
    "model": "openai:some",
    "model_base_url": "http://127.0.0.1:1/v1",
    "workspace": "elsewhere",
    "default_agent": "second",
    "public_url": "https://agents.example.org",
    "history_runs": "3",
    "request_limit": "7",
    "total_tokens_limit": "9000",
    "pause_expires_seconds": "3600",
    "approval_expires_seconds": "7200",
    "on_expire": "cancel",
    "reminder_seconds": "60",
    "sweep_seconds": "0.5",
    "idempotency_seconds": "30",
    "jwt_algorithm": "HS256",
    "jwt_key": "a-secret",
    "jwt_key_files": "one.pem,two.pem",
    "jwt_jwks_url": "https://issuer.example/keys",
    "jwt_audience": "unpause",
    "jwt_issuer": "https://issuer.example",
    "jwt_scopes_claim": "permissions",
    "jwt_organization_claim": "tenant",
    "jwt_organization": "2",
    "jwt_leeway_seconds": "1.5",
    "user_isolation": "false",
    "trusted_proxies": "192.0.2.1,198.51.100.0/24",
    "cors_origins": "https://one.example,https://two.example",
    "models": "openai:one,anthropic:two",
    "repo_agents": "12=ops,13=desk",
    "agent_types": "claude_code=ops",
    "run_limit": "100",
    "encryption_key": "a-key",
    "webhook_attempts": "3",
    "notify_per_minute": "3",
    "notify_attempts": "4",
    "notify_timeout_seconds": "5",
    "notify_private_targets": "true",
    "webhook_timeout_seconds": "1.5",
    "webhook_private_targets": "true",
    "rate_limit_create": "1/minute",
    "rate_limit_read": "2/minute",
    "rate_limit_logs": "3/minute",
    "rate_limit_resume": "4/minute",
    "rate_limit_change": "5/minute",
    "rate_limit_setup": "",
    "rate_limit_webhook_test": "6/minute",
    "rate_limit_ag_ui": "7/minute",
    "workspace_root": "/srv/checkouts",
    "command_timeout_seconds": "30",
    "command_output_bytes": "4096",
    "max_body_bytes": "2048",
    "max_requests": "7",
    "command_user": "nobody",
    "max_plain_body_bytes": "1024",
    "max_image_bytes": "77",
    "max_images": "2",
    "max_message_chars": "99",
    "max_json_chars": "1000",
    "max_result_bytes": "2000",
    "max_tools": "8",
    "max_streams": "6",
    "max_unfinished": "9",
    "max_running": "5",
    "max_running_per_organization": "4",
    "max_crashes": "2",
    "worker": "false",
    "poll_seconds": "0.25",
    "database_timeout_seconds": "7.5",
    "lock_timeout_seconds": "2.5",
    "database_connections": "20",
    "listener_url": "postgresql+psycopg://direct/unpause",
    "lease_seconds": "12.5",
    "request_seconds": "5.5",
    "keepalive_seconds": "2.5",
    "keep_ended_runs": "90d",
    "keep_audit": "90d",
    "keep_deliveries": "90d",
    "shutdown_grace_seconds": "0",
}
_STEPS: Final = 12


def from_options(*arguments: str) -> Settings:
    """Read the settings as the command line does."""
    [settings] = read(arguments)
    return settings


def read(arguments: Sequence[str]) -> list[Settings]:
    """Run a command that takes all settings as options; return those that it was run with."""
    command, seen = _command()
    seen.clear()
    command(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return list(seen)


@cache
def _command() -> tuple[App, list[Settings]]:
    """Return the command, which takes long to make, and the list of the settings that it is run with."""
    seen: list[Settings] = []
    app = App()
    app.default(settings_command(seen.append, GROUPS))
    return app, seen


# To read a command line of so many options takes long: several settings at once, but not those that are about the same.
@pytest.mark.parametrize("first", range(_STEPS))
def test_a_setting_is_an_option_and_a_variable(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(Settings.model_fields)[first::_STEPS]
    options = from_options(*(option_of(name) for name in names))
    for name in names:
        monkeypatch.setenv(f"UNPAUSE_{name.upper()}", VALUES[name])
    variables = Settings()
    for name in names:
        assert getattr(variables, name) != Settings.model_fields[name].default, name
    assert options == variables
    assert from_options() == variables


def option_of(name: str) -> str:
    """Return the option that sets this setting to its value."""
    value, option = VALUES[name], f"--{name.replace('_', '-')}"
    flags = {"true": option, "false": f"--no-{option.removeprefix('--')}"}
    return flags.get(value, f"{option}={value}")


def test_an_option_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPAUSE_PORT", "1111")
    assert from_options("--port", "2222").port == 2222


def test_of_an_option_that_is_given_twice_the_last_one_counts() -> None:
    assert from_options("--port", "1", "--no-worker", "--port", "2").port == 2


def test_several_agents_are_several_options_or_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_options("--agents", "one", "--agents", "two.py").agents == ("one", "two.py")
    monkeypatch.setenv("UNPAUSE_AGENTS", " one , two.py ,")
    assert Settings().agents == ("one", "two.py")


# The settings that a command does not take.
NOT_TAKEN = {
    "serve": {"workspace"},
    "demo": {"agents", "dev", "reload"},
    "worker": {"worker", "workspace", "reload", "access_log", "metrics", *ServerSettings.model_fields},
}


@pytest.mark.parametrize("command", NOT_TAKEN)
def test_help_lists_each_option_of_the_command_with_a_word_for_its_value(tmp_path: Path, command: str) -> None:
    done = unpause(command, "--help", folder=tmp_path, COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: unpause {command} [OPTIONS]")
    for group in GROUPS:
        taken = group.model_fields.keys() - NOT_TAKEN[command]
        assert (f"─ {(group.__doc__ or '').rstrip('.')} ─" in done.stdout) or not taken or command == "worker"
    for name, field in Settings.model_fields.items():
        option = f"--{name.replace('_', '-')} "
        if name in NOT_TAKEN[command]:
            assert option not in done.stdout
        elif command != "worker":
            assert option in done.stdout
            assert (field.description or "nothing") in done.stdout
    for words in ("--database-url URL", "--lease-seconds SECONDS", "--on-expire reject|cancel", "--models LIST"):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == [], "asking for help makes no files"


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "1e12", "1e300"])
def test_a_time_that_no_clock_can_be_moved_by_is_refused(value: str) -> None:
    named = [name for name in Settings.model_fields if name.endswith("_seconds")]
    assert len(named) > 10
    for name in named:
        with pytest.raises(ValueError, match=name):
            Settings.model_validate({name: value})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("UNPAUSE_DATABSE_URL", "UNPAUSE_DATABSE_URL is no setting: did you mean UNPAUSE_DATABASE_URL?"),
        ("unpause_max_runing", "unpause_max_runing is no setting: did you mean UNPAUSE_MAX_RUNNING?"),
        ("UNPAUSE_QQQ", "UNPAUSE_QQQ is no setting: `unpause settings` lists all"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_the_nearest_name_and_without_its_value(
    here: Here, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.setenv(name, "canary")
    for command in ("serve", "worker", "demo", "db current", "tokens list"):
        done = here.run(*command.split())
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"unpause: {reason}\n"
    assert list(here.folder.iterdir()) == [], "no database was created"


def test_variables_of_the_commands_for_people_and_of_kubernetes_are_no_mistakes(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "UNPAUSE_URL": "http://127.0.0.1:7777",
        "UNPAUSE_TOKEN": "x",
        "UNPAUSE_SERVICE_HOST": "10.0.0.1",
        "UNPAUSE_SERVICE_PORT_HTTP": "80",
        "UNPAUSE_WORKER_PORT": "tcp://10.0.0.1:80",
        "UNPAUSE_WORKER_PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert "There is no database" in here.run("tokens", "list").stderr
