"""Says what happens, as it happens."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from deploy.local.display import Display

_TIMES = ("", "", "twice", "three times")
_USUAL_REACH_PERCENT = 100
_PPM = 1_000_000


class Narrator:
    """Turns the walk's events into lines."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._started = time.monotonic()
        self._lines: dict[str, Callable[[Any], str]] = {
            "stage": self._stage,
            "created": lambda name: f"  {name}",
            "consent": lambda text: f"  consent   {text}",
            "page": lambda text: f"  page      {text}",
            "document": _document,
            "prompt": _prompt,
            "attempt": _attempt,
            "sms": lambda sms: f"  sms       to {sms[0]}: {' '.join(sms[1].split())}",
            "notice": lambda text: f"  told      afterwards: {text}",
            "verdict": _verdict,
            "certificate": lambda shown: f"  issued    {shown[0]}, valid until {_day(shown[1])}",
            "validated": _validated,
            "listed": lambda count: f"  listed    {count} signed documents of this application",
            "refusal": lambda shown: f"  refused   {shown[0]}: {shown[1]} ({shown[2]})",
            "file": lambda shown: f"  {shown[0]:<16}{shown[1]}",
        }

    def say(self, kind: str, value: Any) -> None:
        """Print an event."""
        self._display.say(self._lines[kind](value))

    def _stage(self, title: str) -> str:
        return f"\n[{time.monotonic() - self._started:5.1f} s] {title}"


def _prompt(step: Mapping[str, Any]) -> str:
    name = step["prompt"].removeprefix("PROMPT_").lower().replace("_", " ")
    return f"  prompt    {step['promptIndex'] + 1} of {step['promptCount']}: {name}{_how(step)}{_colours(step)}"


def _colours(step: Mapping[str, Any]) -> str:
    """Say what the screen shows, and that the sample person's face is lit by a calculation."""
    flash = step.get("flash") or {"colours": []}
    if not flash["colours"]:
        return ""
    colours = " ".join(colour.removeprefix("SCREEN_COLOUR_").lower() for colour in flash["colours"])
    return f"\n            {colours}, {flash['everyMs'] / 1000:.1f} s each (their light on her face is simulated)"


def _how(step: Mapping[str, Any]) -> str:
    """Say how often, how long and how far, as a client would tell the person."""
    how = _TIMES[step["times"]]
    held = f"for {step['holdMs'] / 1000:.1f} s" if step["holdMs"] else ""
    further = "further" if step["reachPercent"] > _USUAL_REACH_PERCENT else ""
    said = " ".join(part for part in (further, how, held) if part)
    return f" ({said})" if said else ""


def _attempt(step: Mapping[str, Any]) -> str:
    state = step["state"].removeprefix("LIVENESS_STATE_").lower()
    return f"  liveness  attempt {step['attempt']} {state}"


def _document(shown: tuple[str, int, str]) -> str:
    title, size_bytes, digest = shown
    return f"  reads     {title} ({size_bytes} bytes, SHA-256 {digest[:16]}…): the one in the transaction"


def _verdict(shown: tuple[Mapping[str, Any], float]) -> str:
    result, seconds = shown
    scores = result.get("scores", {})
    similarities = ", ".join(f"{ppm / _PPM:.2f}" for ppm in scores.get("faceSimilaritiesPpm", []))
    lines = [f"  VERDICT   {result['verdict'].removeprefix('VERDICT_')} in {seconds:.1f} s {result.get('reason', '')}"]
    lines.append(
        f"            passive liveness {scores.get('livenessPassivePpm', 0) / _PPM:.2f},"
        f" prompts {scores.get('livenessPromptsPpm', 0) / _PPM:.2f},"
        f" faces {similarities} (threshold {scores.get('faceThresholdPpm', 0) / _PPM:.3f})"
    )
    person = result.get("person")
    if person:
        named = f"{person.get('familyName', '')} {person.get('givenName', '')} {person.get('patronymic', '')}"
        lines.append(f"            {named.strip()}, born {person.get('birthDate', '')}")
    return "\n".join(lines)


def _validated(shown: tuple[str, Mapping[str, Any], str]) -> str:
    name, report, broken = shown
    return (
        f"  {name:<20}{report['indication'].removeprefix('INDICATION_')},"
        f" stamped {report.get('stampedTime', '')}; with one bit flipped: {broken.removeprefix('INDICATION_')}"
    )


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
