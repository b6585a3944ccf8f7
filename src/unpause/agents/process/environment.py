"""What an agent process gets of the server's environment, and what it may not do."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What programs and providers' clients need; everything else is the server's own.
_NAMES: Final = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH",
        "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NO_COLOR",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "XDG_CACHE_HOME", "CODEX_HOME",
        "GITHUB_API_KEY", "VERCEL_OIDC_TOKEN",
    }
)  # fmt: skip
_PREFIXES: Final = (
    "LC_", "OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "AZURE_", "AWS_", "BEDROCK_",
    "GROQ_", "MISTRAL_", "COHERE_", "CO_", "DEEPSEEK_", "OPENROUTER_", "XAI_", "OLLAMA_",
    "TOGETHER_", "FIREWORKS_", "CEREBRAS_", "HUGGINGFACE_", "HF_", "PYDANTIC_AI_", "ALIBABA_", "DASHSCOPE_",
    "COPILOT_", "GITHUB_COPILOT_", "CRUSOE_", "ELEVENLABS_", "HEROKU_INFERENCE_", "META_", "MOONSHOTAI_", "NEBIUS_",
    "OVHCLOUD_", "PAIG_", "SAMBANOVA_", "SNOWFLAKE_", "SYSTEM_ONE_", "TYPESAFE_", "VERCEL_AI_", "VLLM_",
    "VOYAGE_", "ZAI_", "LOGFIRE_", "OTEL_",
)  # fmt: skip

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
# SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, PERFMON, BPF and CHECKPOINT_RESTORE: each reads other processes.
_LOOKING_IN: Final = (16, 17, 19, 21, 38, 39, 40)
_CAPABILITY_VERSION_3: Final = 0x20080522


def allowed_environment(environment: Mapping[str, str], further: Iterable[str]) -> dict[str, str]:
    """Return the variables that an agent process gets: those on the list, and ``further`` names, but none of ours."""
    names = _NAMES.union(further)
    return {
        name: value
        for name, value in environment.items()
        if (name in names or name.startswith(_PREFIXES)) and not name.startswith("UNPAUSE_")
    }


def protect_memory() -> None:
    """Let no other process read this one's memory, environment or open files under ``/proc``, or trace it; Linux only.

    It also writes no core. Root can read everything all the same. Child processes are not protected.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with(parent: int) -> None:
    """Have this process be killed when the one that started it ends, however it does; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # The parent ended before the call above.
        os._exit(1)


def give_up_looking_in() -> None:
    """Give up the right to look into other processes, where this one runs as root; Linux only.

    Without it even root does not read the memory and the environment of a process that forbids it.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in _LOOKING_IN:
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable, twice: for the capabilities from 0 to 31, and for those from 32 on.
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        for capability in _LOOKING_IN:
            for kind in range(3):
                sets[3 * (capability // 32) + kind] &= ~(1 << capability % 32)
        libc.capset(header, sets)
