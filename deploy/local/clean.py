"""Removes what the local mesh made: its state folder and var/. Standard library only: it needs no set-up."""

import shutil
import sys

from deploy.local.settings import LocalSettings
from deploy.local.state import CHECKOUT, LocalMeshError, State


def main() -> int:
    """Remove both folders, unless a mesh is running in the first; return the exit code."""
    try:
        folder = LocalSettings.from_environment().state_folder
        if folder.exists():
            state = State.open(folder)
            with state.locked():
                state.remove()
            print(f"removed {folder}")
    except LocalMeshError as error:
        print(f"clean: {error}", file=sys.stderr)
        return 1
    if (CHECKOUT / "var").exists():
        shutil.rmtree(CHECKOUT / "var")
        print(f"removed {CHECKOUT / 'var'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
