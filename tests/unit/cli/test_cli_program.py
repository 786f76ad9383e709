"""The program as a whole: its help, its verbs, what it costs to call it, how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from penstock._version import __version__
from penstock.run.program import program

PROGRAM = str(Path(sys.executable).with_name("penstock"))
VERBS = program().verbs


def loaded_by(*words):
    """Give the modules that a call of the program imports."""
    code = (
        "import sys; from penstock.run.program import main\n"
        f"sys.argv = ['penstock', *{list(words)!r}]\n"
        "try: main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize(
    "words", [["version"], ["--help"], ["completion", "bash"], ["config", "--help"], ["get", "--help"]]
)
def test_what_asks_no_server_loads_no_http_and_no_painter(words):
    assert loaded_by(*words) & {"aiohttp", "rich", "starlette", "uvicorn", "structlog", "sqlite3"} == set()


def test_version(penstock):
    assert penstock.out("version").startswith(f"penstock {__version__} (Python 3.")
    assert penstock.out("--version") == f"penstock {__version__}\n"


def test_version_of_the_server(penstock):
    penstock.answers["version"] = "9.9.9"
    assert penstock.out("version", "--server").splitlines()[1] == "server   9.9.9 (http://127.0.0.1:8080)"


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_can_be_loaded_and_explains_itself(penstock, name):
    command = program().get_command(click.Context(program()), name)
    assert command.name == name
    assert command.help
    assert f"Usage: penstock {name}" in penstock.out(name, "--help")


def test_examples_in_a_help_page_keep_their_lines(penstock):
    shown = penstock.out("submit", "--help")
    assert "\n  penstock submit digits -d @seven.png --wait\n" in shown
    assert "[default: table]" in shown
    assert "\\b" not in shown


def test_the_help_page_lists_every_verb(penstock):
    shown = penstock.out("--help")
    assert [name for name in VERBS if f"\n  {name} " not in shown] == []


def test_an_unknown_verb_names_the_nearest(penstock):
    done = penstock("summit", "echo")
    assert done.exit_code == 2
    assert "There is no command 'summit'. Did you mean 'submit'?" in done.stderr


def test_an_unknown_option_is_a_usage_error(penstock):
    assert penstock("get", "apps", "--colour").exit_code == 2


def test_a_reader_that_goes_is_no_error():
    # `schema` writes more than a pipe holds, and nobody reads it.
    done = subprocess.run(
        ["bash", "-c", f"for i in 1 2 3; do {PROGRAM} schema; done | head -c 10; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout) == 10
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(penstock, shell):
    assert "_PENSTOCK_COMPLETE" in penstock.out("completion", shell)


def test_bash_takes_the_script_and_completes_with_it(penstock, tmp_path):
    script = tmp_path / "penstock.bash"
    script.write_text(penstock.out("completion", "bash"))
    asking = "COMP_WORDS=(penstock re); COMP_CWORD=1; _penstock_completion penstock"
    done = subprocess.run(
        ["bash", "-c", f"source {script}; {asking}; echo ${{COMPREPLY[@]}}"],
        env={**os.environ, "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["resume", "result", "retry", "redrive"]
    assert done.stderr == ""


def test_ctrl_c_ends_quietly(penstock):
    def interrupted(_):
        raise KeyboardInterrupt

    penstock.answers["apps.get"] = interrupted
    done = penstock("get", "app", "echo")
    assert (done.exit_code, done.output) == (130, "")
