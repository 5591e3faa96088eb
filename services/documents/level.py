"""How long a signature can be shown to have been good (ETSI EN 319 122-1, 319 132-1 and 319 142-1, clause 6)."""

from enum import StrEnum


class Level(StrEnum):
    """The baseline levels; each holds what the one before it holds."""

    B_B = "B_B"
    """The signature alone: worth something while its certificate is valid."""
    B_T = "B_T"
    """With a time stamp: shows that it was made before its certificate ended."""
    B_LT = "B_LT"
    """With the chain and its revocation status: shows so without asking anybody."""
    B_LTA = "B_LTA"
    """With a time stamp over all of that: shows so after the authority's own keys have ended."""

    @property
    def stamped(self) -> bool:
        """Whether the signature carries a time stamp."""
        return self is not Level.B_B

    @property
    def evidenced(self) -> bool:
        """Whether it carries chain and revocation status."""
        return self in {Level.B_LT, Level.B_LTA}

    @property
    def archived(self) -> bool:
        """Whether an archive time stamp goes over it."""
        return self is Level.B_LTA
