"""Seals the registry's values anew under the newest field key, while the registry runs.

Run as `python -m services.registry.reseal [--status]` with the service's own settings. Safe to stop at any point and to
run again. People are sealed anew by `services.registry.rekey`.
"""

from mesh.resealing import main_of
from services.registry.store import SEALED_COLUMNS


def main() -> None:
    """Seal anew, or count."""
    main_of("registry", SEALED_COLUMNS, description=__doc__)


if __name__ == "__main__":
    main()
