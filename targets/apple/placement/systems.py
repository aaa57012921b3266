"""The systems that a report can be asked for."""

from __future__ import annotations

from typing import NamedTuple

from compiler.errors import UsageError
from targets.apple import engine


class System(NamedTuple):
    """A version of iOS, or the macOS that came with it. `version` orders them; `ios` is its name as a deployment
    target."""

    name: str
    ios: str
    version: int
    source: str
    confidence: str

    @staticmethod
    def of(name: str) -> System:
        """The system of a name in any case of letters, as "iOS18" or "macOS 15". UsageError that lists the known
        ones."""
        wanted = "".join(name.casefold().split())
        known = []
        for entry in engine.load("families")["systems"]:
            version = int(entry["id"].removeprefix("iOS"))
            for label in (entry["id"], f"macOS {entry['macos']}"):
                known.append(label)
                if wanted == "".join(label.casefold().split()):
                    return System(label, entry["id"], version, entry["source"], entry["confidence"])
        raise UsageError(f"there is no system {name!r}", hint=f"choose one of {', '.join(known)}")
