"""Seals keyframes and fingerprints anew under the newest field key, while liveness runs.

Run as `python -m services.liveness.reseal [--status]` with the service's own settings. Safe to stop at any point and to
run again.
"""

from mesh.resealing import main_of
from services.liveness.store import SEALED_COLUMNS


def main() -> None:
    """Seal anew, or count."""
    main_of("liveness", SEALED_COLUMNS, description=__doc__)


if __name__ == "__main__":
    main()
