"""Finds the experts: every module of this package that does not start with ``_`` holds one.

Adding a file is all it takes to add an expert, and a file that does not load stops the start: a committee that
silently lost a member would vote differently from the one that was tested.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Final

from agents.experts._contract import Expert

PACKAGE: Final = "agents.experts"
_NOT_EXPERTS: Final = frozenset({"stage"})


def load(package: str = PACKAGE, names: Iterable[str] | None = None) -> dict[str, Expert]:
    """Return name -> expert in the order of their module names, all of them or those in ``names``.

    Raises ImportError when a module of the package does not import, ValueError when one holds no ``EXPERT``, when
    two experts have one name, and when ``names`` asks for one that is not there.
    """
    found: dict[str, Expert] = {}
    for module in sorted(item.name for item in pkgutil.iter_modules(importlib.import_module(package).__path__)):
        if module.startswith("_") or module in _NOT_EXPERTS:
            continue
        expert = getattr(importlib.import_module(f"{package}.{module}"), "EXPERT", None)
        if expert is None:
            raise ValueError(f"{package}.{module} defines no EXPERT")
        if expert.name in found:
            raise ValueError(f"{package}.{module}: an expert named {expert.name} exists already")
        found[expert.name] = expert
    if names is None:
        return found
    wanted = list(names)
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise ValueError(f"no such expert: {', '.join(missing)}; there are {', '.join(found)}")
    return {name: expert for name, expert in found.items() if name in wanted}
