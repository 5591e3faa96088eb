"""Models and sample people: fetched whole, verified, folded, or not kept at all."""

import hashlib
import io
import json
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.local.assets import archives, manifest
from deploy.local.assets.fold import FoldError, fold
from deploy.local.assets.manifest import AssetError, File, Manifest, Package, Portrait
from deploy.local.assets.prepare import default_folder, prepare

PICTURE = bytes(cv2.imencode(".png", np.full((40, 30, 3), 90, np.uint8))[1])
WHEEL = Package(index="pypi", name="faces", version="1.0", size_mib=1)


def file_of(content: bytes, path: str = "samples/picture.png") -> File:
    sha256 = hashlib.sha256(content).hexdigest()
    return File(path, WHEEL.name, "faces/picture.png", sha256, licence="MIT", upstream="us", note="a test's")


def small_manifest(content: bytes = PICTURE) -> Manifest:
    portrait = Portrait(person="somebody", source="samples/picture.png", crop=(5, 10, 15, 20))
    return Manifest(packages=(WHEEL,), files=(file_of(content),), folded=(), portraits=(portrait,))


class Index:
    """A package index that holds one wheel and counts who asks."""

    def __init__(self, content: bytes = PICTURE) -> None:
        self.content = content
        self.asked = 0

    def fetch(self, package: Package, folder: Path) -> Path:
        self.asked += 1
        archive = folder / f"{package.name}-{package.version}-py3-none-any.whl"
        with zipfile.ZipFile(archive, "w") as wheel:
            wheel.writestr("faces/picture.png", self.content)
        return archive


def ignore(_: str) -> None:
    pass


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fetches_verifies_and_cuts_the_photos(tmp_path: Path) -> None:
    said: list[str] = []
    prepare(small_manifest(), tmp_path, said.append, Index().fetch)
    assert (tmp_path / "samples/picture.png").read_bytes() == PICTURE
    photo = (tmp_path / "people/somebody.jpg").read_bytes()
    decoded = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (20, 15, 3)
    (person,) = json.loads((tmp_path / "people/people.json").read_text())["people"]
    assert person["photo"] == "somebody.jpg"
    assert person["photo_sha256"] == hashlib.sha256(photo).hexdigest()
    assert any("fetching faces 1.0" in line for line in said)
    assert sorted(contents(tmp_path)) == [".lock", "people/people.json", "people/somebody.jpg", "samples/picture.png"]
    assert stat.S_IMODE((tmp_path / "samples/picture.png").stat().st_mode) == 0o444


def test_keeps_a_packages_archive_whole_where_no_member_is_named(tmp_path: Path) -> None:
    archive = Index().fetch(WHEEL, tmp_path)
    wheel, folder = archive.read_bytes(), tmp_path / "assets"
    whole = replace(file_of(wheel, "samples/faces.whl"), member=None)
    wanted = replace(small_manifest(), files=(file_of(PICTURE), whole))

    def fetch(_: Package, aside: Path) -> Path:
        return Path(shutil.copy(archive, aside))

    prepare(wanted, folder, ignore, fetch)
    assert (folder / "samples/faces.whl").read_bytes() == wheel
    assert (folder / "samples/picture.png").read_bytes() == PICTURE
    (folder / "samples/faces.whl").unlink()
    archive.write_bytes(wheel + b"more")
    with pytest.raises(AssetError, match=r"faces\.whl: sha256 is .*, and the manifest says"):
        prepare(wanted, folder, ignore, fetch)
    assert not (folder / "samples/faces.whl").exists()


def test_does_nothing_when_all_is_there(tmp_path: Path) -> None:
    index, said = Index(), list[str]()
    prepare(small_manifest(), tmp_path, ignore, index.fetch)
    prepare(small_manifest(), tmp_path, said.append, index.fetch)
    assert index.asked == 1
    assert said == []


def spoil(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"spoilt")


@pytest.mark.parametrize("name", ["samples/picture.png", "people/somebody.jpg", "people/people.json"])
@pytest.mark.parametrize("harm", [Path.unlink, spoil])
def test_repairs_what_is_missing_or_changed(tmp_path: Path, name: str, harm: Callable[[Path], None]) -> None:
    prepare(small_manifest(), tmp_path, ignore, Index().fetch)
    before = contents(tmp_path)
    harm(tmp_path / name)
    prepare(small_manifest(), tmp_path, ignore, Index().fetch)
    assert contents(tmp_path) == before


def test_keeps_nothing_of_another_digest(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"picture\.png: sha256 is .*, and the manifest says"):
        prepare(small_manifest(), tmp_path, ignore, Index(b"another picture").fetch)
    assert set(contents(tmp_path)) == {".lock"}


def test_goes_on_where_a_broken_off_run_stopped(tmp_path: Path) -> None:
    other = replace(WHEEL, name="more")
    two = replace(
        small_manifest(),
        packages=(WHEEL, other),
        files=(file_of(PICTURE), replace(file_of(PICTURE, "samples/more.png"), package="more")),
    )
    index = Index()

    def breaks_off(package: Package, folder: Path) -> Path:
        if package.name == "more":
            raise AssetError("the network is gone")
        return index.fetch(package, folder)

    with pytest.raises(AssetError, match="network is gone"):
        prepare(two, tmp_path, ignore, breaks_off)
    prepare(two, tmp_path, ignore, index.fetch)
    assert index.asked == 2
    assert (tmp_path / "samples/more.png").read_bytes() == PICTURE


def test_refuses_a_portrait_beyond_its_picture(tmp_path: Path) -> None:
    wide = replace(small_manifest(), portraits=(Portrait("somebody", "samples/picture.png", (20, 0, 15, 20)),))
    with pytest.raises(AssetError, match="reaches beyond 30x40"):
        prepare(wide, tmp_path, ignore, Index().fetch)


def test_reads_members_of_wheels_and_of_npm_tarballs(tmp_path: Path) -> None:
    tarball = tmp_path / "faces-1.0.tgz"
    with tarfile.open(tarball, "w:gz") as writer:
        entry = tarfile.TarInfo("package/model.onnx")
        entry.size = len(PICTURE)
        writer.addfile(entry, io.BytesIO(PICTURE))
    assert archives.read_member(tarball, "package/model.onnx") == PICTURE
    assert archives.read_member(Index().fetch(WHEEL, tmp_path), "faces/picture.png") == PICTURE
    with pytest.raises(AssetError, match="cannot be read"):
        archives.read_member(tarball, "package/other.onnx")
    tarball.write_bytes(b"no tarball")
    with pytest.raises(AssetError, match="cannot be read"):
        archives.read_member(tarball, "package/model.onnx")


@pytest.mark.parametrize("member", ["faces/picture.png", None])
def test_refuses_a_member_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str | None
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 10)
    with pytest.raises(AssetError, match="more than 10"):
        archives.read_member(Index().fetch(WHEEL, tmp_path), member)


def test_says_which_package_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AssetError, match=r"faces 1\.0: pypi gave no archive"):
        archives.fetch(WHEEL, tmp_path)


def test_says_what_to_install_when_npm_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssetError, match="npm is not installed"):
        archives.fetch(replace(WHEEL, index="npm"), tmp_path)


def test_the_folder_is_a_setting_then_the_users_cache() -> None:
    assert default_folder({"FINID_ASSETS": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert default_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/finid/assets")
    assert default_folder({}) == Path.home() / ".cache/finid/assets"


def test_the_manifest_pins_every_file_with_its_licence_and_upstream() -> None:
    shipped = manifest.load()
    assert {file.package for file in shipped.files} == {package.name for package in shipped.packages}
    paths = [file.path for file in shipped.files]
    paths += [made.path for made in (*shipped.folded, *shipped.fused)]
    paths += [portrait.path for portrait in shipped.portraits]
    assert len(set(paths)) == len(paths)
    for file in shipped.files:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.licence
        assert file.upstream
        assert file.note


def test_refuses_a_manifest_that_uses_what_it_does_not_define(tmp_path: Path) -> None:
    broken = tmp_path / "manifest.toml"
    broken.write_text(manifest.MANIFEST_FILE.read_text().replace('source = "samples/man.jpg"', 'source = "samples/x"'))
    with pytest.raises(AssetError, match=r"does not define: samples/x"):
        manifest.load(broken)


def quantised_model(path: Path, *, from_input: bool = False) -> None:
    """Y = X * (Q - 3) * scale per block of 2 along axis 1, as the int8bq files have it, with a stray graph input."""
    constants: dict[str, npt.NDArray[Any]] = {
        "q": np.array([[1, 2, 3, 4], [5, 6, 7, -8]], np.int8),
        "s": np.array([[0.5, 2.0], [4.0, 0.25]], np.float32),
        "z": np.full((2, 2), 3, np.int8),
        "shape": np.array([4, 2], np.int64),
    }
    if from_input:
        del constants["q"]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])]
    inputs += [helper.make_tensor_value_info("stray", TensorProto.FLOAT, [1])]
    inputs += [helper.make_tensor_value_info("q", TensorProto.INT8, [2, 4])] if from_input else []
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=1, block_size=2),
            helper.make_node("Reshape", ["d", "shape"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), path)


def test_folding_keeps_the_numbers_and_drops_the_quantisation(tmp_path: Path) -> None:
    quantised_model(tmp_path / "model.onnx")
    folded = onnx.load_from_string(fold(tmp_path / "model.onnx"))
    assert [node.op_type for node in folded.graph.node] == ["MatMul"]
    assert [value.name for value in folded.graph.input] == ["x"]
    (weights,) = folded.graph.initializer
    expected = np.array([[-1.0, -0.5, 0.0, 2.0], [8.0, 12.0, 1.0, -2.75]], np.float32).reshape(4, 2)
    assert np.array_equal(numpy_helper.to_array(weights), expected)
    assert fold(tmp_path / "model.onnx") == fold(tmp_path / "model.onnx")


def test_refuses_to_fold_what_depends_on_an_input(tmp_path: Path) -> None:
    quantised_model(tmp_path / "model.onnx", from_input=True)
    with pytest.raises(FoldError, match="depends on an input"):
        fold(tmp_path / "model.onnx")
