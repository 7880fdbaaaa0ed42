"""Python's standard library, read from the running interpreter as rows of documentation."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from types import ModuleType
from typing import Any

# Modules that do something when they are imported, need a display, or document nothing that
# anybody searches for.
_SKIPPED = {
    "__main__",
    "antigravity",
    "ctypes.macholib",
    "curses",
    "distutils",
    "encodings",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "msilib",
    "pydoc_data",
    "rlcompleter",
    "site",
    "test",
    "tests",
    "this",
    "tkinter",
    "turtle",
    "turtledemo",
    "venv",
}

# Docstrings that Python writes itself and that say nothing.
_BOILERPLATE = re.compile(r"Alias for field number")

# Lines at the top of a docstring that only show how to call it: "S.find(sub[, start]) -> int".
_CALLS = re.compile(r"(?:[\w.]+\([^\n]*\)(?: *[-=]+> *[^\n.,]{0,40})?(?:\n+|$))+")

_LITERALS = {bool, bytes, float, int, str, type(None)}

_SUMMARY_LENGTH = 300


def documentation() -> Iterator[dict[str, Any]]:
    """Every public module, class, function and method that has a docstring, once.

    Yields:
        Rows with id (the qualified name), kind, module, name, signature, summary (the first
        paragraph) and doc. The same interpreter yields the same rows every time.
    """
    ids: set[str] = set()
    seen: dict[int, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Modules on their way out say so when imported.
        for module in _modules():
            for path, kind, member in _members(module):
                row = _row(module.__name__, path, kind, member)
                # A name that is exported by several modules is documented under the first.
                if row is None or row["id"] in ids or id(member) in seen:
                    continue
                ids.add(row["id"])
                seen[id(member)] = member  # kept alive, or its id would be given to another
                yield row


def _modules() -> Iterator[ModuleType]:
    """The modules that can be imported here, packages before what is in them."""
    for name in sorted(sys.stdlib_module_names):
        yield from _module_tree(name)


def _module_tree(name: str) -> Iterator[ModuleType]:
    last = name.rpartition(".")[2]
    if last.startswith("_") or last in _SKIPPED or name in _SKIPPED:
        return
    module = _import(name)
    if module is None:
        return
    yield module
    for found in sorted(pkgutil.iter_modules(getattr(module, "__path__", [])), key=_name_of):
        yield from _module_tree(f"{name}.{found.name}")


def _name_of(info: pkgutil.ModuleInfo) -> str:
    return info.name


def _import(name: str) -> ModuleType | None:
    """Import a module, or not: some are for another platform, some were not compiled in."""
    with suppress(Exception, SystemExit), redirect_stdout(StringIO()):
        return importlib.import_module(name)
    return None


def _members(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    """What a module documents, as (path within the module, kind, object)."""
    yield "", "module", module
    public = sorted(_public(module).items())
    # Functions first: some, like `random.choice`, are methods of an object that is not shown.
    for name, member in public:
        if inspect.isroutine(member):
            yield name, "function", getattr(member, "__func__", member)
    for name, member in public:
        if inspect.isclass(member):
            yield name, "class", member
            for attribute, value in sorted(vars(member).items()):
                method = getattr(value, "__func__", value)  # within a class or static method
                if not attribute.startswith("_") and inspect.isroutine(method):
                    yield f"{name}.{attribute}", "method", method


def _public(module: ModuleType) -> dict[str, Any]:
    """The names that a module offers: `__all__`, or what is defined in it."""
    if exported := getattr(module, "__all__", None):
        return {name: getattr(module, name, None) for name in exported if name[0] != "_"}
    own = {module.__name__, f"_{module.__name__}"}
    return {
        name: member
        for name, member in vars(module).items()
        if name[0] != "_" and getattr(member, "__module__", None) in own
    }


def _row(module: str, path: str, kind: str, member: Any) -> dict[str, Any] | None:
    # A class without a docstring would answer with the one of its base.
    written = vars(member).get("__doc__") if kind == "class" else member.__doc__
    if not isinstance(written, str) or _BOILERPLATE.match(written):
        return None
    doc = inspect.cleandoc(written)
    paragraph = _CALLS.sub("", doc).partition("\n\n")[0]
    if not paragraph:
        return None
    return {
        "id": f"{module}.{path}" if path else module,
        "kind": kind,
        "module": module,
        "name": path or module,
        "signature": _signature(member) if kind != "module" else None,
        "summary": " ".join(paragraph.split())[:_SUMMARY_LENGTH],
        "doc": doc,
    }


def _signature(member: Any) -> str | None:
    with suppress(Exception):  # Much that is written in C has none.
        signature = inspect.signature(member)
        parameters = [
            parameter
            if parameter.default is parameter.empty or type(parameter.default) in _LITERALS
            else parameter.replace(default=_Elided())
            for parameter in signature.parameters.values()
        ]
        return str(signature.replace(parameters=parameters))
    return None


class _Elided:
    """Stands for a default that is no literal.

    The text of such an object may differ from one process to the next, and even tell secrets: the
    default of `cgi.parse` is the environment.
    """

    def __repr__(self) -> str:
        return "..."
