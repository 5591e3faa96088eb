"""docs/telemetry.md lists exactly the metrics that there are, as the catalogue has them."""

import re
from pathlib import Path

from mesh import metrics
from mesh.instruments import Configured, Histogram, Instrument, Methods

PAGE = (Path(metrics.__file__).parents[1] / "docs" / "telemetry.md").read_text(encoding="utf-8")


def row(one: Instrument) -> str:
    """An instrument as the page has it."""
    labels = "; ".join(f"`{label}`: {values(label, listed)}" for label, listed in one.labels.items()) or "none"
    shown = "all" if one.of == set(metrics.SERVICES) else ", ".join(name for name in metrics.SERVICES if name in one.of)
    bounds = f"; at most {', '.join(f'{bound:g}' for bound in one.buckets)}" if isinstance(one, Histogram) else ""
    return f"| `{one.name}` | {one.kind}{bounds} | {labels} | {shown} | {one.text} |"


def values(label: str, listed: object) -> str:
    match listed:
        case Methods():
            return "Service/Method of the protos"
        case Configured():
            return "names in the operator's file"
        case _ if label in {"service", "peer"}:
            return "the services"
        case _ if label == "code":
            return "gRPC status"
        case tuple():
            return ", ".join(map(str, listed))
        case _:
            raise AssertionError(f"no words for {label}")


def test_the_page_lists_the_catalogue() -> None:
    shown = re.findall(r"^\| `finid_.*$", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(row(one) for one in metrics.CATALOGUE.values())
