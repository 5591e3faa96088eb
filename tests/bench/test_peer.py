"""A peer answers line by line, on one thread, without what its caller has; how it fails is told."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peer import Peer

SCRIPT = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["n"] < 0:
        raise SystemExit("it cannot be negative")
    print(json.dumps({"twice": 2 * asked["n"], "given": sys.argv[1], "env": dict(os.environ)}), flush=True)
"""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setenv("FINID_SECRET", "not for peers")
    script = tmp_path / "peer.py"
    script.write_text(SCRIPT)
    with Peer(Path(sys.executable), script, ["argument"], {"MORE": "1"}) as running:
        yield running


def test_answers_each_line(peer: Peer) -> None:
    answers = [peer.ask({"n": number}) for number in (1, 2)]
    assert [answer["twice"] for answer in answers] == [2, 4]
    assert answers[0]["given"] == "argument"


def test_runs_on_one_thread_with_nothing_of_its_callers(peer: Peer) -> None:
    environment = peer.ask({"n": 1})["env"]
    assert (environment["OMP_NUM_THREADS"], environment["MORE"]) == ("1", "1")
    assert "FINID_SECRET" not in environment


def test_says_how_it_ended(peer: Peer) -> None:
    with pytest.raises(RuntimeError, match="it cannot be negative"):
        peer.ask({"n": -1})
