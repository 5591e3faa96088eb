"""The document that the demonstration signs; `python -m deploy.demo.contract FILE` writes it."""

import io
import sys
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

_LINES = (
    "Demo Bank JSC",
    "",
    "Agreement No. 2026/11 on opening a current account",
    "",
    "1. The Bank opens an account in tenge for the Client.",
    "2. The Client has read the Bank's tariffs and accepts them.",
    "3. This agreement is signed with the Client's cloud digital signature.",
)


def contract_pdf() -> bytes:
    """Return a one-page PDF."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    canvas.setTitle("Agreement No. 2026/11")
    text = canvas.beginText(72, A4[1] - 90)
    text.setFont("Helvetica", 12)
    for line in _LINES:
        text.textLine(line)
    canvas.drawText(text)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(contract_pdf())
