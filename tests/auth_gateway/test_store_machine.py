"""Any sequence of statements, by any number of processes, keeps to the transitions: a state machine over PostgreSQL.

One authentication for each example. Every statement is tried at any time, with arguments that fit and that do not; a
model says whether it may happen.
"""

import asyncio
import datetime
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from deploy.local import database as local
from mesh import postgres
from mesh.names import new_id
from services.auth_gateway.authentication import ERASED, OPEN, TRANSITIONS, Authentication, Scores, State, Verdict
from services.auth_gateway.consent_store import ConsentStore
from services.auth_gateway.store import Store
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION
from tests.auth_gateway.room import store_over
from tests.auth_gateway.test_store import AT, EXPIRES_AT, add, new
from tests.bundles import digest_of

pytestmark = pytest.mark.postgres

LEASE_S = 20
NAMES = st.sampled_from(["a" * 26, "b" * 26])
LAST = st.just("") | NAMES
SECRETS = st.sampled_from([digest_of("one"), digest_of("two")])


class Machine(RuleBasedStateMachine):
    """What may happen to one authentication, and what must not."""

    runner: asyncio.Runner
    store: Store
    consents_given: ConsentStore

    def __init__(self) -> None:
        super().__init__()
        item = new(new_id())
        self.name = self.runner.run(add(self.store, item))
        self.now = AT
        self.state = State.AWAITING_CONSENTS
        self.session = self.challenge = ""
        self.lease_ends_at: datetime.datetime | None = None
        self.holds: list[datetime.datetime] = [AT]  # leases that some process believes to have
        self.capture: bytes | None = None
        self.code: bytes | None = None
        self.read_at: datetime.datetime | None = None
        self.given_at: datetime.datetime | None = None
        self.withdrawn_at: datetime.datetime | None = None
        self.seen: list[Authentication] = [item]

    def happens(self, happened: bool, expected: bool, to: State | None = None) -> bool:
        assert happened is expected
        if happened and to is not None:
            self.state = to
        return happened

    @property
    def in_time(self) -> bool:
        return self.now < EXPIRES_AT

    @initialize(steps=st.integers(0, 6), succeeds=st.booleans())
    def has_come_so_far(self, steps: int, succeeds: bool) -> None:
        """Begin anywhere on the way, so that few steps see much of it."""
        one = "a" * 26
        way: tuple[Callable[[], None], ...] = (
            self.consents,
            lambda: self.starts_liveness(one, self.session),
            lambda: self.passes_biometrics(one),
            lambda: self.sends_code(one),
            lambda: self.passes_code(one),
            lambda: self.completes_with(self.holds[-1], succeeds),
        )
        for step in way[:steps]:
            step()
            self.keeps_to_the_transitions()

    @rule(seconds=st.sampled_from([1, 5, LEASE_S, 200]))
    def time_passes(self, seconds: int) -> None:
        self.now += datetime.timedelta(seconds=seconds)

    @rule()
    def consents(self) -> None:
        happened = self.runner.run(self.store.give_consents(self.name, self.now))
        fits = self.state is State.AWAITING_CONSENTS and self.in_time
        if self.happens(happened, fits, State.AWAITING_LIVENESS):
            self.given_at = self.now

    @rule(application=st.sampled_from([APPLICATION, ANOTHER_APPLICATION]))
    def withdraws(self, application: str) -> None:
        consent = f"consents/{self.name.removeprefix('authentications/')}-personal-data"
        happened = self.runner.run(self.consents_given.withdraw_by_application(consent, application, self.now))
        fits = self.given_at is not None and self.withdrawn_at is None and application == APPLICATION
        if self.happens(happened, fits):
            self.withdrawn_at = self.now
            if self.state in OPEN | {State.COMPLETING}:
                self.state = State.FINISHED

    @rule(session=NAMES, known=LAST)
    def starts_liveness(self, session: str, known: str) -> None:
        happened = self.runner.run(self.store.start_liveness(self.name, session, self.now, known=known))
        follows = self.session in {session, known}
        if self.happens(happened, self.state is State.AWAITING_LIVENESS and self.in_time and follows):
            self.session = session

    @rule(session=NAMES)
    def face_does_not_match(self, session: str) -> None:
        happened = self.runner.run(self.store.drop_liveness(self.name, session))
        if self.happens(happened, self.state is State.AWAITING_LIVENESS and self.session == session):
            self.session = ""

    @rule(session=NAMES)
    def passes_biometrics(self, session: str) -> None:
        happened = self.runner.run(
            self.store.pass_biometrics(self.name, session, ("live", "match"), Scores(), self.now)
        )
        fits = self.state is State.AWAITING_LIVENESS and self.session == session and self.in_time
        self.happens(happened, fits, State.AWAITING_CODE)

    @rule(session=NAMES)
    def passes_biometrics_alone(self, session: str) -> None:
        ends_at = self.now + datetime.timedelta(seconds=LEASE_S)
        happened = self.runner.run(
            self.store.pass_biometrics_alone(self.name, session, ("live", "match"), Scores(), self.now, ends_at)
        )
        fits = self.state is State.AWAITING_LIVENESS and self.session == session and self.in_time
        if self.happens(happened, fits, State.COMPLETING):
            self.lease_ends_at = ends_at
            self.holds.append(ends_at)

    @rule(challenge=NAMES)
    def sends_code(self, challenge: str) -> None:
        happened = self.runner.run(self.store.send_code(self.name, challenge, self.now))
        if self.happens(happened, self.state is State.AWAITING_CODE and self.in_time):
            self.challenge = challenge

    @rule(state=st.sampled_from(State), session=st.none() | LAST)
    def fails(self, state: State, session: str | None) -> None:
        happened = self.runner.run(self.store.fail(self.name, state, "LIVENESS_FAILED", self.now, session))
        fits = self.state is state and state in {State.AWAITING_LIVENESS, State.AWAITING_CODE}
        fits = fits and session in {None, self.session}
        self.happens(happened, fits, State.FINISHED)

    @rule(challenge=NAMES)
    def passes_code(self, challenge: str) -> None:
        ends_at = self.now + datetime.timedelta(seconds=LEASE_S)
        happened = self.runner.run(self.store.pass_code(self.name, challenge, "otp", self.now, ends_at))
        fits = self.state is State.AWAITING_CODE and self.challenge == challenge and self.in_time
        if self.happens(happened, fits, State.COMPLETING):
            self.lease_ends_at = ends_at
            self.holds.append(ends_at)

    @rule()
    def leases(self) -> None:
        ends_at = self.now + datetime.timedelta(seconds=LEASE_S)
        happened = self.runner.run(self.store.lease(self.name, self.now, ends_at))
        free = self.lease_ends_at is None or self.lease_ends_at <= self.now
        if self.happens(happened, self.state is State.COMPLETING and free):
            self.lease_ends_at = ends_at
            self.holds.append(ends_at)

    @rule(data=st.data())
    def releases_lease(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.holds))
        self.runner.run(self.store.release_lease(self.name, held))
        if self.state is State.COMPLETING and self.lease_ends_at == held:
            self.lease_ends_at = None

    @rule(data=st.data(), succeeds=st.booleans())
    def completes(self, data: st.DataObject, succeeds: bool) -> None:
        self.completes_with(data.draw(st.sampled_from(self.holds)), succeeds)

    def completes_with(self, held: datetime.datetime, succeeds: bool) -> None:
        ends = (
            self.store.succeed(self.name, held, "", {"iin": "x"}, self.now)
            if succeeds
            else self.store.refuse(self.name, held, "OPERATION_REFUSED", self.now)
        )
        fits = self.state is State.COMPLETING and self.lease_ends_at == held
        self.happens(self.runner.run(ends), fits, State.FINISHED)

    @rule()
    def cancels(self) -> None:
        self.happens(self.runner.run(self.store.cancel(self.name)), self.state in OPEN, State.CANCELLED)

    @rule()
    def expires(self) -> None:
        self.runner.run(self.store.expire(self.now))
        if self.state in OPEN and not self.in_time:
            self.state = State.EXPIRED

    @rule(session=SECRETS)
    def opens_page(self, session: bytes) -> None:
        opened = self.runner.run(self.store.open_capture(digest_of(self.name), session, self.now))
        over = self.state in {State.CANCELLED, State.EXPIRED} or not self.in_time
        if self.happens(opened == self.name, self.capture is None and not over):
            self.capture = session

    @rule(code=SECRETS)
    def sends_person_back(self, code: bytes) -> None:
        happened = self.runner.run(self.store.set_result_code(self.name, code))
        if self.happens(happened, self.state is State.FINISHED and self.read_at is None):
            self.code = code

    @rule(code=SECRETS)
    def reads_result(self, code: bytes) -> None:
        window = datetime.timedelta(seconds=5)
        happened = self.runner.run(self.store.read_result_by_code(self.name, code, self.now, self.now - window))
        again = self.read_at is None or self.read_at > self.now - window
        if self.happens(happened, self.state is State.FINISHED and self.code == code and again):
            self.read_at = self.read_at or self.now

    @invariant()
    def keeps_to_the_transitions(self) -> None:
        current = self.runner.run(self.store.get(self.name))
        assert current is not None
        before = self.seen[-1]
        assert current.state is self.state
        assert current.state is before.state or current.state in TRANSITIONS[before.state]
        assert (current.state is State.FINISHED) is (current.verdict is not None)
        if before.verdict is not None:  # once said, for good
            assert (current.verdict, current.reason) == (before.verdict, before.reason)
            assert current.person == (before.person if self.withdrawn_at is None else {})
        assert bool(current.person) is (current.verdict is Verdict.SUCCESS and self.withdrawn_at is None)
        assert (current.openings == ERASED) is (self.withdrawn_at is not None)
        assert current.consent_withdrawn_at == self.withdrawn_at
        assert current.result_read_at == self.read_at
        given = self.runner.run(self.consents_given.of_authentication(self.name))
        said = [(record.given_at, record.withdrawn_at) for record in given]
        assert said == ([] if self.given_at is None else [(self.given_at, self.withdrawn_at)])
        self.seen.append(current)


def test_no_sequence_of_statements_leaves_the_transitions(made: local.Database) -> None:
    with asyncio.Runner() as runner:
        opened = runner.run(postgres.Database.open(made.url("auth_gateway"), service="test"))
        stores = {"store": store_over(opened), "consents_given": ConsentStore(opened)}
        bound = type("BoundMachine", (Machine,), {"runner": runner} | stores)
        try:
            run_state_machine_as_test(bound, settings=settings(max_examples=100, stateful_step_count=25, deadline=None))
        finally:
            runner.run(opened.close())
