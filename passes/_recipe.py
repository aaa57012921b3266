"""Recipes: which layers of a model are compressed how, as a file that can be replayed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from compiler.errors import UsageError
from passes._compression import Setting

FORMAT, VERSION = "cincel-recipe", 1


class Choice(NamedTuple):
    """One layer, a technique, and its setting."""

    layer: str
    technique: str
    setting: Setting


class Recipe(NamedTuple):
    """What was chosen for a model.

    model     its digest, after the passes that come before
    options   of all techniques
    choices   in the order of layers' names
    measured  what came out: not needed to replay it
    """

    model: str
    options: Setting
    choices: Sequence[Choice]
    measured: Mapping[str, object]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "options": dict(self.options),
            "choices": [{**c._asdict(), "setting": dict(c.setting)} for c in self.choices],
            "measured": dict(self.measured),
        }

    def save(self, path: Path) -> None:
        """Write a file, the same bytes for the same recipe. UsageError if that cannot be done."""
        try:
            path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as e:
            reason = (e.strerror or str(e)).lower()
            raise UsageError(f"the recipe cannot be written to {str(path)!r}: {reason}") from None


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file. UsageError if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if (found["format"], found["version"]) != (FORMAT, VERSION):
            raise ValueError("another format or version")
        choices = [Choice(str(c["layer"]), str(c["technique"]), _setting(c["setting"])) for c in found["choices"]]
        return Recipe(str(found["model"]), _setting(found["options"]), choices, dict(found["measured"]))
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
    except (ValueError, KeyError, TypeError) as e:
        reason = f"it is no recipe of version {VERSION}: {e}"
    raise UsageError(f"the recipe {str(path)!r} cannot be read: {reason}", hint="--save-recipe FILE writes one")


def _setting(found: Any) -> Setting:  # Any: JSON
    if not isinstance(found, dict) or not all(isinstance(v, int | float | str) for v in found.values()):
        raise ValueError(f"{found!r} is no setting")
    return found
