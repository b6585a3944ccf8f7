"""Settings for JWTs that cannot work are refused at the start, in one line that shows no key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.signing import SECRET, Issuer, private_text
from tests.support.processes import AGENTS_FILE, unpause
from unpause.auth.configured import load_jwt_keys
from unpause.errors import InvalidSetting
from unpause.settings import Settings

URL = "https://issuer.example/keys"

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"jwt_algorithm": "HS256", "jwt_key": "canary-short"}, "jwt_key: this key is too short for HS256"),
    ({"jwt_algorithm": "HS256", "jwt_key": "canary" * 5 + "x"}, "jwt_key: this key is too short for HS256"),
    ({"jwt_algorithm": "HS512", "jwt_key": "canary" * 10 + "xyz"}, "jwt_key: this key is too short for HS512"),
    ({"jwt_algorithm": "HS256", "jwt_key": ""}, "jwt_key: this is not a key for HS256"),
    ({"jwt_algorithm": "RS256", "jwt_key": "canary" * 20}, "jwt_key: this is not a key for RS256"),
    ({"jwt_algorithm": "ES256", "jwt_key": "canary" * 20}, "jwt_key: this is not a key for ES256"),
    ({"jwt_algorithm": "EdDSA", "jwt_key": "canary" * 20}, "jwt_key: this is not a key for EdDSA"),
    ({"jwt_algorithm": "HS256", "jwt_key": '{"kty": "oct", "k": "' + "canary" * 20 + '"}'}, "not a key for HS256"),
    ({"jwt_jwks_url": URL, "jwt_key": SECRET}, "jwt_jwks_url cannot be combined"),
    ({"jwt_jwks_url": URL, "jwt_algorithm": "HS256"}, "jwt_algorithm HS256 needs a shared secret"),
    ({"jwt_jwks_url": "issuer.example/keys"}, "jwt_jwks_url must begin with https:// or http://"),
    ({"jwt_jwks_url": "file:///etc/passwd"}, "jwt_jwks_url must begin with https:// or http://"),
    ({"jwt_jwks_url": ""}, "jwt_jwks_url must begin with https:// or http://"),
    ({"jwt_key_files": "no-such-file.pem"}, "jwt_key_files: no-such-file.pem cannot be read: No such file"),
    ({"jwt_key_files": "."}, "jwt_key_files: . cannot be read: Is a directory"),
    ({"jwt_key_files": "noise"}, "jwt_key_files: noise cannot be read: it is not text"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise").write_bytes(b"\xff\xfe canary")
    return tmp_path


def refusal(**settings: Any) -> str:  # noqa: ANN401 - any setting
    """Return why the settings are refused, in one line without what is secret in them."""
    with pytest.raises(InvalidSetting) as caught:
        load_jwt_keys(Settings(**settings))
    message = caught.value.message
    assert "\n" not in message
    assert "canary" not in message
    assert "PRIVATE" not in message
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
    return message


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("settings", "words"), WRONG, ids=str)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], words: str) -> None:
    assert words in refusal(**settings)


def test_keys_of_another_kind_are_refused(rsa_one: Issuer, ec_one: Issuer) -> None:
    for algorithm, issuer in (("ES256", rsa_one), ("RS256", ec_one), ("EdDSA", rsa_one), ("ES384", ec_one)):
        assert "this is not a key for" in refusal(jwt_algorithm=algorithm, jwt_key=issuer.public)
    for issuer in (rsa_one, ec_one):
        assert "this is not a key for HS256" in refusal(jwt_algorithm="HS256", jwt_key=issuer.public)


def test_a_private_key_is_refused_because_it_is_not_needed(rsa_one: Issuer, ec_one: Issuer) -> None:
    for issuer in (rsa_one, ec_one):
        assert "private key" in refusal(jwt_algorithm=issuer.algorithm, jwt_key=private_text(issuer))


def test_a_key_that_is_too_small_is_refused() -> None:
    # 1024 bits were broken long ago.
    small = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - refused
    text = small.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert refusal(jwt_algorithm="RS256", jwt_key=text) == "jwt_key: this key is too short for RS256"


async def test_keys_are_read_from_files_the_setting_first(folder: Path, rsa_one: Issuer, rsa_other: Issuer) -> None:
    (folder / "one.pem").write_text(f"\n{rsa_one.public}\n", encoding="utf-8")
    (folder / "other.pem").write_text(rsa_other.public, encoding="utf-8")
    keys = load_jwt_keys(Settings(jwt_key_files=("one.pem", "other.pem")))
    assert keys is not None
    assert len(await keys.find_keys(None)) == 2
    keys = load_jwt_keys(Settings(jwt_key=rsa_one.public, jwt_key_files=("other.pem",)))  # type: ignore[arg-type]
    assert keys is not None
    assert len(await keys.find_keys("whatever")) == 2


def test_without_keys_there_are_no_jwts() -> None:
    assert load_jwt_keys(Settings()) is None


def test_a_server_that_cannot_read_a_key_ends_with_one_line_before_it_makes_anything(tmp_path: Path) -> None:
    done = unpause(
        *("serve", "--port", "0", "--agents", AGENTS_FILE, "--jwt-key-files", "no-such-file.pem"),
        folder=tmp_path,
        TEST_FOLDER=str(tmp_path),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "unpause: jwt_key_files: no-such-file.pem cannot be read: No such file or directory"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_server_does_not_show_a_key_that_is_none(tmp_path: Path) -> None:
    done = unpause(
        *("serve", "--port", "0", "--agents", AGENTS_FILE),
        folder=tmp_path,
        TEST_FOLDER=str(tmp_path),
        UNPAUSE_JWT_KEY="canary-4711",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["unpause: jwt_key: this is not a key for RS256"]
    assert list(tmp_path.iterdir()) == []
