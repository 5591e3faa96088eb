"""Settings of the documents room: where objects go, and what is refused by name."""

from pathlib import Path

import pytest
from obstore.store import LocalStore, S3Store

from services.documents.settings import DocumentsSettings
from tests.mtls import Authority


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with which the room starts, on a folder."""
    certificate, key = Authority(tmp_path).issue("documents")
    for name, content in (("url", "postgresql://"), ("field", "A" * 43), ("receipt", "pem"), ("secret", "s")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    (tmp_path / "objects").mkdir()
    environment = {
        "FINID_ENV": "sandbox",
        "FINID_LISTEN": "127.0.0.1:1",
        "FINID_HEALTH_LISTEN": "127.0.0.1:2",
        "FINID_TLS_CERTIFICATE_FILE": str(certificate),
        "FINID_TLS_KEY_FILE": str(key),
        "FINID_TLS_CA_FILE": str(tmp_path / "root.pem"),
        "FINID_DATABASE_URL_FILE": str(tmp_path / "url"),
        "FINID_FIELD_KEY_FILE": str(tmp_path / "field"),
        "FINID_RECEIPT_KEY_FILE": str(tmp_path / "receipt"),
        "FINID_TRUST_ANCHORS_FILE": str(tmp_path / "root.pem"),
        "FINID_DOCUMENTS_DIR": str(tmp_path / "objects"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        DocumentsSettings.load()
    assert stopped.value.code == 78
    return capsys.readouterr().err


def test_folder_is_the_default_store(good: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = DocumentsSettings.load().object_store()
    assert isinstance(store, LocalStore)
    assert Path(str(store.prefix)) == tmp_path / "objects"


def test_bucket_by_url(good: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good.delenv("FINID_DOCUMENTS_DIR")
    good.setenv("FINID_DOCUMENTS_URL", "s3://finid-documents/signed")
    good.setenv("FINID_DOCUMENTS_S3_ENDPOINT", "https://objects.example.kz")
    good.setenv("FINID_DOCUMENTS_S3_REGION", "kz-1")
    good.setenv("FINID_DOCUMENTS_S3_KEY_ID", "id")
    good.setenv("FINID_DOCUMENTS_S3_SECRET_FILE", str(tmp_path / "secret"))
    store = DocumentsSettings.load().object_store()
    assert isinstance(store, S3Store)
    assert store.prefix == "signed"
    assert store.config["endpoint"] == "https://objects.example.kz"
    assert store.config["secret_access_key"] == "s"


def test_exactly_one_store(good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good.setenv("FINID_DOCUMENTS_URL", "s3://finid-documents")
    assert "exactly one of FINID_DOCUMENTS_DIR and FINID_DOCUMENTS_URL" in refusal(capsys)
    good.delenv("FINID_DOCUMENTS_URL")
    good.delenv("FINID_DOCUMENTS_DIR")
    assert "exactly one of FINID_DOCUMENTS_DIR and FINID_DOCUMENTS_URL" in refusal(capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FINID_DOCUMENTS_DIR", "/no/such/folder"),
        ("FINID_DOCUMENTS_S3_ENDPOINT", "http://objects.example.kz"),
        ("FINID_DOCUMENTS_S3_KEY_ID", "without-its-secret"),
        ("FINID_DOCUMENTS_WORKERS", "0"),
        ("FINID_TRUST_ANCHORS_FILE", "/no/such/file"),
        ("FINID_FIELD_KEY_FILE", "/no/such/file"),
        ("FINID_RECEIPT_KEY_FILE", "/no/such/file"),
    ],
)
def test_wrong_setting_is_refused_by_name(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    good.setenv(name, value)
    assert name in refusal(capsys)


@pytest.mark.parametrize("url", ["file:///tmp", "https://bucket", "s3://", "s3://Bucket"])
def test_other_urls_are_refused(good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str) -> None:
    good.delenv("FINID_DOCUMENTS_DIR")
    good.setenv("FINID_DOCUMENTS_URL", url)
    assert "FINID_DOCUMENTS_URL" in refusal(capsys)


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_trust_anchors_without_a_certificate_are_refused(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "anchors.pem").write_text(content)
    good.setenv("FINID_TRUST_ANCHORS_FILE", str(tmp_path / "anchors.pem"))
    assert "FINID_TRUST_ANCHORS_FILE" in refusal(capsys)


def test_nothing_is_fetched_unless_hosts_are_named(good: pytest.MonkeyPatch) -> None:
    assert DocumentsSettings.load().egress() is None
    good.setenv("FINID_DOCUMENTS_FETCH_HOSTS", "crl.pki.gov.kz, ocsp.pki.gov.kz")
    assert DocumentsSettings.load().egress() is not None


@pytest.mark.parametrize(
    ("hosts", "networks", "said"),
    [
        ("*.gov.kz", "", "one by one"),
        ("http://crl.pki.gov.kz/", "", "one by one"),
        ("*", "10.0.0.1/8", "host bits"),
        ("*", "everywhere", "everywhere"),
    ],
)
def test_egress_that_is_not_understood_is_refused(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hosts: str, networks: str, said: str
) -> None:
    good.setenv("FINID_DOCUMENTS_FETCH_HOSTS", hosts)
    good.setenv("FINID_DOCUMENTS_FETCH_NETWORKS", networks)
    assert said in refusal(capsys)


def test_production_fetches_from_public_addresses_only(
    good: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good.setenv("FINID_ENV", "production")
    good.setenv("FINID_DOCUMENTS_FETCH_HOSTS", "*")
    assert DocumentsSettings.load().egress() is not None
    good.setenv("FINID_DOCUMENTS_FETCH_NETWORKS", "127.0.0.0/8")
    assert "production refuses it" in refusal(capsys)
