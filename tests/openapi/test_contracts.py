"""Our OpenAPI document against the two operations that the contract was given as, and against all of Codegen's.

The `.json` files here are what those documents say, without their prose (`facts.py`): `seed_…` the two operations,
`upstream_codegen` the document of Codegen's API of February 2026.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from tests.openapi.comparison import find_differences
from tests.openapi.facts import Facts, Operation, Schema, facts_of
from tests.support.published import read_document

HERE = Path(__file__).parent

# What ours says otherwise on purpose, with the reason.
DELIBERATE = MappingProxyType(
    {
        "ValidationErrorResponse: detail is string | list[InvalidField]": "AgentOS sends a list, whatever it says",
    }
)

# Operations of Codegen that are not offered: nothing here has pull requests, sandboxes or accounts elsewhere.
NOT_OFFERED = frozenset(
    {
        "GET /v1/oauth/tokens/status",
        "GET /v1/organizations/{org_id}/repos/check-suite-settings",
        "PATCH /v1/organizations/{org_id}/prs/{pr_id}",
        "PATCH /v1/organizations/{org_id}/repos/{repo_id}/prs/{pr_id}",
        "POST /v1/oauth/tokens/revoke",
        "POST /v1/organizations/{org_id}/sandbox/{sandbox_id}/analyze-logs",
        "POST /v1/slack-connect/generate-token",
        "PUT /v1/organizations/{org_id}/repos/check-suite-settings",
    }
)

# What Codegen does not have, under its prefix.
EXTENSIONS = frozenset(
    {
        "GET /v1/organizations/{org_id}/agent/run/{agent_run_id}/logs",
        "GET /v1/organizations/{org_id}/audit",
        "POST /v1/organizations/{org_id}/agent/run/pause",
    }
)


@pytest.fixture(scope="module")
def ours() -> Facts:
    """Return what the whole document of the application says."""
    return facts_of(read_document())


def read(name: str) -> Facts:
    """Return what the file says."""
    return Facts.model_validate_json((HERE / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["seed_agno_continue", "seed_codegen_resume"])
def test_the_operation_of_the_contract_is_offered_field_by_field(ours: Facts, name: str) -> None:
    seed = read(name)

    assert set(seed.operations) <= set(ours.operations)
    assert set(seed.schemas) <= set(ours.schemas)
    assert find_differences(ours, seed) - set(DELIBERATE) == set()


def test_every_operation_of_codegen_is_as_it_is_there_or_not_offered(ours: Facts) -> None:
    upstream = read("upstream_codegen")

    assert set(upstream.operations) - set(ours.operations) == NOT_OFFERED
    assert find_differences(ours, upstream) - set(DELIBERATE) == set()


def test_what_codegen_does_not_have_is_known(ours: Facts) -> None:
    upstream = read("upstream_codegen")

    under_its_prefix = {name for name in ours.operations if " /v1/" in name}
    assert under_its_prefix - set(upstream.operations) == EXTENSIONS


def test_the_parameters_of_codegen_come_in_its_order(ours: Facts) -> None:
    """The order is that of the arguments in the methods that generators write."""
    upstream = read("upstream_codegen")

    for name in set(upstream.operations) & set(ours.operations):
        expected = [parameter.name for parameter in upstream.operations[name].parameters]
        has = [parameter.name for parameter in ours.operations[name].parameters if parameter.name in expected]
        assert has == expected, name


def test_every_operation_has_an_id_of_its_own(ours: Facts) -> None:
    ids = [operation.operation_id for operation in ours.operations.values()]

    assert len(set(ids)) == len(ids)


class TestTheComparison:
    """Each thing that can be otherwise is found; the tests above would be worth nothing without that."""

    @staticmethod
    def facts(**changes: object) -> Facts:
        """Return facts with one operation and one schema, changed."""
        operation: dict[str, object] = {
            "operation_id": "read",
            "security": ["Key"],
            "parameters": [{"name": "skip", "place": "query", "required": False, "type": "integer", "default": 0}],
            "body": {"application/json": "Input"},
            "responses": {"200": {"application/json": "Output"}},
        }
        schema: dict[str, object] = {
            "type": "object",
            "properties": {"id": "integer"},
            "required": ["id"],
            "defaults": {"id": 1},
        }
        for key, value in changes.items():
            (operation if key in Operation.model_fields else schema)[key] = value
        return Facts(
            operations={"GET /": Operation.model_validate(operation)},
            schemas={"Input": Schema.model_validate(schema)},
        )

    @pytest.mark.parametrize(
        ("changes", "difference"),
        [
            ({"operation_id": "other"}, "GET /: its id is other"),
            ({"security": ["Other"]}, "GET /: its security is ['Other']"),
            ({"parameters": []}, "GET /: no parameter skip"),
            ({"body": {"text/plain": "Input"}}, "GET /: body has no application/json"),
            ({"body": {"application/json": "Other"}}, "GET /: body is Other"),
            ({"responses": {"201": {}}}, "GET /: no response 200"),
            ({"responses": {"200": {"application/json": "any"}}}, "GET /: 200 is any"),
            ({"type": "string"}, "Input: it is string"),
            ({"properties": {}}, "Input: no id"),
            ({"properties": {"id": "string"}}, "Input: id is string"),
            ({"required": []}, "Input: id is not required"),
            ({"required": ["id", "more"]}, "Input: more is required"),
            ({"defaults": {}}, "Input: id is None where it is not sent"),
        ],
    )
    def test_what_is_otherwise_is_found(self, changes: dict[str, object], difference: str) -> None:
        assert find_differences(self.facts(**changes), self.facts()) == {difference}

    @pytest.mark.parametrize(
        ("key", "value", "difference"),
        [
            ("type", "string", "skip is string"),
            ("required", True, "required=True"),
            ("place", "header", "place='header'"),
            ("default", 5, "default=5"),
        ],
    )
    def test_a_parameter_that_is_otherwise_is_found(self, key: str, value: object, difference: str) -> None:
        parameter = {"name": "skip", "place": "query", "required": False, "type": "integer", "default": 0, key: value}

        (found,) = find_differences(self.facts(parameters=[parameter]), self.facts())
        assert difference in found

    def test_more_is_no_difference(self) -> None:
        more = {"name": "more", "place": "query", "required": False, "type": "string"}

        assert find_differences(self.facts(properties={"id": "integer", "more": "string"}), self.facts()) == set()
        assert find_differences(self.facts(parameters=[more, *self._skip()]), self.facts()) == set()
        assert find_differences(self.facts(), self.facts(body={"application/json": "any"})) == set()

    def test_more_that_must_be_sent_is_found(self) -> None:
        more = {"name": "more", "place": "query", "required": True, "type": "string"}

        assert find_differences(self.facts(parameters=[more, *self._skip()]), self.facts()) == {
            "GET /: more is required"
        }

    @classmethod
    def _skip(cls) -> list[object]:
        return [*cls.facts().operations["GET /"].model_dump()["parameters"]]
