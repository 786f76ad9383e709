"""The glossary and the code agree: every word is in the code, every code is in the glossary, no synonym creeps in."""

import importlib
import re

import pytest

from penstock.model.fleet import WorkerState
from penstock.model.placement import Code, Phase
from penstock.model.run import MACHINE, AttemptState, Reason, State
from sources import ROOT, classes

GLOSSARY = (ROOT / "docs/glossary.md").read_text()

# Classes that use a word which means something else in the docs, and why they may.
EXCUSED = {
    "Assignment": "the wire's name of what a lease gives; the jobs face calls it so too",
}

# Words of other systems for what has a name here. Only whole words of a class's name count.
BANNED = {
    "Algorithm": "App",
    "Assignment": "Attempt",
    "Backend": "Candidate",
    "Delivery": "Attempt",
    "Executor": "Worker",
    "Janitor": "Maintainer",
    "Job": "Run",
    "Organisation": "Tenant",
    "Organization": "Tenant",
    "Reaper": "Maintainer",
    "Slot": "Worker",
    "Supervisor": "Maintainer",
    "User": "Tenant",
    "Workgroup": "Pool",
}


def words():
    """Give the rows of the glossary's first table: word, and where it is in the code."""
    rows = re.findall(r"^\| (\w+) \| [^|]* \| `([\w.]+)` \|", GLOSSARY, re.MULTILINE)
    return [pytest.param(place, id=word) for word, place in rows]


@pytest.mark.parametrize("place", words())
def test_every_word_is_in_the_code(place):
    parts = place.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        break
    for name in parts[split:]:
        found = getattr(found, name)
    assert found is not None


def test_the_glossary_has_words():
    assert len(words()) >= 20


@pytest.mark.parametrize("kind", [State, Reason, AttemptState, WorkerState, Phase, Code])
def test_every_code_is_in_the_glossary(kind):
    assert [member.value for member in kind if f"| `{member.value}` |" not in GLOSSARY] == []


def test_the_glossary_has_no_code_of_its_own():
    known = {member.value for kind in (State, Reason, AttemptState, WorkerState, Phase, Code) for member in kind}
    assert set(re.findall(r"^\| `([A-Za-z_]+)` \|", GLOSSARY, re.MULTILINE)) - known == set()


def test_the_docs_draw_every_state():
    drawing = (ROOT / "docs/architecture.md").read_text()
    assert [state for state in MACHINE if f"| {state} |" not in re.sub(r" +", " ", drawing)] == []


def test_classes_use_the_projects_words():
    found = {}
    for file, name in classes():
        parts = re.findall(r"[A-Z][a-z0-9]*", name)
        if name not in EXCUSED and (wrong := BANNED.keys() & set(parts)):
            found[f"{file}:{name}"] = {word: BANNED[word] for word in wrong}
    assert found == {}


def test_no_excuse_outlives_its_need():
    assert EXCUSED.keys() - {name for _, name in classes()} == set()
