"""A run whose answer is to fit a JSON schema that the client sends, as AgentOS offers it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.caller import body_of, confirming, path_of
from tests.support.frames import read_frames
from tests.support.server import Server
from tests.support.toolbox import JsonObject, plan

YEAR = {"type": "integer"}
MOVIE: dict[str, Any] = {
    "title": "Movie",
    "type": "object",
    "properties": {"name": {"type": "string"}, "year": {"$ref": "#/$defs/Year"}},
    "required": ["name", "year"],
    "$defs": {"Year": YEAR},
}
ALIEN = {"name": "Alien", "year": 1979}
ANSWER = ("final_result", ALIEN)


async def create(server: Server, message: str, schema: object = MOVIE, **form: str) -> JsonObject:
    sent = {"message": message, "stream": "false", "output_schema": json.dumps(schema), **form}
    return body_of(await server.client.post("/agents/toolbox/runs", data=sent))


async def test_the_answer_is_an_object_under_the_name_of_its_schema(server: Server) -> None:
    run = await create(server, plan([ANSWER]))
    assert (run["status"], run["content"], run["content_type"]) == ("COMPLETED", ALIEN, "Movie")
    stored = body_of(await server.client.get(path_of(run)))
    assert (stored["content"], stored["content_type"]) == (ALIEN, "Movie")
    [listed] = (await server.get(f"/sessions/{run['session_id']}/runs")).json()
    assert (listed["content"], listed["run_response_format"]) == (ALIEN, "json")


async def test_a_stream_ends_with_the_object(server: Server) -> None:
    sent = {"message": plan([ANSWER]), "output_schema": json.dumps(MOVIE)}
    response = await server.client.post("/agents/toolbox/runs", data=sent)
    last = read_frames(response.text)[-1]
    assert (last.event, last.data["content"], last.data["content_type"]) == ("RunCompleted", ALIEN, "Movie")


async def test_an_answer_that_does_not_fit_goes_back_to_the_model(server: Server) -> None:
    run = await create(server, plan([("final_result", {"name": "Alien", "year": "soon"})], [ANSWER]))
    assert run["content"] == ALIEN
    assert "year" in json.dumps(run["messages"])


async def test_the_schema_counts_after_a_pause_too(server: Server) -> None:
    run = await create(server, plan([("delete_file", {"path": "a"})], [ANSWER]))
    assert run["status"] == "PAUSED"
    done = body_of(
        await server.client.post(
            f"{path_of(run)}/continue", data={"tools": json.dumps(confirming(run)), "stream": "false"}
        )
    )
    assert (done["content"], done["content_type"]) == (ALIEN, "Movie")


@pytest.mark.parametrize(
    "schema",
    [
        MOVIE,
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "Movie", "schema": {"type": "object", "required": ["name"]}}},
    ],
)
async def test_a_schema_is_taken_as_it_is_with_use_json_schema(server: Server, schema: object) -> None:
    run = await create(server, plan([ANSWER]), schema, use_json_schema="true")
    assert (run["content"], run["content_type"]) == (ALIEN, "dict")


async def test_without_a_title_the_schema_has_the_name_that_agentos_gives_it(server: Server) -> None:
    run = await create(server, plan([ANSWER]), {"type": "object"})
    assert (run["content"], run["content_type"]) == (ALIEN, "DynamicModel")


BOMB = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/9"}},
    "$defs": {"0": YEAR, **{str(n): {"anyOf": [{"$ref": f"#/$defs/{n - 1}"}] * 9} for n in range(1, 10)}},
}


async def test_what_is_no_schema_of_an_object_is_refused_and_changes_nothing(server: Server) -> None:
    for sent, detail in (
        ("{", "expected a JSON object schema"),
        ("[]", "expected a JSON object schema"),
        ("null", "expected a JSON object schema"),
        ("{}", 'root must declare "type": "object"'),
        ('{"type": "array"}', 'root must declare "type": "object"'),
        ('{"type": "json_object"}', 'root must declare "type": "object"'),
        ('{"type": "object", "properties": {"a": {"type": "movie"}}}', "movie"),
        ('{"type": "object", "properties": {"a": {"pattern": "(?=a)b"}}}', "regex"),
        ('{"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/x"}}}', "there is no definition at"),
        ('{"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}', "there is no definition at"),
        (
            '{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"items":{"$ref":"#/$defs/x"}}}}',
            "recursive references",
        ),
        (json.dumps(BOMB), "too large"),
    ):
        async with server.nothing_changes():
            refused = await server.client.post("/agents/toolbox/runs", data={"message": "hello", "output_schema": sent})
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith("Invalid output_schema: ")
        assert detail in refused.json()["detail"]
