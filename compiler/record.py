"""Frozen records: classes whose annotated fields are their whole meaning.

They behave like frozen keyword-only dataclasses (compare and hash by value, refuse assignment) but cost
nothing to define: no code is generated, and an instance stores only the fields that differ from their default.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Self, dataclass_transform

Scalar = int | float | bool | str
REQUIRED = object()


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """Base of operations and passes. Subclasses declare fields by annotation, with or without a default."""

    fields: ClassVar[dict[str, Any]] = {}  # name -> default, or REQUIRED

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = {
            name: cls.__dict__.get(name, REQUIRED)
            for name, hint in cls.__dict__.get("__annotations__", {}).items()  # noqa: RUF063  # inspect is slow to import
            if not str(hint).startswith(("ClassVar", "typing.ClassVar"))
        }
        inherited = {name: d for base in reversed(cls.__bases__) for name, d in getattr(base, "fields", {}).items()}
        cls.fields = {**inherited, **{sys.intern(name): default for name, default in own.items()}}

    def __init__(self, **values: Any) -> None:
        fields = self.fields
        stored = self.__dict__
        for name, value in values.items():
            default = fields.get(name, self)
            if default is self:
                raise TypeError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(fields) or 'none'}")
            if value != default or type(value) is not type(default) or (value == 0.0 and str(value) != str(default)):
                stored[name] = value
        for name, default in fields.items():
            if default is REQUIRED and name not in stored:
                raise TypeError(f"{type(self).__name__} needs the field {name!r}")
        self.validate()

    def validate(self) -> None:
        """Raise ValueError or a CompileError if the fields do not make sense together."""

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their default, in the order of declaration."""
        stored = self.__dict__
        if len(stored) < 2:
            return dict(stored)
        return {name: stored[name] for name in self.fields if name in stored}

    def values(self) -> dict[str, Any]:
        """All fields with their values, in the order of declaration."""
        return {name: getattr(self, name) for name in self.fields}

    def with_(self, **values: Any) -> Self:
        """A copy with some fields replaced."""
        return type(self)(**{**self.__dict__, **values})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; use with_({name}=...)")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.changed().items())))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.changed().items())
        return f"{type(self).__name__}({inside})"
