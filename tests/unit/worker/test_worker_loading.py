"""A handler's class is found, or the error says what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.errors import Misconfigured
from penstock.worker.handler import Handler
from penstock.worker.loading import resolve

SOURCE = "from penstock import Handler\n\nclass Mine(Handler):\n    pass\n\nclass Other:\n    pass\n\nthing = 3\n"


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, name: str, text: str = SOURCE) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_class_is_found_in_a_file(tmp_path):
    found = resolve(write(tmp_path, "mine_in_a_file.py") + ":Mine")
    assert issubclass(found, Handler)
    assert (found.__name__, found.__module__) == ("Mine", "mine_in_a_file")


def test_a_class_is_found_in_a_module(tmp_path, monkeypatch):
    write(tmp_path, "mine_in_a_module.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("mine_in_a_module:Mine") is resolve("mine_in_a_module:Mine")


def test_a_file_can_import_its_neighbours_as_a_script_could(tmp_path):
    write(tmp_path, "neighbour_of_mine.py", "WEIGHT = 7\n")
    path = write(
        tmp_path, "uses_neighbour.py", SOURCE + "import neighbour_of_mine\nMine.w = neighbour_of_mine.WEIGHT\n"
    )
    assert resolve(f"{path}:Mine").w == 7


@pytest.mark.parametrize("name", ["json.py", "no-identifier.py"])
def test_a_file_hides_no_other_module(tmp_path, name):
    import json

    found = resolve(write(tmp_path, name) + ":Mine")
    assert found.__module__ == f"penstock_handler_{Path(name).stem}"
    assert sys.modules["json"] is json


def test_two_files_of_one_name_are_two_modules(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = resolve(write(tmp_path / "a", "model_file.py") + ":Mine")
    second = resolve(write(tmp_path / "b", "model_file.py", SOURCE + "Mine.second = True\n") + ":Mine")
    assert first is not second
    assert second.second


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("nocolon", "must be 'module:Class'"),
        (":Mine", "must be 'module:Class'"),
        ("module:", "must be 'module:Class'"),
        ("module:a.b", "must be 'module:Class'"),
        ("no_such_module_here:Mine", "can't be imported: ModuleNotFoundError"),
        ("/no/such/file.py:Mine", "/no/such/file.py does not exist"),
        ("{path}:Missing", "has no class 'Missing'"),
        ("{path}:Other", "no class derived from penstock.Handler"),
        ("{path}:thing", "no class derived from penstock.Handler"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, reference, told):
    path = write(tmp_path, "mine_for_errors.py")
    with pytest.raises(Misconfigured) as refused:
        resolve(reference.format(path=path))
    assert told in refused.value.detail


@pytest.mark.parametrize("line", ["1/0", "raise SystemExit('bye')", "def broken(:"])
def test_whatever_an_import_raises_is_a_fault_of_the_handler_and_can_be_tried_again(tmp_path, line):
    path = write(tmp_path, "breaks_at_import.py", line)
    for _ in range(2):
        with pytest.raises(Misconfigured, match="can't be imported") as refused:
            resolve(f"{path}:Mine")
        assert refused.value.__cause__ is not None
