"""Consent documents: versioned texts in three languages, and which of them a purpose needs."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.transaction import Purpose
from services.auth_gateway.authentication import ConsentText, Language


@dataclass(frozen=True, slots=True)
class _Document:
    version: str
    purposes: frozenset[Purpose]
    texts: Mapping[Language, str]


class ConsentBook:
    """The consent documents in force, read from a TOML file."""

    def __init__(self, path: Path) -> None:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        self._documents = {
            identifier: _Document(
                version=entry["version"],
                purposes=frozenset(Purpose(purpose) for purpose in entry["purposes"]),
                texts={language: entry[language.value] for language in Language},
            )
            for identifier, entry in raw.items()
        }

    def needed(self, purpose: Purpose, language: Language, application_title: str) -> tuple[ConsentText, ...]:
        """Return the texts that a person agrees to for a purpose, naming the application that asks."""
        return tuple(
            ConsentText(identifier, document.version, document.texts[language].replace("{title}", application_title))
            for identifier, document in self._documents.items()
            if purpose in document.purposes
        )
