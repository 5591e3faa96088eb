"""Certificates of the mesh: each names one service, renewed when they run out or were half made."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from deploy.local.certificates import Identity, mesh_identities, web_identity
from deploy.local.state import State

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def uris(identity: Identity) -> list[str]:
    names = load(identity.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def test_each_certificate_names_its_service_and_is_of_the_mesh_root(own_state: State) -> None:
    identities = mesh_identities(own_state, ["auth_gateway", "signer"], NOW)
    assert uris(identities["auth_gateway"]) == ["spiffe://finid/auth_gateway"]
    assert uris(identities["signer"]) == ["spiffe://finid/signer"]
    root = load(identities["signer"].root)
    verifier = (
        PolicyBuilder().store(Store([root])).time(NOW).build_server_verifier(x509.DNSName("signer.finid.internal"))
    )
    verifier.verify(load(identities["signer"].certificate), [])


def test_a_key_is_readable_by_its_owner_only(own_state: State) -> None:
    identity = mesh_identities(own_state, ["otp"], NOW)["otp"]
    assert identity.key.stat().st_mode & 0o777 == 0o400


def test_the_web_certificate_is_of_another_root(own_state: State) -> None:
    inside = mesh_identities(own_state, ["envoy"], NOW)["envoy"]
    web = web_identity(own_state, NOW)
    assert web.root != inside.root
    with pytest.raises(ValueError, match="issuer"):
        load(web.certificate).verify_directly_issued_by(load(inside.root))


def test_a_second_start_keeps_what_is_good(own_state: State) -> None:
    first = load(mesh_identities(own_state, ["otp"], NOW)["otp"].certificate)
    assert load(mesh_identities(own_state, ["otp"], NOW)["otp"].certificate) == first


@pytest.mark.parametrize("lost", ["otp.key", "otp.pem"])
def test_a_half_made_certificate_is_made_again(own_state: State, lost: str) -> None:
    first = mesh_identities(own_state, ["otp"], NOW)["otp"]
    made = load(first.certificate)
    (own_state.folder / "tls" / lost).unlink()
    assert load(mesh_identities(own_state, ["otp"], NOW)["otp"].certificate) != made


def test_a_certificate_about_to_run_out_is_renewed(own_state: State) -> None:
    first = load(mesh_identities(own_state, ["otp"], NOW)["otp"].certificate)
    later = mesh_identities(own_state, ["otp"], NOW + timedelta(days=380))["otp"]
    assert load(later.certificate).not_valid_after_utc > first.not_valid_after_utc


def test_a_lost_root_renews_everything_under_it(own_state: State) -> None:
    mesh_identities(own_state, ["otp"], NOW)
    (own_state.folder / "tls" / "mesh-root.key").unlink()
    again = mesh_identities(own_state, ["otp"], NOW)["otp"]
    load(again.certificate).verify_directly_issued_by(load(again.root))
