"""The statements of each adapter's .sql files: each is one that its code runs."""

from __future__ import annotations

import ast
from importlib.resources import files
from pathlib import Path

import pytest

from recado.adapters.store.statements import load


@pytest.mark.parametrize(
    "package",
    [
        "recado.adapters.store.sqlite",
        "recado.adapters.store.postgres",
        "recado.adapters.broker.sqlite",
        "recado.adapters.broker.log_sessions",
    ],
)
def test_the_code_names_every_statement(package: str) -> None:
    assert load(package).keys() <= texts_in(Path(str(files(package))))


def texts_in(folder: Path) -> set[str]:
    """The string literals of the modules in a folder."""
    trees = [ast.parse(module.read_text("utf-8")) for module in folder.glob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
