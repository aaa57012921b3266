"""docs/conformance.md says what the baseline says."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_current() -> None:
    """It is rendered by `python docs/build.py`."""
    rendered = runpy.run_path(str(DOCS / "conformance_page.py"))["page"]()
    first, _, written = (DOCS / "conformance.md").read_text(encoding="utf-8").partition("\n")
    assert "docs/build.py" in first
    assert written == rendered
