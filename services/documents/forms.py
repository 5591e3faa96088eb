"""The formats that there are."""

from collections.abc import Mapping

from services.documents.cades import Cades
from services.documents.form import Form
from services.documents.inspector import Inspector
from services.documents.pades_form import Pades
from services.documents.preparation import Format
from services.documents.xades_form import Xades


def of(inspector: Inspector, *, verification_url: str = "") -> Mapping[Format, Form]:
    """Return each format's maker; whatever they did not write themselves is read by `inspector`."""
    return {
        Format.CADES_DETACHED: Cades(inspector, attached=False),
        Format.CADES_ATTACHED: Cades(inspector, attached=True),
        Format.PADES: Pades(inspector, verification_url),
        Format.XADES_DETACHED: Xades(inspector, enveloped=False),
        Format.XADES_ENVELOPED: Xades(inspector, enveloped=True),
    }
