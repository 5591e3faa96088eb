"""What is wrong with a root file system is seen: one row for each promise of docs/images.md."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.images import judge
from deploy.images.build import Image

LABELS = {f"org.opencontainers.image.{name}": "x" for name in ("title", "description", "licenses")}


def good_image(root: Path) -> Image:
    for name in ("usr/bin", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "usr" / "bin" / "python3.11").touch(mode=0o755)
    return Image(root, labels=LABELS, entrypoint=("/usr/bin/python3.11",), uid=judge.USER, gid=judge.USER)


def add(name: str, mode: int = 0o644) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        (root / name).chmod(mode)

    return spoil


def test_nothing_is_wrong_with_a_good_root(tmp_path: Path) -> None:
    assert judge.problems_of(good_image(tmp_path), "ca") == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (add("usr/bin/gcc", 0o755), "/usr/bin/gcc is a tool that no service needs"),
        (add("usr/bin/pip3", 0o755), "/usr/bin/pip3 is a tool that no service needs"),
        (add("etc/open", 0o666), "everybody may write /etc/open"),
        (add("usr/bin/su", 0o4755), "/usr/bin/su runs as another user than who starts it"),
        (add(f"{judge.SITE}/services/signer/keys.py"), "carries code of signer"),
        (add(f"{judge.SITE}/deploy/__init__.py"), "carries deploy"),
    ],
)
def test_a_root_with_something_wrong_is_refused(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    image = good_image(tmp_path)
    spoil(tmp_path)
    found = [*judge.files(image.root), *judge.rooms(image.root, "ca")]
    assert found == [says]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"uid": 0}, "runs as 0:65532, not as 65532"),
        ({"gid": 0}, "runs as 65532:0, not as 65532"),
        ({"entrypoint": ()}, "has no entry"),
        ({"labels": {}}, "has no label org.opencontainers.image.title"),
    ],
)
def test_an_image_with_a_wrong_setting_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    image = replace(good_image(tmp_path), **change)  # type: ignore[arg-type]
    assert judge.problems_of(image, "ca")[0] == says
