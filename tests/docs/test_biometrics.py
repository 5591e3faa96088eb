"""docs/biometrics.md, the signals and the shipped policies say the same."""

from pathlib import Path

from services.facematch import policies as facematch_policies
from services.liveness import policies as liveness_policies
from services.liveness.passive import Signal
from tests.docs.page import tables_of, words

TABLES = tables_of("biometrics.md")
SIGNALS = [(name, row) for row in TABLES["Signals of the picture"] for name in row[0].split(", ")]
POLICIES = liveness_policies.load(Path(liveness_policies.__file__).with_name("policies.toml"))
THRESHOLDS = facematch_policies.load(Path(facematch_policies.__file__).with_name("policies.toml"))


def test_every_signal_is_explained_and_nothing_else() -> None:
    assert sorted(name for name, _ in SIGNALS) == sorted([*Signal, "colours"])


def test_what_is_called_stated_only_decides_in_no_policy() -> None:
    stated = [
        name for row in TABLES["Signals of the picture"] if "stated only" in row[1] for name in row[0].split(", ")
    ]
    deciding = {signal for policy in POLICIES.values() for signal in policy.signals}
    assert deciding | set(stated) == set(Signal)
    assert not deciding & set(stated)


def test_policies_are_those_that_ship_with_their_numbers() -> None:
    rows = {words(row)[0]: row for row in TABLES["Policies"]}
    assert set(rows) == set(POLICIES)
    for name, policy in POLICIES.items():
        _, _, prompts, colours, doubt, threshold = rows[name]
        assert prompts == f"{policy.length} of {len(policy.prompts)}"
        assert policy.flash is not None
        assert ("every channel" in colours) is (len(policy.flash.channels) > 1)
        assert ("fails" in colours) is (policy.flash.in_bright_light == "FAILS")
        assert doubt.startswith(str(policy.signals[Signal.SKIN] / 1_000_000))
        assert threshold.startswith(f"{THRESHOLDS[name].threshold_ppm / 1_000_000:.3f}")
