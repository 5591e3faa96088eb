"""Consent documents: versioned texts in three languages, for each purpose and whoever answers for the processing."""

import datetime
import hashlib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh import strict_json
from mesh.transaction import Purpose
from services.auth_gateway.authentication import ConsentText, Controller, Language

_ALWAYS = "always"
_PLACE = re.compile(r"\{(title|data)\}")
_FROM_THE_BEGINNING = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_FIELDS = frozenset({"id", "version", "in_force_from", "controller", "application", "purposes", "data"})


@dataclass(frozen=True, slots=True)
class Asker:
    """The application that asks, as a text names it."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class _Document:
    """One version of one document for some purposes; `application` is "" when it is everybody's."""

    id: str
    version: str
    in_force_from: datetime.datetime
    controller: Controller
    application: str
    purposes: frozenset[Purpose]
    texts: Mapping[Language, str]
    data: Mapping[str, Mapping[Language, str]] = field(default_factory=dict)

    def rendered(self, language: Language, title: str, scopes: Collection[str]) -> str:
        """Return the text as it is shown. What is put into its places is never read for places again."""
        listed = [label[language] for scope, label in self.data.items() if scope == _ALWAYS or scope in scopes]
        values = {"title": title, "data": ", ".join(listed)}
        return _PLACE.sub(lambda place: values[place[1]], self.texts[language])

    def digest_sha256(self, language: Language) -> str:
        """Return, in hex, what a released text is pinned by: everything of it that does not come from the request."""
        labels = [[scope, label[language]] for scope, label in self.data.items()]
        whole = strict_json.canonical((self.texts[language], *(text for pair in labels for text in pair)))
        return hashlib.sha256(b"finid-consent-v1\0" + whole).hexdigest()


class ConsentBook:
    """The consent documents of all times, read from a TOML file. See services/auth_gateway/consents.toml.

    Raises KeyError or ValueError for a file that is not whole: a text missing in a language, two entries for one
    version, purpose and application, a document that is in force for nobody, a field or a scope's label not known. And
    for one that differs from the pins beside it (NAME.released.txt beside NAME.toml), if there are any: what was shown
    under a version is never another text later.
    """

    def __init__(self, path: Path) -> None:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        self._operator = {language: str(raw["operator"][language.value]) for language in Language}
        self._documents = tuple(_read(entry) for entry in raw["document"])
        seen: set[tuple[str, str, str, Purpose]] = set()
        for item in self._documents:
            for key in ((item.id, item.version, item.application, purpose) for purpose in item.purposes):
                if key in seen:
                    raise ValueError(f"{key}: stands in the book twice")
                seen.add(key)
        released = path.with_suffix(".released.txt")
        if released.exists():
            self._require(released)

    def _require(self, released: Path) -> None:
        lines = released.read_text(encoding="utf-8").splitlines()
        pinned, pins = {line for line in lines if line and not line.startswith("#")}, set(self.pins())
        if changed := sorted(pinned - pins):
            raise ValueError(f"{released.name}: released texts were changed or removed: {changed}")
        if added := sorted(pins - pinned):
            raise ValueError(f"{released.name}: add the lines of new versions: {added}")

    def needed(
        self,
        purpose: Purpose,
        language: Language,
        asker: Asker,
        scopes: Collection[str],
        at: datetime.datetime,
    ) -> tuple[ConsentText, ...]:
        """Return the texts in force that a person agrees to for a purpose, naming the application that asks.

        An application's own text goes before everybody's; of several versions the one that came into force last.
        """
        found: dict[str, _Document] = {}
        for item in self._documents:
            if purpose not in item.purposes or item.application not in {"", asker.name} or item.in_force_from > at:
                continue
            other = found.get(item.id)
            if other is None or _precedence(item) >= _precedence(other):
                found[item.id] = item
        return tuple(
            ConsentText(
                item.id,
                item.version,
                item.rendered(language, asker.title, scopes),
                item.controller,
                asker.title if item.controller is Controller.APPLICATION else self._operator[language],
            )
            for item in found.values()
        )

    def pins(self) -> Iterator[str]:
        """Return one line for each text: id, version, application or -, controller, purposes, language, digest."""
        for item in self._documents:
            purposes = ",".join(sorted(item.purposes))
            for language in Language:
                yield " ".join(
                    (
                        item.id,
                        item.version,
                        item.application or "-",
                        item.controller,
                        purposes,
                        language,
                        item.digest_sha256(language),
                    )
                )


def _precedence(item: _Document) -> tuple[bool, datetime.datetime]:
    return bool(item.application), item.in_force_from


def _read(entry: Mapping[str, Any]) -> _Document:
    unknown = entry.keys() - _FIELDS - set(Language)
    if unknown:
        raise ValueError(f"{entry.get('id')}: unknown fields {sorted(unknown)}")
    in_force_from = entry.get("in_force_from", _FROM_THE_BEGINNING)
    if not isinstance(in_force_from, datetime.datetime) or in_force_from.tzinfo is None:
        raise ValueError(f"{entry['id']}: in_force_from must be a time with its offset")
    texts = {language: str(entry[language.value]) for language in Language}
    data = {
        str(scope): {language: str(label[language.value]) for language in Language}
        for scope, label in entry.get("data", {}).items()
    }
    for text in texts.values():
        if ("{data}" in text) != bool(data):
            raise ValueError(f"{entry['id']}: {{data}} and its labels go together")
    purposes = frozenset(Purpose(purpose) for purpose in entry["purposes"])
    if not purposes:
        raise ValueError(f"{entry['id']}: is for no purpose")
    return _Document(
        id=str(entry["id"]),
        version=str(entry["version"]),
        in_force_from=in_force_from,
        controller=Controller(entry["controller"]),
        application=str(entry.get("application", "")),
        purposes=purposes,
        texts=texts,
        data=data,
    )
