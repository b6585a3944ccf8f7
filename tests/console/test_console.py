"""The console in headless Chromium, against a real server: what a person does with it, and what it must never do."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.conftest import CHROMIUM, XSS, Console

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; .ci/run installs Debian's")

REFUND = {"customer": "Zoë", "amount": 1, "method": "card", "on": "2026-01-01", "notify": True}


def row_with(page: Page, text: str) -> Locator:
    """Return the row of a call."""
    return page.locator(".row", has_text=text)


def test_a_token_that_is_pasted_signs_in_and_leads_back_but_never_elsewhere(console: Console) -> None:
    with console.visit(None, "/console?tab=others") as visit:
        page = visit.page
        page.wait_for_url("**/console/sign-in?next=*")
        page.get_by_label("Token").fill("unp_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("Invalid authentication token")
        page.get_by_label("Token").fill(console.tokens["olga"])
        page.keyboard.press("Enter")
        page.wait_for_url("**/console?tab=others")
        expect(page.locator("#me")).to_contain_text("olga")
        assert "HttpOnly" not in str(page.evaluate("document.cookie"))
        for elsewhere in (
            "https://evil.example/",
            "//evil.example",
            "/docs",
            "javascript:alert(1)",
            "/console/sign-in",
        ):
            page.goto(f"/console/sign-in?next={elsewhere}")
            page.wait_for_url(re.compile(r"/console$"))
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/console/sign-in")
        page.goto("/console")
        page.wait_for_url("**/console/sign-in?next=*")


def test_by_keyboard_alone_one_call_is_approved_and_another_rejected_with_a_note(console: Console) -> None:
    approved = console.start(("delete_file", {"path": "/keyboard/first"}))
    rejected = console.start(("delete_file", {"path": "/keyboard/second"}))
    with console.visit("olga") as visit:
        page = visit.page
        expect(row_with(page, "/keyboard/second")).to_be_visible()
        for path in ("/keyboard/first", "/keyboard/second"):
            while path not in page.evaluate("document.activeElement.closest('a.call')?.textContent ?? ''"):
                page.keyboard.press("j")
            if path.endswith("first"):
                page.keyboard.press("a")
                expect(row_with(page, path)).to_contain_text("olga approved")
                expect(row_with(page, path)).to_contain_text("The run goes on.")
        page.keyboard.press("r")
        page.keyboard.type("it is still needed")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(row_with(page, "/keyboard/second")).to_contain_text("olga rejected")
    assert console.status_of(approved)["status"] == "COMPLETED"
    assert "it is still needed" in str(console.status_of(rejected))


def test_a_form_with_choices_and_a_date_says_what_is_wrong_and_becomes_the_call_s_arguments(console: Console) -> None:
    run = console.start(("refund", REFUND))
    with console.visit("olga", console.path_of(run)) as visit:
        page = visit.page
        page.get_by_label("amount").fill("600")
        page.get_by_role("button", name="Send the answers").click()
        expect(page.get_by_text("At most 500.")).to_be_visible()
        expect(page.get_by_label("amount")).to_be_focused()
        page.get_by_label("amount").fill("12.50")
        page.get_by_label("method").select_option("bank transfer")
        page.get_by_label("on", exact=True).fill("2026-12-24")
        page.get_by_label("notify").check()
        page.get_by_label("booking").fill("{not json")
        page.get_by_role("button", name="Send the answers").click()
        expect(page.get_by_text("This is not JSON")).to_be_visible()
        page.get_by_label("booking").fill('{"4711": 12}')
        page.get_by_role("button", name="Send the answers").click()
        expect(page.locator("#run-status")).to_contain_text("The run")
        expect(page.locator("#status")).to_contain_text("olga answered")
    result = str(console.status_of(run))
    assert "refunded Zoë 12.5 by bank transfer on 2026-12-24, True, None, {'4711': 12}" in result


def test_an_edit_is_shown_as_a_diff_before_it_is_sent(console: Console) -> None:
    run = console.start(("restart", {"service": "nginx", "reason": "It answers 502 since noon."}))
    with console.visit("olga", console.path_of(run)) as visit:
        page = visit.page
        expect(page.locator(".changes")).to_be_empty()
        page.get_by_label("reason").fill("It answers 503 since noon.")
        page.get_by_label("service").select_option("redis")
        expect(page.locator(".changes del")).to_have_text(["nginx", "502"])
        expect(page.locator(".changes ins")).to_have_text(["redis", "503"])
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#status")).to_contain_text("olga approved")
    assert "restarted redis: It answers 503 since noon." in str(console.status_of(run))


def test_a_result_and_an_answer_in_words_reach_the_agent(console: Console) -> None:
    shell = console.start(("run_shell", {"command": "uptime"}))
    question = console.start(("ask", {"question": "Which one?"}))
    with console.visit("olga", console.path_of(shell)) as visit:
        page = visit.page
        page.get_by_role("button", name="Send the result").click()
        expect(page.get_by_text("Write the result.")).to_be_visible()
        page.get_by_label("Result", exact=True).fill("up 3 days")
        page.get_by_role("button", name="Send the result").click()
        expect(page.locator("#status")).to_contain_text("olga answered")
        page.goto(console.path_of(question))
        page.get_by_label("Your answer").fill("the one in Dublin")
        page.get_by_role("button", name="Send the answer").click()
        expect(page.locator("#status")).to_contain_text("olga answered")
    assert "up 3 days" in str(console.status_of(shell))
    assert "the one in Dublin" in str(console.status_of(question))


def test_of_two_people_at_once_the_slower_one_sees_in_place_who_was_faster(console: Console) -> None:
    run = console.start(("delete_file", {"path": "/race"}))
    path = console.path_of(run)
    with console.visit("olga") as visit:
        page = visit.page
        # Its stream is cut: it cannot know before it sends.
        page.route("**/inbox/events**", lambda route: route.abort())
        page.goto(path)
        expect(page.get_by_role("button", name="Approve")).to_be_visible()
        console.request("POST", f"/inbox/{path.rsplit('/', 1)[-1]}/decide", "ben", json={"decision": "reject"})
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#status")).to_contain_text("ben rejected")
        expect(page.locator("#status")).to_contain_text("you were not first")
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    assert console.status_of(run)["status"] == "COMPLETED"


def test_markup_in_any_text_appears_as_text(console: Console) -> None:
    run = console.start(("ask", {"question": f"{XSS}\u202e"}))
    console.start(("restart", {"service": "nginx", "reason": XSS}))
    with console.visit("olga") as visit:
        page = visit.page
        for path in ("/console", console.path_of(run)):
            page.goto(path)
            expect(page.get_by_text(XSS).first).to_be_visible()
            assert page.locator("main img").count() == 0
            assert page.title() != "xss"


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.full)])
def test_axe_finds_nothing_on_any_page(console: Console, scheme: str) -> None:
    run = console.start(("refund", REFUND))
    paths = [
        "/console",
        "/console?tab=others",
        "/console?agent_id=nobody",
        console.path_of(run),
        "/console/requests/none",
    ]
    found = {}
    with console.visit("olga", paths[0], scheme) as visit:  # type: ignore[arg-type]
        for path in paths:
            visit.page.goto(path)
            visit.page.wait_for_selector("main :is(.row, .notice, #note)")
            found[path] = visit.axe()
    with console.visit(None, "/console/sign-in", scheme) as visit:  # type: ignore[arg-type]
        for path in ("/console/sign-in", "/console/login?code=x"):
            visit.page.goto(path)
            found[path] = visit.axe()
            assert not urlsplit(visit.page.url).query
    assert found == {path: [] for path in found}
