"""What the benchmarks need beside this package: a model, and dlt's own destination."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from example_project.model import model_folder

CACHE = Path(__file__).parent / ".cache"

# dlt's destination uses parts of qdrant-client that 1.19 no longer has.
_DLTS = ["dlt[qdrant]>=1.31,<2", "qdrant-client[fastembed]>=1.18,<1.19"]


def model_path() -> str:
    """A folder with the model's files."""
    return str(model_folder(CACHE))


def dlts_python() -> str:
    """The interpreter of an environment with dlt's own destination, made when first asked for."""
    folder = CACHE / "dlt"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = folder / "ready"
    if ready.exists():
        return str(python)
    print("Making an environment with dlt's own destination ...", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    uv = shutil.which("uv")
    installer = [uv, "pip", "install", "--python", str(python)] if uv else _pip(python)
    subprocess.run([*installer, "--quiet", *_DLTS], check=True)
    ready.touch()
    return str(python)


def _pip(python: Path) -> list[str]:
    return [str(python), "-m", "pip", "install"]
