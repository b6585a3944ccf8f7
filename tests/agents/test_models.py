"""From a model string to a model, and what an operator is told when that fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from typing import NoReturn

import pytest
from pydantic_ai import Agent
from pydantic_ai.models import Model

from unpause.agents.models import resolve_model, use_local_server
from unpause.errors import InvalidSetting

LOCAL = "http://127.0.0.1:11434/v1"
SECRET = "sk-a-key-nobody-may-see"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No provider's variables, whatever the machine has."""
    for variable in os.environ:
        if variable.startswith(("OPENAI_", "ANTHROPIC_", "DEEPSEEK_")):
            monkeypatch.delenv(variable)


def refusal(name: str, base_url: str | None = None) -> str:
    """The message of the refusal."""
    with pytest.raises(InvalidSetting) as caught:
        resolve_model(name, base_url)
    return caught.value.message


def test_a_model_string_gives_the_model_of_its_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    model = resolve_model("openai:some-model")
    assert (model.system, model.model_name) == ("openai", "some-model")


def test_the_test_model_needs_neither_provider_nor_key() -> None:
    assert resolve_model("test").model_name == "test"


@pytest.mark.parametrize(
    ("name", "on_the_server"),
    [
        ("llama3.2", "llama3.2"),
        ("openai:llama3.2", "llama3.2"),
        ("openai-chat:llama3.2", "llama3.2"),
        ("llama3.2:3b", "llama3.2:3b"),
        ("openai:qwen3:8b", "qwen3:8b"),
        ("mistral:7b", "mistral:7b"),
        ("test", "test"),
    ],
)
def test_with_a_base_url_the_name_is_the_servers_own(name: str, on_the_server: str) -> None:
    model = resolve_model(name, LOCAL)
    assert model.model_name == on_the_server
    assert (model.base_url or "").rstrip("/") == LOCAL


@pytest.mark.parametrize("base_url", [None, LOCAL])
def test_building_a_model_calls_nobody(base_url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("the network was asked")

    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert resolve_model("openai:some-model", base_url).model_name == "some-model"


def test_no_provider_is_loaded_before_a_model_needs_it() -> None:
    program = "import sys, unpause.agents.models; print({'openai', 'anthropic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["nosuch:model", "some-model", "gateway/nosuch:model", "gpt-nothing.9"])
def test_an_unknown_model_string_is_refused_with_the_form_it_should_have(name: str) -> None:
    message = refusal(name)
    assert name in message
    assert "PROVIDER:NAME" in message


@pytest.mark.parametrize("base_url", [None, LOCAL])
@pytest.mark.parametrize("name", ["", ":", "openai:", "anthropic:"])
def test_a_model_without_a_name_is_refused(name: str, base_url: str | None) -> None:
    assert "has no name" in refusal(name, base_url)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("openai:some-model", "OPENAI_API_KEY"), ("deepseek:some-model", "DEEPSEEK_API_KEY")],
)
def test_a_missing_key_is_named_by_its_variable(name: str, variable: str) -> None:
    message = refusal(name)
    assert f"needs the environment variable {variable}" in message
    assert name in message


@pytest.mark.parametrize("key", [None, "", "  "])
def test_with_a_local_server_authors_models_need_no_key_and_speak_to_it(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    use_local_server(LOCAL)
    own = Agent("openai:some-model").model
    assert isinstance(own, Model)
    assert (own.base_url or "").rstrip("/") == LOCAL


def test_a_real_key_and_the_server_of_authors_models_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    use_local_server(LOCAL)
    assert os.environ["OPENAI_API_KEY"] == SECRET
    assert "OPENAI_BASE_URL" not in os.environ


def test_an_empty_key_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert "OPENAI_API_KEY" in refusal("openai:some-model")


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("openai:some-model", "openai", "pip install 'unpause[openai]'"),
        ("deepseek:some-model", "openai", "pip install 'unpause[openai]'"),
        ("anthropic:some-model", "anthropic", "pip install 'unpause[anthropic]'"),
        ("groq:some-model", "groq", "pip install 'pydantic-ai-slim[groq]'"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str, package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # an import of it fails now
    for provider in {package, name.partition(":")[0]}:
        monkeypatch.delitem(sys.modules, f"pydantic_ai.providers.{provider}", raising=False)
    assert command in refusal(name)


def test_a_missing_package_is_named_for_a_local_server_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, "pydantic_ai.providers.openai", raising=False)
    assert "pip install 'unpause[openai]'" in refusal("llama3.2", LOCAL)


@pytest.mark.parametrize(
    "base_url",
    ["", "127.0.0.1:11434/v1", "localhost", "ftp://host/v1", "http://", "http://[::1", "http://h:99999/v1"],
)
def test_a_base_url_that_is_no_web_address_is_refused(base_url: str) -> None:
    assert "http or https address" in refusal("llama3.2", base_url)


@pytest.mark.parametrize(
    ("key", "name", "base_url"),
    [
        (SECRET, SECRET, None),
        (SECRET, f"openai:{SECRET}:", None),
        (SECRET, f"{SECRET}:some-model", None),
        (SECRET, f"groq:{SECRET}", None),
        (f"{SECRET}\n", SECRET, None),
        (f"{SECRET}\n{SECRET}", "openai:some-model", LOCAL),
        (f"{SECRET}é", "openai:some-model", LOCAL),
        (SECRET, "openai:some-model", f"http://user:{SECRET}@127.0.0.1/v1"),
        (SECRET, "openai:some-model", f"http://user:{SECRET}@[::1"),
        (SECRET, "openai:some-model", SECRET),
    ],
)
def test_no_refusal_shows_a_key(key: str, name: str, base_url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setitem(sys.modules, "groq", None)
    monkeypatch.delitem(sys.modules, "pydantic_ai.providers.groq", raising=False)
    with pytest.raises(InvalidSetting) as caught:
        resolve_model(name, base_url)
    assert SECRET not in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value))
