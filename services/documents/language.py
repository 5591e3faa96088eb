"""The languages of what people read: signatures that are seen, and reports."""

from enum import StrEnum


class Language(StrEnum):
    """As ISO 639-1 has them."""

    KK = "kk"
    RU = "ru"
    EN = "en"
