"""The pages of runs, sessions, the overview, tokens and grants in headless Chromium."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import expect

from tests.console.conftest import CHROMIUM, DEVELOPER, XSS, Console

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; .ci/run installs Debian's")

SCRIPT = "<script>document.title = 'xss'</script>"


@pytest.fixture(scope="module")
def runs(console: Console) -> dict[str, str]:
    """Return the runs of this module by what became of them; every text of them would be markup."""
    made = {
        status: console.start(("delete_file", {"path": f"/{status}/{XSS}{SCRIPT}"}))
        for status in ("paused", "completed", "watched", "cancelled")
    }
    decide(console, made["completed"])
    console.status_of(made["completed"])
    return made


def decide(console: Console, run_id: str) -> None:
    """Approve what the run waits for."""
    requirement = console.path_of(run_id).rpartition("/")[2]
    body = {"decision": "approve", "note": f"go {XSS}"}
    console.request("POST", f"/inbox/{requirement}/decide", "root", json=body)


def test_a_run_ends_before_the_eyes_of_who_watches_it(console: Console, runs: dict[str, str]) -> None:
    with console.visit("olga", f"/console/runs/{runs['watched']}") as visit:
        page = visit.page
        expect(page.locator(".run-head .badge")).to_have_text("paused")
        expect(page.locator(".alert a")).to_have_attribute("href", console.path_of(runs["watched"]))
        expect(page.locator("#connection")).to_have_text("Live")
        decide(console, runs["watched"])
        expect(page.locator(".run-head .badge")).to_have_text("completed")
        expect(page.get_by_label("What happened")).to_contain_text("root approved delete_file")
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        expect(page.get_by_role("img", name=re.compile("Where the time went: .*waiting for people"))).to_be_visible()


def test_a_run_is_cancelled_after_a_question(console: Console, runs: dict[str, str]) -> None:
    with console.visit("olga", f"/console/runs/{runs['cancelled']}") as visit:
        page = visit.page
        page.get_by_role("button", name="Cancel the run").click()
        page.get_by_role("button", name="Keep it").click()
        expect(page.locator(".run-head .badge")).to_have_text("paused")
        page.keyboard.press("c")
        page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
        expect(page.locator(".run-head .badge")).to_have_text("cancelled")
    assert console.status_of(runs["cancelled"])["status"] == "CANCELLED"


def test_runs_are_found_by_status_and_text_and_the_address_keeps_the_filters(
    console: Console, runs: dict[str, str]
) -> None:
    with console.visit("olga", "/console/runs") as visit:
        page = visit.page
        rows = page.locator(".row.run")
        page.get_by_label("Text or id").fill("/completed/")
        page.keyboard.press("Enter")
        expect(rows).to_have_count(1)
        expect(rows.first.locator("a")).to_have_attribute("href", f"/console/runs/{runs['completed']}")
        page.get_by_label("paused", exact=True).check()
        expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
        page.reload()
        expect(page.get_by_label("paused", exact=True)).to_be_checked()
        expect(page.get_by_label("Text or id")).to_have_value("/completed/")


def test_an_old_address_of_a_run_opens_its_page(console: Console, runs: dict[str, str]) -> None:
    with console.visit("olga", f"/agents/ops/runs/{runs['completed']}") as visit:
        visit.page.wait_for_url(f"**/console/runs/{runs['completed']}")
        expect(visit.page.locator(".run-head .badge")).to_have_text("completed")


def test_of_another_users_run_nothing_is_shown(console: Console) -> None:
    theirs = console.start(("delete_file", {"path": "/secret"}), who="olga")
    with console.visit(DEVELOPER, f"/console/runs/{theirs}") as visit:
        expect(visit.page.get_by_role("heading", name="This is gone")).to_be_visible()
        assert "/secret" not in visit.page.content()


# What is wider than the window, in a page that scrolls sideways.
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("main *")]
    .filter((each) => each.getBoundingClientRect().right > innerWidth).map((each) => each.outerHTML)"""
PAGES = {
    "runs": ("/console/runs", ".row.run"),
    "run": ("/console/runs/{completed}", ".timeline .entry-end"),
    "paused": ("/console/runs/{paused}", ".alert.warn"),
    "sessions": ("/console/sessions", ".row.session"),
    "session": ("/console/sessions/{session}", ".row.run"),
    "overview": ("/console/overview", ".plot"),
    "tokens": ("/console/tokens", ".row.token"),
    "grants": ("/console/grants", ".notice"),
}
# One with a timeline, a list, and a drawing: three seconds each.
EVERY_TIME = {"paused", "sessions", "overview"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERY_TIME else [pytest.mark.full]) for name in PAGES]
)
@pytest.mark.parametrize(("scheme", "width"), [("light", 390), pytest.param("dark", 1280, marks=pytest.mark.full)])
def test_every_page_is_accessible_fits_a_phone_and_shows_markup_as_text(
    console: Console, runs: dict[str, str], name: str, scheme: Literal["light", "dark"], width: int
) -> None:
    path, shown = PAGES[name]
    session = console.request("GET", f"/runs/{runs['completed']}", "root").json()["session_id"]
    with console.visit("olga", path.format(**runs, session=session), scheme, width) as visit:
        page = visit.page
        expect(page.locator(shown).first).to_be_visible()
        assert visit.axe() == []
        assert page.evaluate(TOO_WIDE) == []
        assert page.locator("main img[src=x], main script").count() == 0
        assert page.title() != "xss"


def test_a_token_is_created_shown_once_and_revoked(console: Console) -> None:
    with console.visit("olga", "/console/tokens") as visit:
        page = visit.page
        page.get_by_text("Create a token").click()
        page.get_by_label("User", exact=True).fill(f"carol {XSS}")
        page.get_by_role("button", name="Create the token").click()
        text = page.locator(".secret code").inner_text()
        row = page.locator(".row.token", has_text=text[4:12])
        assert text.startswith("unp_")
        with console.server.client(headers={"Authorization": f"Bearer {text}"}) as client:
            assert client.get("/me").json()["user_id"] == f"carol {XSS}"
        page.reload()
        expect(row).to_contain_text("valid")
        assert text not in page.content()
        row.get_by_role("button").click()
        page.get_by_role("button", name="Revoke", exact=True).click()
        expect(row).to_contain_text("revoked")


def test_tokens_are_for_administrators_alone(console: Console) -> None:
    with console.visit(DEVELOPER, "/console/tokens") as visit:
        expect(visit.page.get_by_role("heading", name="You may not see this")).to_be_visible()
        assert visit.page.get_by_role("link", name="Tokens").count() == 0


def test_an_approval_for_the_session_lets_the_next_call_run_until_it_is_revoked(console: Console) -> None:
    session = "a session with a grant"

    def publish(path: str) -> str:
        run = console.run(("publish", {"path": path}), session=session)
        return str(run["run_id"] if run["status"] == "PAUSED" else run["status"])

    waiting = publish("/first")
    with console.visit("olga", console.path_of(waiting)) as visit:
        page = visit.page
        page.get_by_label("Your approval counts for").select_option("also for this session")
        page.get_by_label("Which calls").select_option("every call of this tool")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#status")).to_contain_text("olga approved")
        assert console.status_of(waiting)["status"] == "COMPLETED"
        assert publish("/second") == "COMPLETED"

        page.goto("/console/grants")
        row = page.locator(".row.token").filter(has_text=session)
        expect(row).to_contain_text("publish with any arguments")
        expect(row).to_contain_text("used once")
        assert visit.axe() == []
        row.get_by_role("button", name="Revoke").click()
        expect(row).to_contain_text("revoked by olga")
    assert console.path_of(publish("/third")).startswith("/console/requests/")
