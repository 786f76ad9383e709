"""The docs are true: their code runs, their commands and files exist, and what the code can tell, it tells."""

import importlib.util
import re
import shlex

import click
import pytest

from pages import anchors, blocks, commands, links, pages
from penstock.manifest import parse
from penstock.run.program import program
from sources import ROOT


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.place)
def test_python_in_the_docs_is_right(block):
    code = compile(block.text, block.place, "exec")
    if "run" in block.marks:
        exec(code, {"__name__": "a_page_of_the_docs"})


def test_some_python_in_the_docs_is_run():
    assert {block.place.partition(":")[0] for block in blocks("python") if "run" in block.marks} >= {
        "README.md",
        "docs/how-to/write-a-handler.md",
        "docs/tutorial/first-app.md",
    }


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.place)
def test_every_spec_in_the_docs_is_a_valid_app(block):
    apps = parse(block.text, source=block.place)
    assert [app.name for app in apps]


def test_every_link_within_the_project_leads_somewhere():
    broken = []
    for page, target in links():
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_every_page_of_the_docs_can_be_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    linked = {}
    for page, target in links():
        linked.setdefault(page, []).append((page.parent / target.partition("#")[0]).resolve())
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        ahead += [place for place in linked.get(page, []) if place.suffix == ".md"]
        ahead += [inner for place in linked.get(page, []) if place.is_dir() for inner in place.glob("*.md")]
    assert {str(page.relative_to(ROOT)) for page in pages()} - {str(page.relative_to(ROOT)) for page in reached} == {
        "changelog.d/README.md"
    } & {str(page.relative_to(ROOT)) for page in pages()}


def test_every_target_that_the_docs_make_is_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {(place, line.split()[1]) for place, line in commands() if line.startswith("make ")}
    assert {name for _, name in asked} >= {"demo", "up", "check", "test", "bench"}
    assert {(place, name) for place, name in asked if name not in targets} == set()


def penstock_commands():
    """Give the arguments of every `penstock` command in the docs, behind pipes and assignments too."""
    for place, line in commands():
        for part in re.split(r"\s[|&>]+\s", line):
            words = shlex.split(part)
            if words and words[0].rpartition("/")[2] == "penstock":
                yield pytest.param(words[1:], id=f"{place}: {' '.join(words[1:])}")


@pytest.mark.parametrize("words", list(penstock_commands()))
def test_every_command_that_the_docs_call_is_there_with_its_options(words):
    command, name = program(), "penstock"
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(words)


def test_every_script_that_the_docs_run_is_there():
    missing = []
    for place, line in commands():
        words = shlex.split(line.partition("|")[0])
        if words[0].endswith("python"):
            missing += [f"{place}: {word}" for word in words[1:2] if not (ROOT / word).is_file()]
    assert missing == []


def test_every_path_that_the_docs_name_is_there():
    named = re.compile(r"`((?:src|tests|docs|examples|bench|changelog\.d)/[\w./-]*)`")
    missing = []
    for page in pages():
        missing += [f"{page.name}: {path}" for path in named.findall(page.read_text()) if not (ROOT / path).exists()]
    assert missing == []


def test_every_test_that_the_docs_name_is_there():
    missing = []
    for page in pages():
        for path, name in re.findall(r"`(tests/[\w./-]+)::(\w+)`", page.read_text()):
            if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text():
                missing.append(f"{page.name}: {path}::{name}")
    assert missing == []


def test_every_promise_is_shown_by_a_test():
    text = (ROOT / "docs/architecture.md").read_text()
    tests = (ROOT / "tests/walk/test_walk_promises.py").read_text()
    named = re.findall(r"\| `(test_promise_\d+)` \|", text)
    assert named == [f"test_promise_{number}" for number in range(1, 11)]
    assert [name for name in named if f"def {name}_" not in tests] == []


def test_what_the_code_tells_of_itself_is_as_the_code_is():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    old = [str(page.relative_to(ROOT)) for page in pages() if generate.written(page.read_text()) != page.read_text()]
    assert old == [], "run: python docs/generate.py"
