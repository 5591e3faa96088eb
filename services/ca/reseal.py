"""Seals the authority's certificates anew under its newest field key, while the authority runs.

Run as `python -m services.ca.reseal [--status]` with the service's own settings. Safe to stop at any point and to run
again.
"""

from mesh.resealing import main_of
from services.ca.store import SEALED_COLUMNS


def main() -> None:
    """Seal anew, or count."""
    main_of("ca", SEALED_COLUMNS, description=__doc__)


if __name__ == "__main__":
    main()
