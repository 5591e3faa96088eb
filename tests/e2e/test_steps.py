"""One authentication step by step over REST: a live person passes, a replayed recording of her does not."""

import asyncio
import base64
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from deploy.demo import screen
from deploy.demo.__main__ import surroundings
from deploy.demo.camera import Frame, Person, Step, show
from deploy.demo.hosted import submit_on_page
from deploy.demo.person import SamplePerson
from deploy.demo.phone import Phone
from deploy.demo.replay import ReplayPerson
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import Browser, CallRefusedError, Participant, Pkce
from deploy.demo.walk import Surroundings
from deploy.local.assets.prepare import default_folder
from deploy.local.state import READY_FILE
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def given(mesh: RunningMesh) -> Surroundings:
    return surroundings(mesh.folder, json.loads((mesh.folder / "run" / READY_FILE).read_text()))


async def begun(bank: Participant, given: Surroundings) -> dict[str, Any]:
    body = {
        "requestId": secrets.token_hex(16),
        "subject": {"iin": given.live.iin, "phone": given.live.phone},
        "channel": "CHANNEL_STEPS",
        "scopes": ["SCOPE_NAME"],
    }
    return await bank.call("POST", "/v1/authentications", body)


async def attempt(bank: Participant, name: str, person: Person) -> Step:
    async def submit(frames: Sequence[Frame], flash_started_at_ms: int) -> Step:
        body = [
            {"jpeg": base64.b64encode(frame.jpeg).decode(), "capturedAtMs": str(frame.captured_at_ms)}
            for frame in frames
        ]
        sent = {"frames": body, "flashStartedAtMs": str(flash_started_at_ms)}
        return await bank.call("POST", f"/v1/{name}:submitFrames", sent)

    first = await bank.call("POST", f"/v1/{name}:startLiveness", {})
    return await show(person, first, submit, lambda _step: None)


async def attempts(bank: Participant, name: str, person: Person) -> Step:
    """As many attempts as she has: a first one fails now and then, as people's do."""
    step = await attempt(bank, name, person)
    while step["state"] == "LIVENESS_STATE_FAILED" and step["attemptsLeft"]:
        step = await attempt(bank, name, person)
    return step


async def refusal(call: Any) -> str:
    with pytest.raises(CallRefusedError) as caught:
        await call
    return caught.value.reason


def as_bank(given: Surroundings, act: Callable[[Participant], Any]) -> None:
    async def run() -> None:
        bank = await Participant.login(given.edge, RequestLog(), given.client_id, given.client_secret)
        try:
            await act(bank)
        finally:
            await bank.close()

    asyncio.run(run())


def test_a_live_person_passes_each_step_in_its_order_only(given: Surroundings) -> None:
    async def act(bank: Participant) -> None:
        created = await begun(bank, given)
        name = created["name"]
        assert created["captureUri"] == ""
        assert await refusal(bank.call("POST", f"/v1/{name}:startLiveness", {})) == "WRONG_STATE"
        assert await refusal(bank.call("POST", f"/v1/{name}:sendCode", {})) == "WRONG_STATE"
        some = [{"id": created["consents"][0]["id"], "version": created["consents"][0]["version"]}]
        assert await refusal(bank.call("POST", f"/v1/{name}:giveConsents", {"consents": some})) == "CONSENTS_DIFFER"
        every = [{"id": item["id"], "version": item["version"]} for item in created["consents"]]
        await bank.call("POST", f"/v1/{name}:giveConsents", {"consents": every})
        assert (await attempts(bank, name, given.camera()))["state"] == "LIVENESS_STATE_PASSED"
        assert await refusal(bank.call("POST", f"/v1/{name}:verifyCode", {"code": "000000"})) == "WRONG_STATE"
        phone = Phone(given.live.phone, given.outbox)
        await bank.call("POST", f"/v1/{name}:sendCode", {})
        code, _ = await phone.next_code()
        wrong = f"{(int(code) + 1) % 1_000_000:06d}"
        assert await refusal(bank.call("POST", f"/v1/{name}:verifyCode", {"code": wrong})) == "CODE_WRONG"
        assert await refusal(bank.call("POST", f"/v1/{name}:readResult", {})) == "WRONG_STATE"
        assert await refusal(bank.call("GET", f"/v1/{name}/evidence")) == "RESULT_NOT_READ"
        finished = await bank.call("POST", f"/v1/{name}:verifyCode", {"code": code})
        assert finished["state"] == "AUTHENTICATION_STATE_FINISHED"
        result = await bank.call("POST", f"/v1/{name}:readResult", {})
        assert result["verdict"] == "VERDICT_SUCCESS"
        assert result["person"]["familyName"]
        assert not result["person"]["birthDate"]
        evidence = await bank.call("GET", f"/v1/{name}/evidence")
        assert (len(evidence["bundle"]["receipts"]), evidence["bundle"]["openings"]["iin"]) == (4, given.live.iin)
        await withdrawn(bank, name, result["consentReceipt"])

    as_bank(given, act)


async def withdrawn(bank: Participant, name: str, receipt: str) -> None:
    """She tells her bank that she takes her consent back: what was released is not given out again."""
    assert (await bank.call("GET", f"/v1/{name}/consentReceipt"))["consentReceipt"] == receipt
    listed = await bank.call("GET", "/v1/consents?pageSize=2&filter=CONSENT_FILTER_LIVE")
    assert [item["authentication"] for item in listed["consents"]] == [name, name]
    consent = f"consents/{name.removeprefix('authentications/')}-personal-data"
    ended = await bank.call("POST", f"/v1/{consent}:withdraw", {})
    assert ended == await bank.call("GET", f"/v1/{consent}")
    assert ended["withdrawnBy"] == "WITHDRAWN_BY_APPLICATION"
    result = await bank.call("POST", f"/v1/{name}:readResult", {})
    assert result["verdict"] == "VERDICT_SUCCESS"
    assert result["consentWithdrawTime"] == ended["withdrawTime"]
    assert not result.get("person")
    evidence = await bank.call("GET", f"/v1/{name}/evidence")
    assert (len(evidence["bundle"]["receipts"]), evidence["bundle"].get("openings")) == (4, None)


def test_a_replayed_recording_is_refused_after_three_attempts(given: Surroundings) -> None:
    async def act(bank: Participant) -> None:
        created = await begun(bank, given)
        name = created["name"]
        every = [{"id": item["id"], "version": item["version"]} for item in created["consents"]]
        await bank.call("POST", f"/v1/{name}:giveConsents", {"consents": every})
        person = ReplayPerson(default_folder())
        steps = [await attempt(bank, name, person) for _ in range(3)]
        assert [step["state"] for step in steps] == ["LIVENESS_STATE_FAILED"] * 3
        assert [step["attemptsLeft"] for step in steps] == [2, 1, 0]
        assert await refusal(bank.call("POST", f"/v1/{name}:startLiveness", {})) == "WRONG_STATE"
        result = await bank.call("POST", f"/v1/{name}:readResult", {})
        assert (result["verdict"], result["reason"]) == ("VERDICT_FAILURE", "LIVENESS_FAILED")
        assert not result.get("person")

    as_bank(given, act)


def test_nobody_learns_who_exists_from_creating(given: Surroundings) -> None:
    async def act(bank: Participant) -> None:
        shapes = set()
        for iin in (given.live.iin, "050101500010", "000000000000"):
            body = {
                "requestId": secrets.token_hex(16),
                "subject": {"iin": iin, "phone": given.live.phone},
                "channel": "CHANNEL_STEPS",
            }
            created = await bank.call("POST", "/v1/authentications", body)
            shapes.add((created["state"], tuple(sorted(created))))
            await bank.call("POST", f"/v1/{created['name']}:cancel", {})
        assert len(shapes) == 1

    as_bank(given, act)


def test_another_applications_and_unknown_names_are_not_found_and_bad_input_names_its_fields(
    given: Surroundings,
) -> None:
    async def act(bank: Participant) -> None:
        unknown = f"authentications/{'a' * 26}"
        assert await refusal(bank.call("GET", f"/v1/{unknown}")) == "AUTHENTICATION_NOT_FOUND"
        assert await refusal(bank.call("POST", "/v1/authentications", {"requestId": "x"})) == "INVALID_REQUEST"
        foreign = {
            "requestId": secrets.token_hex(16),
            "subject": {"iin": given.live.iin, "phone": given.live.phone},
            "channel": "CHANNEL_HOSTED",
            "returnTo": {"redirectUri": "https://evil.example/", "codeChallenge": "a" * 43},
        }
        assert await refusal(bank.call("POST", "/v1/authentications", foreign)) == "INVALID_REQUEST"

    as_bank(given, act)


def test_recording_that_the_screens_colours_do_not_light_is_refused_on_the_hosted_page(given: Surroundings) -> None:
    """It answers every prompt as she does; then the page's screen shows colours, and nothing on it changes."""

    async def act(bank: Participant) -> None:
        pkce = Pkce()
        body = {
            "requestId": secrets.token_hex(16),
            "subject": {"iin": given.live.iin, "phone": given.live.phone},
            "channel": "CHANNEL_HOSTED",
            "scopes": ["SCOPE_NAME"],
            "returnTo": {"redirectUri": given.redirect_uri, "state": "s", "codeChallenge": pkce.challenge},
        }
        created = await bank.call("POST", "/v1/authentications", body)
        browser, page = await Browser.open(given.edge, RequestLog(), created["captureUri"])
        asked: list[Step] = []
        try:
            consents = [{"id": item["id"], "version": item["version"]} for item in page["consents"]]
            await browser.call("POST", "/v1/capture:giveConsents", {"consents": consents})
            recording, left = SamplePerson(default_folder(), lit=screen.nowhere), 3
            while not asked or asked[-1]["prompt"] != "PROMPT_WATCH_COLOURS":  # failed before them, as people do
                assert left
                first = await browser.call("POST", "/v1/capture:startLiveness", {})
                asked.clear()
                ended = await show(recording, first, lambda *filmed: submit_on_page(browser, *filmed), asked.append)
                left -= 1
            assert await refusal(browser.call("POST", "/v1/capture:sendCode", {})) == "WRONG_STATE"
        finally:
            await browser.close()
        assert (asked[-1]["prompt"], len(asked[-1]["flash"]["colours"])) == ("PROMPT_WATCH_COLOURS", 6)
        assert not any(step.get("flash") for step in asked[:-1])
        assert (ended["state"], ended["hint"], ended["attemptsLeft"]) == (
            "LIVENESS_STATE_FAILED",
            "HINT_UNSPECIFIED",
            left,
        )

    as_bank(given, act)
