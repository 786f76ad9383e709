"""The tail is watched: no file, function or parameter list grows beyond what one reads in a sitting."""

import re
from functools import cache

import pytest

from sources import SOURCE, classes, functions, modules

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 60
MOST_PARAMETERS = 8

# What is longer or wider, and why that is better than the alternative. An excuse that is no longer needed fails too.
EXCUSED: dict[str, str] = {
    "serving/intake.py:Intake.__init__": "the ports that it joins, each given by the wiring under its name",
    "worker/current.py:CurrentRun.__init__": "a record's fields, each given under its name",
}

SAYS_NOTHING = {"core", "common", "utils", "util", "manager", "managers", "helper", "helpers", "base", "misc", "tools"}


@cache
def too_large():
    """Give each place beyond a limit, with its measure."""
    return dict([*long_files(), *large_functions()])


def long_files():
    for name in modules():
        if (lines := len(SOURCE.joinpath(name).read_text().splitlines())) > MOST_LINES_OF_A_FILE:
            yield name, f"{lines} lines"


def large_functions():
    for function in functions():
        if function.lines > MOST_LINES_OF_A_FUNCTION:
            yield function.place, f"{function.lines} lines"
        if function.parameters > MOST_PARAMETERS:
            yield function.place, f"{function.parameters} parameters"


def test_nothing_is_too_long_or_too_wide():
    assert {place: size for place, size in too_large().items() if place not in EXCUSED} == {}


def test_no_excuse_outlives_its_need():
    assert EXCUSED.keys() - too_large().keys() == set()


def test_packages_are_named_for_what_they_hold():
    parts = {part.strip("_") for name in modules() for part in name.removesuffix(".py").split("/")}
    assert parts & SAYS_NOTHING == set()


def test_classes_are_named_for_what_they_are():
    named = {
        f"{file}:{name}": {word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", name)} for file, name in classes()
    }
    assert {place: words & SAYS_NOTHING for place, words in named.items() if words & SAYS_NOTHING} == {}


@pytest.mark.parametrize("remark", ["TODO", "FIXME", "XXX", "HACK"])
def test_no_work_is_left_in_remarks(remark):
    assert [name for name in modules() if remark in SOURCE.joinpath(name).read_text()] == []
