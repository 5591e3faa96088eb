"""Write what follows from the code: `python -m deploy.observability [--into FOLDER]`."""

import argparse
import sys
from pathlib import Path

from deploy.observability.files import FOLDER, files


def main() -> int:
    """Write every generated file into the folder; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.observability", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--into", type=Path, default=FOLDER, help="another folder than the committed one")
    into = parser.parse_args().into
    for name, text in files().items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
