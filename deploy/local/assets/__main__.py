"""`python -m deploy.local.assets`: fetch what is missing, verify all, and say where it is."""

import sys

from deploy.local.assets import manifest
from deploy.local.assets.fold import FoldError
from deploy.local.assets.prepare import default_folder, prepare


def main() -> int:
    """Prepare the assets' folder; 0 when every file is there and verified."""
    folder = default_folder()
    try:
        prepare(manifest.load(), folder, lambda line: print(line, flush=True))
    except (manifest.AssetError, FoldError, OSError) as error:
        print(f"assets: {error}", file=sys.stderr)
        return 1
    print(f"models and sample people: verified, in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
