"""A run's address leads people to its page and programs to its JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.caller import body_of, path_of
from tests.support.server import served

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def test_a_browser_is_led_from_a_runs_address_to_its_page_and_a_program_gets_json(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True) as server:
        run = await server.create("hello")
        page = await server.client.get(path_of(run), headers={"Accept": BROWSER})
        assert (page.status_code, page.headers["location"]) == (303, f"/console/runs/{run['run_id']}")
        # A browser that is not signed in gets there, too, and learns nothing of the run.
        assert (await server.client.get("/agents/a/runs/b", headers={"Accept": BROWSER})).status_code == 303
        assert page.text == ""
        for accept in ("application/json", "*/*", BROWSER):
            response = await server.request("GET", path_of(run), {"Accept": accept})
            assert body_of(response)["run_id"] == run["run_id"]


@pytest.mark.parametrize("path", ["/agents/a/runs", "/agents/a/runs/b/events", "/sessions/s/runs/r"])
async def test_other_addresses_stay_as_they_are(tmp_path: Path, path: str) -> None:
    async with served(tmp_path, tokens=True) as server:
        assert (await server.client.get(path, headers={"Accept": BROWSER})).status_code == 401


async def test_without_a_console_everybody_gets_json(tmp_path: Path) -> None:
    async with served(tmp_path, console=False) as server:
        run = await server.create("hello")
        response = await server.client.get(path_of(run), headers={"Accept": BROWSER})
        assert body_of(response)["run_id"] == run["run_id"]


async def test_the_page_of_a_run_with_an_odd_name_is_on_this_server(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        response = await server.client.get("/agents/a/runs/%2F%2Fevil.example", headers={"Accept": BROWSER})
        assert response.headers.get("location", "/").startswith("/")
        assert "evil.example" not in response.headers.get("location", "")[:3]
