"""What a clean clone lacks: the virtual environment and the binary. Standard library only."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "peers"


def interpreter(name: str = "venv", requirements: Path = HERE / "requirements.txt") -> Path:
    """The Python of an environment below `target/peers`, which is made if it is not there."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or later is needed, this is {sys.version.split()[0]}")
    stamp = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = WORK / name
    python = folder / "bin" / "python"
    marker = folder / "requirements.sha256"
    if python.exists() and marker.exists() and marker.read_text() == stamp:
        return python
    print(f"installing {requirements.relative_to(HERE)} into {folder}", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--prefer-binary", "--requirement", str(requirements)], check=True)
    marker.write_text(stamp)
    return python


def enter(script: Path, name: str = "venv", requirements: Path = HERE / "requirements.txt") -> None:
    """Starts `script` again in an environment, unless this is it already."""
    python = interpreter(name, requirements)
    if Path(sys.prefix).resolve() != python.parent.parent.resolve():
        os.execv(python, [str(python), "-B", str(script), *sys.argv[1:]])


def binary() -> Path:
    """The release binary, built by cargo as far as it is not fresh."""
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--bin", "isotick"]
    subprocess.run(build, cwd=ROOT, check=True)
    return WORK.parent / "release" / "isotick"
