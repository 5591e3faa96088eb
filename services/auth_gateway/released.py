"""Which of a person's data each scope covers: what a participant is given, whatever was released to the hub."""

from collections.abc import Collection, Mapping

# The request named it.
_ALWAYS = frozenset({"iin"})
_OF_SCOPE: Mapping[str, frozenset[str]] = {
    "name": frozenset({"family_name", "given_name", "patronymic", "family_name_latin", "given_name_latin"}),
    "birth_date": frozenset({"birth_date"}),
    "document": frozenset({"document_kind", "document_number", "document_issue_date", "document_expiry_date"}),
}


def within(scopes: Collection[str], person: Mapping[str, str]) -> dict[str, str]:
    """Return what of `person` the scopes that the person agreed to cover; anything else is not kept."""
    covered = _ALWAYS.union(*(_OF_SCOPE[scope] for scope in scopes))
    return {name: value for name, value in person.items() if name in covered}
