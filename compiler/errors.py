"""Errors a user can act on: what failed, where, why, and what to do next."""

from __future__ import annotations


class CompileError(Exception):
    """One sentence for the user, with the guilty layer (`where`) and a way out (`hint`).

    `exit_code` is what the command line returns: 1 cannot compile, 2 wrong usage, 3 verification failed.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.message}\n  at {self.where}" if self.where else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class OnnxError(CompileError):
    """The ONNX file cannot be read, or says something that ONNX does not allow or Cincel does not support."""


class ShapeError(CompileError):
    """An operation does not accept the types of its operands."""


class GraphError(CompileError):
    """A layer graph broke one of its invariants; a defect of the rewrite that made it."""


class ParseError(CompileError):
    """Text that is not a layer graph or not a pass pipeline."""

    exit_code = 2


class PassError(CompileError):
    """A pass could not run, or broke what it promises."""


class LegalityError(CompileError):
    """Layers that the target cannot run, all of them."""


class EmitError(CompileError):
    """The artifact could not be written or read back."""


class UsageError(CompileError):
    """The command line, or the arguments of an API call, do not fit the model or each other."""

    exit_code = 2


class VerificationError(CompileError):
    """The numbers differ from ONNX Runtime by more than was promised."""

    exit_code = 3


class MissingExtraError(CompileError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(
            f"this needs the package {package}, which is not installed", hint=f"pip install 'cincel[{extra}]'"
        )
