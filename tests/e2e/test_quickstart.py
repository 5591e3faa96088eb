"""docs/quickstart.md, typed block by block into one shell against the running mesh: what it says is what happens."""

import os

import pytest

from tests.docs.blocks import Block, Reader, blocks_of
from tests.docs.page import DOCS
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

PAGE = (DOCS / "quickstart.md").read_text(encoding="utf-8")
BLOCKS = blocks_of(PAGE)


@pytest.fixture(scope="module")
def reader(mesh: RunningMesh, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Somebody with an empty folder and the line that `make run` printed, and nothing of this process's settings."""
    mesh.access_token_when_possible()
    own = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    return Reader(tmp_path_factory.mktemp("quickstart"), own | {"FINID_STATE": str(mesh.folder)})


def test_the_page_begins_with_the_line_that_make_run_prints(mesh: RunningMesh) -> None:
    assert f". {mesh.folder}/run/client.env" in mesh.output.read_text().splitlines()
    assert '. "$FINID_STATE/run/client.env"' in BLOCKS[0].text


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {block.line}")
def test_each_block_does_what_the_page_says(reader: Reader, block: Block) -> None:
    reader.run(block)


def test_a_signed_contract_is_left(reader: Reader) -> None:
    assert (reader.folder / "contract.signed.pdf").read_bytes().startswith(b"%PDF-")
