"""The console in headless Chromium: what is slower, or seldom breaks."""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.console.conftest import CHROMIUM, DEVELOPER, XSS, Console
from tests.console.test_console import row_with
from tests.support.preloaded import Command
from tests.support.processes import DEADLINE, clean_environment
from unpause.auth.console_sessions import create_login_link
from unpause.auth.tokens import NewToken
from unpause.domain.principal import Principal
from unpause.store.engine.schema import plain_connection

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; .ci/run installs Debian's"),
]


def link_for(console: Console, user: str) -> str:
    """Return the path of a one-time link for somebody."""
    with plain_connection(f"sqlite:///{console.server.database}") as connection, connection.begin():
        code = create_login_link(connection, NewToken(user_id=user), Principal(1, via="cli"), datetime.now(UTC))
    return f"/console/login?code={code}"


def test_a_link_signs_in_with_one_click_and_leaves_no_trace_in_the_address(console: Console) -> None:
    path = link_for(console, "guest")
    with console.visit(None, path) as visit:
        page = visit.page
        expect(page.get_by_role("button", name="Continue")).to_be_visible()
        assert "code=" not in page.url
        page.get_by_role("button", name="Continue").click()
        page.wait_for_url(re.compile(r"/console$"))
        expect(page.locator("#me")).to_contain_text("guest")
        page.goto(path)
        expect(page.locator("#present")).to_contain_text("signed in as guest")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("alert")).to_contain_text("used before")


def test_the_inbox_stays_live_across_a_restart_of_the_server(console: Console) -> None:
    server = console.server
    port = server.address.rsplit(":", 1)[1]
    with console.visit("olga") as visit:
        page = visit.page
        expect(page.locator("#connection")).to_have_text("Live")
        console.start(("delete_file", {"path": "/before"}))
        expect(row_with(page, "/before")).to_be_visible()
        server.kill()
        expect(page.locator("#connection")).to_have_text("Reconnecting…")
        # The same port again.
        server._options += ["--port", port]  # noqa: SLF001 - the last one wins
        server.start()
        run = console.start(("delete_file", {"path": "/after"}))
        expect(page.locator("#connection")).to_have_text("Live")
        expect(row_with(page, "/after")).to_be_visible()
        expect(row_with(page, "/before")).to_have_count(1)
        row_with(page, "/after").get_by_role("button", name="Approve").click()
        expect(row_with(page, "/after")).to_contain_text("olga approved")
    assert console.status_of(run)["status"] == "COMPLETED"


def test_who_watches_sees_in_place_what_somebody_else_decides(console: Console) -> None:
    path = console.path_of(console.start(("delete_file", {"path": "/watched"})))
    with console.visit("olga", path) as olga, console.visit("ben") as ben:
        expect(ben.page.locator("#connection")).to_have_text("Live")
        expect(row_with(ben.page, "/watched")).to_be_visible()
        olga.page.get_by_label("Note").fill("not yet")
        olga.page.get_by_role("button", name="Reject").click()
        expect(row_with(ben.page, "/watched")).to_contain_text("olga rejected")
        expect(row_with(ben.page, "/watched")).to_contain_text("not yet")


def test_several_calls_are_approved_at_once_after_they_are_listed(console: Console) -> None:
    run = console.start(("delete_file", {"path": "/many/1"}), ("delete_file", {"path": "/many/2"}))
    with console.visit("olga") as visit:
        page = visit.page
        for path in ("/many/1", "/many/2"):
            row_with(page, path).get_by_role("checkbox").check()
        page.get_by_role("button", name="Approve 2").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("listitem")).to_have_count(2)
        dialog.get_by_role("button", name="Approve all").click()
        for path in ("/many/1", "/many/2"):
            expect(row_with(page, path)).to_contain_text("olga approved")
    assert console.status_of(run)["status"] == "COMPLETED"


def test_a_quorum_shows_its_votes(console: Console) -> None:
    path = console.path_of(console.start(("transfer", {"amount": 12}), who="root"))
    with console.visit("olga", path) as olga, console.visit("ben", path) as ben:
        expect(olga.page.get_by_text("votes 0/2")).to_be_visible()
        olga.page.get_by_role("button", name="Approve").click()
        expect(olga.page.locator("main").get_by_text("1 of 2 have approved")).to_be_visible()
        expect(ben.page.get_by_text("votes 1/2")).to_be_visible()
        ben.page.get_by_role("button", name="Approve").click()
        expect(ben.page.locator("#status")).to_contain_text("ben approved")
        expect(olga.page.locator("#status")).to_contain_text("ben approved")


def test_what_waits_for_others_after_a_vote_leaves_the_list(console: Console) -> None:
    console.start(("transfer", {"amount": 34}), who="root")
    with console.visit("olga") as visit:
        page = visit.page
        row_with(page, "amount=34").get_by_role("button", name="Approve").click()
        expect(row_with(page, "amount=34")).to_contain_text("It waits for others now.")
        page.reload()
        expect(page.locator(".row, .notice").first).to_be_visible()
        expect(row_with(page, "amount=34")).to_have_count(0)


def test_on_a_phone_nothing_is_wider_than_the_screen(console: Console) -> None:
    # Ids and names are others' choice, and may have no place where a line could end.
    session = "s" * 200
    restart = ("restart", {"service": "nginx", "reason": "a" * 400})
    long = str(console.run(restart, who=DEVELOPER, session=session)["run_id"])
    refund = {"customer": "Zoë " * 60, "amount": 1, "method": "card", "on": "2026-01-01", "notify": True}
    form = console.start(("refund", refund))
    with console.visit("olga", width=390) as visit:
        page = visit.page
        paths = (console.path_of(long), console.path_of(form), f"/console/sessions/{session}")
        for path in ("/console", "/console?tab=soon", *paths):
            page.goto(path)
            page.wait_for_selector("main :is(.row, .notice, #note)")
            assert page.evaluate("document.documentElement.scrollWidth") == 390, path
            assert visit.axe() == []
        page.goto(console.path_of(long))
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#status")).to_contain_text("olga approved")


def test_a_decision_whose_answer_cannot_be_read_is_sent_again_and_made_once(console: Console) -> None:
    run = console.start(("delete_file", {"path": "/answer/lost"}))
    with console.visit("olga", console.path_of(run)) as visit:
        page = visit.page
        decisions: list[str | None] = []

        def lose_the_first(route: Route) -> None:
            decisions.append(route.request.headers.get("idempotency-key"))
            answer = route.fetch()
            if len(decisions) == 1:
                route.fulfill(status=200, content_type="text/html", body="<html>sign in to this network</html>")
            else:
                route.fulfill(response=answer)

        page.route("**/decide", lose_the_first)
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#status")).to_contain_text("olga approved")
        assert len(decisions) == 2
        assert decisions[0] == decisions[1] is not None


def test_the_help_lists_the_keys_and_switches_them_off(console: Console) -> None:
    console.start(("delete_file", {"path": "/help"}))
    with console.visit("olga") as visit:
        page = visit.page
        expect(row_with(page, "/help")).to_be_visible()
        page.keyboard.press("?")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Next request")
        assert visit.axe() == []
        dialog.get_by_label("Use these shortcuts").uncheck()
        dialog.get_by_role("button", name="Close").click()
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.closest('a.call')") is None


def test_a_session_whose_token_is_revoked_leads_to_the_sign_in(console: Console) -> None:
    with console.visit(None, link_for(console, "short")) as visit:
        page = visit.page
        page.get_by_role("button", name="Continue").click()
        page.wait_for_url(re.compile(r"/console$"))
        with plain_connection(f"sqlite:///{console.server.database}") as connection, connection.begin():
            connection.exec_driver_sql("UPDATE tokens SET revoked_at = created_at WHERE user_id = 'short'")
        page.wait_for_timeout(2500)
        page.reload()
        page.wait_for_url("**/console/sign-in?next=*")


def test_a_request_that_is_gone_or_not_mine_says_so(console: Console) -> None:
    with console.visit("olga", "/console/requests/none") as visit:
        expect(visit.page.get_by_role("heading", name="This is gone")).to_be_visible()
        visit.page.route("**/inbox/**", lambda route: route.fulfill(status=403, body=json.dumps({"detail": XSS})))
        visit.page.reload()
        expect(visit.page.get_by_role("heading", name="You may not see this")).to_be_visible()
        expect(visit.page.get_by_text(XSS)).to_be_visible()
        visit.page.unroute("**/inbox/**")
        visit.page.route("**/inbox/**", lambda route: route.abort())
        visit.page.reload()
        expect(visit.page.get_by_role("heading", name="The server cannot be reached")).to_be_visible()


def test_a_call_in_doubt_is_approved_only_after_a_second_question(console: Console) -> None:
    run = console.start(("delete_file", {"path": "/doubt"}))

    def in_doubt(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "in_doubt": True})

    with console.visit("olga") as visit:
        page = visit.page
        page.route(re.compile(r"/inbox/[0-9a-f-]{36}$"), in_doubt)
        page.goto(console.path_of(run))
        expect(page.locator("#status")).to_contain_text("may already have run")
        page.get_by_role("button", name="Run it again…").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert console.request("GET", f"/agents/ops/runs/{run}", "root").json()["status"] == "PAUSED"
        page.get_by_role("button", name="Run it again…").click()
        page.get_by_role("dialog").get_by_role("button", name="Run it again").click()
        expect(page.locator("#status")).to_contain_text("olga approved")
    assert console.status_of(run)["status"] == "COMPLETED"


def test_a_watch_in_a_shell_shows_what_the_browser_shows(console: Console, tmp_path: Path) -> None:
    environment = {"UNPAUSE_URL": console.server.address, "UNPAUSE_TOKEN": console.tokens["ben"]}
    watch = Command(["inbox", "--watch", "--json"], tmp_path, clean_environment(**environment))

    def read_until(event: str, path: str) -> None:
        read = json.loads(watch.stdout.readline())
        while (read["event"], read["requirement"]["arguments"].get("path")) != (f"requirement.{event}", path):
            read = json.loads(watch.stdout.readline())

    with watch.stdout, watch.stderr, console.visit("ben") as visit:
        expect(visit.page.locator("#connection")).to_have_text("Live")
        console.start(("delete_file", {"path": "/both"}))
        expect(row_with(visit.page, "/both")).to_be_visible()
        read_until("added", "/both")
        row_with(visit.page, "/both").get_by_role("button", name="Approve").click()
        read_until("decided", "/both")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(DEADLINE) == 130
