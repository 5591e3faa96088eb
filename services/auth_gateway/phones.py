"""Which phones can be named in a request: numbers that there can be (E.164), of the countries that are served."""

import re
from collections.abc import Collection

import phonenumbers

# As the protos say it; what does not even look like a number is theirs to name.
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")


class PhoneNumbers:
    """Judges numbers by the authorities' own plans, as the phonenumbers package carries them.

    `countries` are two letters each (ISO 3166-1). A number counts as one if its length is one that its country gives
    out: ranges open faster than any list of them is renewed, and a code that does not arrive proves nothing.
    """

    def __init__(self, countries: Collection[str]) -> None:
        unknown = set(countries) - phonenumbers.SUPPORTED_REGIONS
        if unknown or not countries:
            raise ValueError(f"no countries that have phones: {', '.join(sorted(unknown)) or 'none named'}")
        self._countries = frozenset(countries)

    def fault(self, phone: str) -> str:
        """Return the rule that `phone` breaks; "" for none, and for what is no number at all."""
        if _E164.fullmatch(phone) is None:
            return ""
        try:
            number = phonenumbers.parse(phone)
        except phonenumbers.NumberParseException:
            return "must be a phone number that there can be"
        # Not is_possible_number: it also takes what can be dialled only within a town.
        if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
            return "must be a phone number that there can be"
        region = phonenumbers.region_code_for_number(number)
        may_be_of = {region} if region else set(phonenumbers.region_codes_for_country_code(number.country_code or 0))
        if not may_be_of & self._countries:
            return f"must be a phone number of {', '.join(sorted(self._countries))}"
        return ""
