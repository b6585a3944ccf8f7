"""What a client sends is taken as it stands, or refused: nothing is left out, and nothing is made to fit."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.caller import CODEGEN, RUNS, path_of
from tests.support.server import Server
from tests.support.toolbox import JsonObject, calls

JSON = {"Content-Type": "application/json"}


def places_in(response: httpx.Response) -> set[tuple[Any, ...]]:
    """Return the places that the errors of a 422 name."""
    assert response.status_code == 422, response.text
    return {tuple(error["loc"]) for error in response.json()["detail"]}


async def test_a_key_that_stands_twice_in_json_is_refused_and_named(server: Server) -> None:
    run = await server.run_tools("delete_file")
    [tool] = run["tools"]
    twice = f'[{{"tool_call_id": "{tool["tool_call_id"]}", "confirmed": false, "confirmed": true}}]'
    status, body = await server.refused(run, twice)
    assert (status, body["detail"]) == (400, "tools has the key 'confirmed' twice in an object")
    body_twice = '{"decision": "reject", "decision": "approve"}'
    path = f"/inbox/{run['requirements'][0]['id']}/decide"
    async with server.nothing_changes():
        refused = await server.request("POST", path, JSON, content=body_twice)
        assert (refused.status_code, refused.json()["detail"][0]["ctx"]) == (
            422,
            {"error": "the key 'decision' twice in an object"},
        )


async def test_a_field_that_stands_twice_in_a_form_is_refused_and_named(server: Server) -> None:
    sent = {"message": ["a", "b"], "stream": "false"}
    async with server.nothing_changes():
        for files in (None, {"files": ("a.txt", b"a", "text/plain")}):
            refused = await server.client.post(RUNS, data=sent, files=files)
            assert refused.status_code == 400
            assert refused.json() == {"detail": "The form has the field 'message' more than once"}


async def test_several_files_are_several_uploads(server: Server) -> None:
    files = [("files", (f"{name}.txt", name.encode(), "text/plain")) for name in "ab"]
    made = await server.client.post(RUNS, data={"message": "hello", "stream": "false"}, files=files)
    assert made.status_code == 200


async def test_a_header_field_that_may_stand_once_is_refused_where_it_stands_twice(server: Server) -> None:
    for name in ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"):
        for path in ("/inbox", "/v1/organizations"):
            refused = await server.client.get(path, headers=[(name, "a"), (name, "a")])
            body = refused.json()
            assert refused.status_code == 400
            assert name.lower() in body.get("detail", body.get("message"))


ODD_PARAMETERS: list[tuple[str, str]] = [
    *((f"/inbox?limit={text}", "limit") for text in ("1.0", "%201", "%2B1", "1_0", "٣", "1&limit=2", "2&limit=2")),
    *((f"/inbox?older_than={text}", "older_than") for text in ("nan", "inf", "%201", "1_0", "1e999", "0x1")),
    *((f"/grants?active={text}", "active") for text in ("true%20", "2", "null")),
    ("/v1/organizations/1/agent/runs?skip=1.0", "skip"),
    ("/v1/organizations/1.0/agent/runs", "org_id"),
    ("/sessions/a/runs?created_after=1.0", "created_after"),
    ("/approvals?status=pending&status=approved", "status"),
]


async def test_a_parameter_that_stands_twice_or_is_no_plain_number_is_refused(server: Server) -> None:
    for path, place in ODD_PARAMETERS:
        assert {found[1] for found in places_in(await server.get(path))} == {place}


async def test_plain_numbers_and_flags_are_read(server: Server) -> None:
    for number in ("1", "01", "100"):
        for path in (f"/inbox?limit={number}&older_than={number}.5", f"/v1/organizations?limit={number}"):
            assert (await server.get(path)).status_code == 200
    for flag in ("true", "false", "True", "False", "1", "off"):
        assert (await server.get(f"/grants?active={flag}")).status_code == 200


async def test_a_flag_in_json_is_true_or_false(server: Server) -> None:
    others: list[object] = ["maybe", "true ", 1, 0, 1.0, [], {}]
    async with server.nothing_changes():
        for flag in ("stream", "background", "stream_events", "use_json_schema"):
            for value in others:
                assert places_in(await server.post(RUNS, {"message": "a", flag: value})) == {("body", flag)}


WEBHOOK = "/v1/organizations/1/webhooks/agent-run"
NO_SECONDS: list[object] = [True, 1.0, 60.5, "60", []]
NO_FLAGS: list[object] = [0, 1, "no", 1.0, []]
NO_NUMBERS: list[object] = [True, 1.5, "a", None, [1]]
ODD_BODIES: list[tuple[str, JsonObject, str]] = [
    *(("/tokens", {"expires_in": value}, "expires_in") for value in NO_SECONDS),
    ("/tokens", {"expires": 60}, "expires"),
    ("/tokens", {"scopes": []}, "scopes"),
    ("/runs/{run}/resume", {"promt": "go on"}, "promt"),
    *(("/inbox/{requirement}/decide", {"decision": "approve", "continue": value}, "continue") for value in NO_FLAGS),
    *((WEBHOOK, {"url": "https://a.example/", "enabled": value}, "enabled") for value in NO_FLAGS),
    *((f"{CODEGEN}/ban", {"agent_run_id": value}, "agent_run_id") for value in NO_NUMBERS),
]


async def test_a_body_is_not_made_to_fit(server: Server) -> None:
    run = await server.run_tools("delete_file")
    async with server.nothing_changes():
        for path, body, field in ODD_BODIES:
            named = path.format(run=run["run_id"], requirement=run["requirements"][0]["id"])
            assert ("body", field) in places_in(await server.post(named, body))


async def test_null_in_json_is_what_is_not_sent(server: Server) -> None:
    fields = (
        "stream",
        "background",
        "session_id",
        "user_id",
        "session_state",
        "metadata",
        "dependencies",
        "output_schema",
        "images",
    )
    made = await server.post(RUNS, {"message": calls("delete_file"), **dict.fromkeys(fields)})
    assert made.status_code == 200
    run = made.json()
    answer = [{"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}]
    continued = await server.post(f"{path_of(run)}/continue", {"tools": answer, "session_id": None, "pause_id": None})
    assert continued.json()["status"] == "COMPLETED"


async def test_many_wrong_items_are_one_error(server: Server) -> None:
    empty: JsonObject = {"threadId": "a", "runId": "b", "messages": [], "tools": [], "context": [], "resume": []}
    for field in ("messages", "tools", "context", "resume"):
        refused = await server.post("/agents/toolbox/ag-ui", {**empty, field: [0] * 30})
        assert {place[:3] for place in places_in(refused)} == {("body", field, 0)}


def multipart(text: bytes, *, is_whole: bool = True) -> bytes:
    """Return a form with one field, of the boundary B."""
    part = b'--B\r\nContent-Disposition: form-data; name="message"\r\n\r\n' + text + b"\r\n"
    return part + (b"--B--\r\n" if is_whole else b'--B\r\nContent-Disposition: form-data; name="stream"\r\n\r\nfa')


MULTIPART = "multipart/form-data; boundary=B"
URLENCODED = "application/x-www-form-urlencoded"
ODD_FORMS = [
    (URLENCODED, b"message=%ff", "The form's field 'message' is not UTF-8"),
    (URLENCODED, b"message=%ed%a0%80", "The form's field 'message' is not UTF-8"),
    (URLENCODED, b"message=a&%ff=\xe9", "The form's field '\ufffd' is not UTF-8"),
    (MULTIPART, multipart(b"\xff\xfe"), "The form's field 'message' is not UTF-8"),
    (f"{MULTIPART}; charset=latin-1", multipart(b"\xe9"), "The form's field 'message' is not UTF-8"),
    (MULTIPART, multipart(b"hello", is_whole=False), "Invalid multipart data: the last boundary is missing"),
    (MULTIPART, multipart(b"hello")[:-8], "Invalid multipart data: the last boundary is missing"),
    ("multipart/form-data", multipart(b"hello"), "Missing boundary in multipart."),
]


async def test_text_of_a_form_that_is_not_utf8_and_half_a_form_are_refused(server: Server) -> None:
    async with server.nothing_changes():
        for media_type, body, detail in ODD_FORMS:
            refused = await server.request("POST", RUNS, {"Content-Type": media_type}, content=body)
            assert (refused.status_code, refused.json()) == (400, {"detail": detail})


async def test_a_compressed_body_is_refused(server: Server) -> None:
    for path in (RUNS, CODEGEN):
        refused = await server.request("POST", path, {**JSON, "Content-Encoding": "gzip"}, content=b"{}")
        assert refused.status_code == 415
    plain = {**JSON, "Content-Encoding": "identity"}
    assert (await server.request("POST", CODEGEN, plain, content=b'{"prompt": "a"}')).status_code == 200
    # Two fields are one list.
    twice = [*JSON.items(), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    assert (await server.client.post(CODEGEN, headers=twice, content=b'{"prompt": "a"}')).status_code == 415


@pytest.mark.parametrize(
    "path", ["/sessions/%ff", "/agents/toolbox/runs/a%ed%a0%80", "/runs?search=%ff", "/runs?%e9=1"]
)
async def test_a_url_that_is_not_utf8_is_refused_and_not_read_as_another_one(server: Server, path: str) -> None:
    made = await server.post("/sessions", {"session_id": "\ufffd", "agent_id": "toolbox"})
    assert made.status_code == 201
    refused = await server.client.delete(path)
    assert (refused.status_code, refused.json()) == (400, {"detail": "The URL is not UTF-8"})
    assert (await server.client.get("/sessions/%EF%BF%BD")).status_code == 200
