"""The models' image: what services load, each file with the digest of the manifest."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.images import models
from deploy.local.assets.manifest import MANIFEST_FILE
from deploy.local.state import CHECKOUT


def manifest_of(**contents: bytes) -> dict[str, Any]:
    file = [
        {"path": f"models/{name}.onnx", "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    ]
    return {"file": file, "folded": [], "fused": []}


def test_its_files_are_those_that_the_services_are_given() -> None:
    used = models.used_models(tomllib.loads(MANIFEST_FILE.read_text()))
    given = (CHECKOUT / "deploy" / "local" / "services.py").read_text()
    assert len(used) == 5
    assert all(f'parts.model("{name}")' in given for name in used)
    assert given.count("parts.model(") == len(used)


def test_whole_files_are_copied(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"weights")
    assert models.copy(manifest_of(a=b"weights"), tmp_path, tmp_path / "out") == ["a.onnx"]
    assert (tmp_path / "out" / "a.onnx").read_bytes() == b"weights"


@pytest.mark.parametrize(("content", "says"), [(b"other", "a.onnx: sha256 is"), (None, "a.onnx is missing")])
def test_another_file_ends_the_build(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(models.ModelError, match=says):
        models.copy(manifest_of(a=b"weights"), tmp_path, tmp_path / "out")
