"""Builds the Pydantic AI model that a setting names.

Nothing here opens a connection. Keys are read when a model is built, so a missing one stops the server at
its start and not a run in its middle. The provider SDKs (tens of megabytes each) are not imported here:
Pydantic AI imports the one that a model string names, when it is named.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import infer_model
from pydantic_ai.providers import infer_provider_class

from unpause.agents.redaction import Redaction
from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_ai.models import Model
    from pydantic_ai.providers import Provider

# The OpenAI client refuses an empty key, local servers ignore whatever they get.
_PLACEHOLDER_KEY = "local-server-needs-no-key"

# Both mean chat completions here. No other prefix is cut off: `llama3.2:3b` is a whole name to Ollama.
_CHAT_PREFIXES = ("openai:", "openai-chat:")

# Our own extras that carry a provider's package; for every other provider the extra is Pydantic AI's.
_OWN_EXTRAS = frozenset({"anthropic", "openai"})

# Where a broken configuration can surface as an SDK's own class: (module, name of its base error).
_SDK_ERRORS = (
    ("openai", "OpenAIError"),
    ("anthropic", "AnthropicError"),
    ("httpx2", "InvalidURL"),
    ("httpx", "InvalidURL"),
)

_HOW_TO_NAME = "A model is written PROVIDER:NAME, for example openai:NAME or anthropic:NAME"

_EXTRA = re.compile(r"pydantic-ai-slim\[([\w-]+)\]")
_UNSET_VARIABLE = re.compile(r"Set the `(\w+)` environment variable or")


def resolve_model(name: str, base_url: str | None = None) -> Model:
    """Build the model that `name` means; no network call is made.

    Without `base_url`, `name` is a Pydantic AI model string (`openai:NAME`, `anthropic:NAME`, `test`, ...).
    With `base_url`, the address of an OpenAI-compatible server including its version (for Ollama
    `http://127.0.0.1:11434/v1`), the model speaks chat completions to that server. `name` is then
    `openai:NAME` or just `NAME` as the server knows it, and the key is OPENAI_API_KEY, or a placeholder if
    that is unset or empty.

    The model owns its HTTP client: entered as an async context manager, it closes the client at the exit.

    Raises InvalidSetting if the model string is unknown, the provider's package is not installed, the key or
    another variable the provider needs is missing, or the URL or key cannot work. No message holds a secret.
    """
    if not name.rpartition(":")[2]:
        raise InvalidSetting(Redaction(os.environ).hide(f"The model {name!r} has no name. {_HOW_TO_NAME}"))
    try:
        return infer_model(name) if base_url is None else _model_on_server(name, base_url)
    except ImportError as error:
        message = _missing_package(name, str(error))
    except (UserError, ValueError) as error:
        message = _unusable(name, str(error))
    except _loaded_sdk_errors() as error:
        message = _unusable(name, str(error))
    # Raised out here, so without a cause: the provider's own message was not searched for secrets.
    raise InvalidSetting(Redaction(os.environ).hide(message))


def use_local_server(base_url: str) -> None:
    """Have models that authors name `openai:…` need no key: without OPENAI_API_KEY they speak to this server, too.

    With a key nothing changes: it is sent to `base_url` for the settings' models and to OpenAI for the authors' own.
    Raises InvalidSetting for an URL that cannot work.
    """
    _check_base_url(base_url)
    if os.environ.get("OPENAI_API_KEY", "").strip():
        return
    os.environ["OPENAI_API_KEY"] = _PLACEHOLDER_KEY
    # Not to OpenAI with a key that is none.
    os.environ.setdefault("OPENAI_BASE_URL", base_url)


def _model_on_server(name: str, base_url: str) -> Model:
    """Build a chat-completions model on an OpenAI-compatible server."""
    _check_base_url(base_url)
    prefix = next((prefix for prefix in _CHAT_PREFIXES if name.startswith(prefix)), "")
    api_key = os.environ.get("OPENAI_API_KEY", "").strip() or _PLACEHOLDER_KEY
    if not (api_key.isascii() and api_key.isprintable()):
        # The HTTP client would raise this only in the middle of a run.
        raise InvalidSetting("OPENAI_API_KEY holds characters that no HTTP header can carry")

    def provider_on_server(_: str) -> Provider[Any]:
        # The base class declares no constructor; this one takes both (pydantic_ai.providers.openai).
        openai_provider = cast("Callable[..., Provider[Any]]", infer_provider_class("openai"))
        return openai_provider(base_url=base_url, api_key=api_key)

    return infer_model(f"openai-chat:{name.removeprefix(prefix)}", provider_factory=provider_on_server)


def _check_base_url(base_url: str) -> None:
    """Raise InvalidSetting unless this is an http or https address without a password.

    Pydantic AI writes the address into every stored response, so a password in it would be stored with it.
    No message repeats the address for the same reason.
    """
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidSetting(
            "The model's base URL has to be an http or https address, such as http://127.0.0.1:11434/v1"
        )
    if "@" in parts.netloc:
        raise InvalidSetting("The model's base URL must not hold a user or password: a key belongs in OPENAI_API_KEY")


def _loaded_sdk_errors() -> tuple[type[Exception], ...]:
    """Return the error classes of those SDKs that are loaded; naming one must not load it."""
    modules = ((sys.modules.get(module), error) for module, error in _SDK_ERRORS)
    return tuple(getattr(module, error) for module, error in modules if module is not None)


def _missing_package(name: str, reason: str) -> str:
    extra = _EXTRA.search(reason)
    if extra is None:
        return f"The model {name!r} cannot be used, a package is missing: {reason}"
    distribution = "unpause" if extra[1] in _OWN_EXTRAS else "pydantic-ai-slim"
    command = f"pip install '{distribution}[{extra[1]}]'"
    return f"The model {name!r} needs a package that is not installed: {command}"


def describe_unset_variable(reason: str, model: str = "A model") -> str | None:
    """Return that a model needs an environment variable, where Pydantic AI says that as its ``reason``; else None."""
    variable = _UNSET_VARIABLE.match(reason)
    # The rest of Pydantic AI's advice is about its classes, which an operator does not write.
    return None if variable is None else f"{model} needs the environment variable {variable[1]}, which is not set"


def _unusable(name: str, reason: str) -> str:
    unset = describe_unset_variable(reason, f"The model {name!r}")
    if unset is not None:
        return unset
    if reason.startswith("Unknown model"):
        return f"{reason.removesuffix('.')}. {_HOW_TO_NAME}"
    return f"The model {name!r} cannot be used: {reason}"
