"""Which images there are, and what a release calls them."""

import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.images.context import Context, parse_ignore
from deploy.images.dockerfile import Dockerfile, parse
from deploy.local.ports import SERVICES
from deploy.local.state import CHECKOUT

DOCKERFILE: Final = Path(__file__).with_name("Dockerfile")
# What the Dockerfile's BASE is made of where it cannot be pulled.
DEBIAN_RELEASE: Final = "bookworm"


@dataclass(frozen=True, slots=True)
class Named:
    """An image by its name, the stage it comes from, and the service it carries."""

    name: str
    target: str
    service: str = ""

    @property
    def short_name(self) -> str:
        """Its name without `finid/`."""
        return self.name.partition("/")[2]


IMAGES: Final = (
    *(Named(f"finid/{service.replace('_', '-')}", "service", service) for service in SERVICES),
    Named("finid/migrate", "migrate"),
    Named("finid/models", "models"),
    Named("finid/pkcs11-module", "pkcs11-module"),
)


def read_dockerfile() -> Dockerfile:
    """The Dockerfile of all images."""
    return parse(DOCKERFILE.read_text(encoding="utf-8"))


def build_context() -> Context:
    """What a build may see of this checkout."""
    return Context(CHECKOUT, parse_ignore((CHECKOUT / ".dockerignore").read_text(encoding="utf-8")))


def arguments_of(image: Named) -> dict[str, str]:
    """The build arguments of an image, of this checkout."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        **({"SERVICE": image.service} if image.service else {}),
        "VERSION": project["version"],
        "REVISION": _revision(),
    }


def _revision() -> str:
    command = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
