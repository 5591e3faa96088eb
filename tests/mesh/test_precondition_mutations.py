"""Valid bundles, changed at random: each is refused, unless what it says is still the same, byte for byte."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh import base64url
from mesh.facts import Factor
from mesh.precondition import Grant, PreconditionError
from mesh.transaction import Openings, Purpose, TransactionError, txn_of
from tests.bundles import NOW, SentBundle, World, factors_of

WORLD = World()
STRANGER = World()
BUNDLES = {purpose: WORLD.bundle(purpose, attested=True) for purpose in Purpose}
# Of the same person and purposes, as valid as the others: their parts are what an attacker would mix in.
OTHERS = {purpose: WORLD.bundle(purpose, attested=True) for purpose in Purpose}
GRANTS = {purpose: bundle.authorize() for purpose, bundle in BUNDLES.items()}

Mutation = Callable[[st.DataObject, SentBundle], SentBundle]


def changed_bytes(data: st.DataObject, original: bytes) -> bytes:
    """One to four bytes replaced, removed or inserted."""
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4), label="edits")):
        at = data.draw(st.integers(0, len(mutated) - 1), label="at")
        match data.draw(st.sampled_from(("replace", "remove", "insert")), label="edit"):
            case "replace":
                mutated[at] ^= data.draw(st.integers(1, 255))
            case "remove":
                del mutated[at]
            case _:
                mutated.insert(at, data.draw(st.integers(0, 255)))
    return bytes(mutated)


def transaction_bytes_changed(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    return replace(bundle, transaction_bytes=changed_bytes(data, bundle.transaction_bytes))


def transaction_field_of_another(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    name = data.draw(st.sampled_from(["nonce", "authentication", "credential", "documents", "application", "purpose"]))
    source = OTHERS[data.draw(st.sampled_from(list(Purpose)))].transaction
    try:
        mixed = replace(bundle.transaction, **{name: getattr(source, name)})
    except TransactionError:
        mixed = source
    mixed = replace(mixed, expires_at=NOW + data.draw(st.integers(1, 600)))
    return replace(bundle, transaction_bytes=mixed.encode())


def receipt_bytes_changed(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    tokens = list(bundle.tokens)
    at = data.draw(st.integers(0, len(tokens) - 1))
    tokens[at] = changed_bytes(data, tokens[at].encode()).decode("latin-1")
    return replace(bundle, tokens=tuple(tokens))


def receipt_claim_changed(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    """A member of the header or claims changed, the old signature kept."""
    tokens = list(bundle.tokens)
    at = data.draw(st.integers(0, len(tokens) - 1))
    parts = tokens[at].split(".")
    part = data.draw(st.integers(0, 1))
    members: dict[str, Any] = json.loads(base64url.decode(parts[part]))
    name = data.draw(st.sampled_from(sorted(members)))
    members[name] = data.draw(
        st.one_of(st.integers(0, 2**53), st.text(max_size=8), st.sampled_from(list(members.values())), st.booleans())
    )
    parts[part] = base64url.encode(json.dumps(members, sort_keys=True, separators=(",", ":")).encode())
    tokens[at] = ".".join(parts)
    return replace(bundle, tokens=tuple(tokens))


def receipts_left_out(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    kept = data.draw(st.lists(st.sampled_from(bundle.tokens), unique=True, max_size=len(bundle.tokens) - 1))
    return replace(bundle, tokens=tuple(kept))


def receipts_repeated(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    return bundle.also(*data.draw(st.lists(st.sampled_from(bundle.tokens), min_size=1, max_size=3)))


def one_receipt_for_another(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    tokens = list(bundle.tokens)
    one, other = data.draw(st.permutations(range(len(tokens))))[:2]
    tokens[one] = tokens[other]
    return replace(bundle, tokens=tuple(tokens))


def receipts_of_another_transaction(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    factors = data.draw(st.lists(st.sampled_from(list(bundle.receipts)), min_size=1, unique=True))
    other = OTHERS[bundle.purpose]
    return bundle.without(*factors).also(*(other.receipts[factor] for factor in factors))


def receipts_of_another_world(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    """The same facts about the same transaction, signed by keys that nobody pinned, under the pinned keys' names."""
    factors = data.draw(st.lists(st.sampled_from(list(bundle.receipts)), min_size=1, unique=True))
    keys = {factor: STRANGER.signer_of(factor).key for factor in factors}
    forged = WORLD.bundle(bundle.purpose, transaction={"nonce": bundle.transaction.nonce}, keys=keys, attested=True)
    return replace(bundle, tokens=forged.tokens, transaction_bytes=forged.transaction_bytes)


def parts_swapped_between_receipts(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    tokens = [token.split(".") for token in bundle.tokens]
    one, other = data.draw(st.permutations(range(len(tokens))))[:2]
    part = data.draw(st.integers(0, 2))
    tokens[one][part], tokens[other][part] = tokens[other][part], tokens[one][part]
    return replace(bundle, tokens=tuple(".".join(parts) for parts in tokens))


def openings_changed(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    openings = bundle.openings
    changed = Openings(
        iin=data.draw(st.one_of(st.just(openings.iin), st.from_regex(r"[0-9]{12}", fullmatch=True))),
        iin_salt=data.draw(st.one_of(st.just(openings.iin_salt), st.binary(min_size=32, max_size=32))),
        phone=data.draw(st.one_of(st.just(openings.phone), st.from_regex(r"\+[1-9][0-9]{10}", fullmatch=True))),
        phone_salt=data.draw(st.one_of(st.just(openings.phone_salt), st.binary(min_size=32, max_size=32))),
    )
    return replace(bundle, openings=changed)


def at_another_time(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    if Factor.SMS_OTP in bundle.receipts:
        early = st.integers(0, NOW - 16)  # the key attestation or the code is then dated more than 5 s ahead
        late = st.integers(NOW + 111, NOW + 10**9)  # the code is then older than 120 s
    else:
        early = st.integers(0, NOW - 3600)  # everything is then dated ahead
        late = st.integers(NOW + 601, NOW + 10**9)  # every receipt is then older than the 10 minutes that one lives
    return replace(bundle, now=data.draw(st.one_of(early, late)))


def for_another_purpose(data: st.DataObject, bundle: SentBundle) -> SentBundle:
    other = data.draw(st.sampled_from([purpose for purpose in Purpose if purpose is not bundle.purpose]))
    return replace(bundle, purpose=other, now=NOW + data.draw(st.integers(0, 60)))


MUTATIONS: tuple[Mutation, ...] = (
    transaction_bytes_changed,
    transaction_field_of_another,
    receipt_bytes_changed,
    receipt_claim_changed,
    receipts_left_out,
    receipts_repeated,
    one_receipt_for_another,
    receipts_of_another_transaction,
    receipts_of_another_world,
    parts_swapped_between_receipts,
    openings_changed,
    at_another_time,
    for_another_purpose,
)


def says_the_same(one: SentBundle, other: SentBundle) -> bool:
    return (one.purpose, one.transaction_bytes, one.openings, set(one.tokens), len(one.tokens), one.now) == (
        other.purpose,
        other.transaction_bytes,
        other.openings,
        set(other.tokens),
        len(other.tokens),
        other.now,
    )


def authorize(bundle: SentBundle) -> Grant | None:
    try:
        return bundle.authorize()
    except PreconditionError:
        return None


# 13 kinds x at least 80 refused: more than 1,000 changed bundles a run.
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_changed_bundle_is_refused(mutate: Mutation) -> None:
    refused = 0

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(data=st.data(), purpose=st.sampled_from(Purpose))
    def run(data: st.DataObject, purpose: Purpose) -> None:
        nonlocal refused
        valid = BUNDLES[purpose]
        changed = mutate(data, valid)
        grant = authorize(changed)
        if says_the_same(changed, valid):
            assert grant == GRANTS[purpose]
        else:
            assert grant is None
            refused += 1

    run()
    assert refused >= 80


@settings(max_examples=300, deadline=None)
@given(data=st.data(), purpose=st.sampled_from(Purpose))
def test_two_changes_do_not_make_up_for_each_other(data: st.DataObject, purpose: Purpose) -> None:
    valid = BUNDLES[purpose]
    # The mutations of a bundle's own parts; those that build on another bundle would undo the first change.
    own = (transaction_bytes_changed, receipt_bytes_changed, receipts_repeated, openings_changed, at_another_time)
    changed = valid
    for mutate in data.draw(st.lists(st.sampled_from(own), min_size=2, max_size=4)):
        changed = mutate(data, changed)
    grant = authorize(changed)
    assert (grant == GRANTS[purpose]) if says_the_same(changed, valid) else (grant is None)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), purpose=st.sampled_from(Purpose))
def test_receipts_in_any_order_give_the_same_grant(data: st.DataObject, purpose: Purpose) -> None:
    bundle = BUNDLES[purpose]
    shuffled = replace(bundle, tokens=tuple(data.draw(st.permutations(bundle.tokens))))
    assert shuffled.authorize() == GRANTS[purpose]


@settings(max_examples=300, deadline=None)
@given(junk=st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))))
def test_junk_among_the_receipts_is_refused_and_never_an_error_of_another_kind(junk: str) -> None:
    bundle = BUNDLES[Purpose.SIGN]
    for tokens in ((junk,), (*bundle.tokens, junk), (*bundle.tokens[1:], junk), (f"{junk}.{junk}.{junk}",)):
        assert authorize(replace(bundle, tokens=tokens)) is None


@settings(max_examples=300, deadline=None)
@given(junk=st.binary(max_size=300))
def test_junk_as_a_transaction_is_refused_and_never_an_error_of_another_kind(junk: bytes) -> None:
    bundle = BUNDLES[Purpose.SIGN]
    assert txn_of(junk) != bundle.txn
    assert authorize(replace(bundle, transaction_bytes=junk)) is None


def test_the_bundles_that_are_changed_are_themselves_valid() -> None:
    for purpose, bundle in BUNDLES.items():
        assert set(factors_of(purpose)) <= set(bundle.receipts)
        assert (Factor.SMS_OTP in bundle.receipts) is (purpose is not Purpose.SUSPEND)
        assert bundle.authorize()
