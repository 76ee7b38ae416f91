"""Imports point one way, and `import linrep` is light."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import linrep

SRC = Path(linrep.__file__).parent

# What each part may import besides itself; see the map in docs and README. `linrep` alone gives `__version__`.
MAY_IMPORT = {
    "errors": set(),
    "geometry": {"errors"},
    "worlds": {"errors", "geometry"},
    "learning": {"errors", "geometry", "worlds"},
    "theory": {"errors", "geometry", "worlds", "learning"},
    "concepts": {"errors", "geometry"},
    "models": {"errors", "geometry", "concepts"},
    "studies": {"errors", "geometry", "worlds", "learning", "theory", "concepts", "models"},
    "runs": {"errors", "geometry", "worlds", "learning", "theory", "concepts", "models", "studies"},
    "report": {"errors", "geometry", "worlds", "learning", "theory", "concepts", "models", "studies", "runs"},
}
MAY_IMPORT["cli"] = set(MAY_IMPORT)
# Packages that only some parts may import: the geometry and the worlds are NumPy, models is NumPy but for three files.
ONLY_IN = {
    "torch": {"models/transformers_model.py", "models/transformers_hooks.py", "models/steering.py"},
    "transformers": {"models/transformers_model.py"},
    "jax": {"learning", "theory"},
    "equinox": {"learning"},
    "optax": {"learning"},
}
HEAVY = ("numpy", "scipy", "sklearn", "polars", "jax", "torch", "transformers", "altair", "pydantic", "typer", "rich")


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """Dotted names of every module that a source imports, at the top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            # `from linrep import x` may name a part or a public name; `from linrep.x import y` is about linrep.x.
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "linrep" else {module}
    return names


def violations(relative: str, source: str) -> list[str]:
    """What one file imports that it must not."""
    path = Path(relative)
    part = path.parts[0].removesuffix(".py")
    found = []
    for name in sorted(imported(source, ("linrep", *path.parts[:-1]))):
        top, *rest = name.split(".")
        if top == "linrep":
            other = rest[0] if rest else "linrep"
            if other not in {part, "__version__"} | MAY_IMPORT.get(part, set()):
                found.append(f"{relative} imports {name}")
        elif top in ONLY_IN and not {part, path.as_posix()} & ONLY_IN[top]:
            found.append(f"{relative} imports {name}")
    return found


def files() -> list[Path]:
    return sorted(path for path in SRC.rglob("*.py") if path != SRC / "__init__.py")


def test_no_arrow_points_back():
    found = [v for path in files() for v in violations(path.relative_to(SRC).as_posix(), path.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_every_part_has_its_place_in_the_map():
    parts = {path.relative_to(SRC).parts[0].removesuffix(".py") for path in files()}
    assert parts <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("relative", "source"),
    [
        ("geometry/x.py", "from linrep.worlds.world import World"),
        ("geometry/x.py", "def f():\n    import linrep.models.source"),
        ("geometry/x.py", "from linrep import models"),
        ("geometry/x.py", "from linrep import World"),
        ("geometry/x.py", "from ..concepts import load"),
        ("errors.py", "from linrep.geometry import pairs"),
        ("concepts/x.py", "from linrep.models.source import open_model"),
        ("models/x.py", "from linrep.worlds import world"),
        ("studies/x.py", "from linrep.runs.store import Run"),
        ("runs/x.py", "import linrep.report.page as p"),
        ("models/safetensors_file.py", "import torch.nn as nn"),
        ("geometry/x.py", "import jax.numpy as jnp"),
    ],
)
def test_the_check_sees_a_wrong_import(relative, source):
    assert violations(relative, source)


@pytest.mark.parametrize(
    ("relative", "source"),
    [
        ("geometry/x.py", "from linrep.errors import LinrepError\nfrom . import metrics\nfrom .pairs import Side"),
        ("cli/x.py", "from linrep import __version__\nfrom linrep.report.page import write_report"),
        ("models/transformers_model.py", "import torch"),
    ],
)
def test_the_check_lets_right_imports_pass(relative, source):
    assert violations(relative, source) == []


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_linrep_brings_nothing_heavy():
    code = (
        "import json, sys; import linrep; dir(linrep); print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    )
    loaded = set(json.loads(run_python(code)))
    assert "linrep" in loaded
    assert not loaded & set(HEAVY)


def test_the_geometry_and_the_worlds_load_neither_jax_nor_torch():
    code = "import sys; import linrep.geometry.measure, linrep.worlds.presets; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in run_python(code).split()}
    assert not loaded & {"jax", "jaxlib", "torch", "transformers"}


@pytest.mark.parametrize("name", linrep.__all__)
def test_every_public_name_resolves(name):
    value = getattr(linrep, name)
    if callable(value):
        assert value.__name__ == name
        assert value.__doc__


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Wurld'"):
        _ = linrep.Wurld
