"""Seals the keys of stored documents anew under the newest field key, while documents runs.

Run as `python -m services.documents.reseal [--status]` with the service's own settings. Safe to stop at any point and
to run again. What those keys seal, the objects above all, stays as it is.
"""

from mesh.resealing import main_of
from services.documents.store import SEALED_COLUMNS


def main() -> None:
    """Seal anew, or count."""
    main_of("documents", SEALED_COLUMNS, description=__doc__)


if __name__ == "__main__":
    main()
