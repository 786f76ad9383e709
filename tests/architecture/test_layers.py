"""Imports go one way, and the picture of it in the docs is the one that the linter checks."""

import re
import subprocess
import sys

from sources import ROOT, SOURCE, layers


def test_every_contract_about_imports_holds():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_has_a_layer():
    named = {name for row in layers() for name in row}
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == named


def test_the_docs_draw_the_layers_that_are_checked():
    text = (ROOT / "docs/architecture.md").read_text()
    (drawing,) = re.findall(r"```layers\n(.*?)```", text, re.DOTALL)
    drawn = [[word for word in re.split(r"[\s|]+", line.partition("#")[0]) if word] for line in drawing.splitlines()]
    assert drawn == layers()


def test_each_package_says_in_the_docs_what_it_is_for():
    text = (ROOT / "docs/architecture.md").read_text()
    missing = [name for row in layers() for name in row if f"| `{name}` |" not in text]
    assert missing == []
