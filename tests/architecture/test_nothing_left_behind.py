"""The watch over every test is itself tested: it sees what a test leaves behind, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LEAVES_A_TASK = """
import asyncio
async def test_it():
    global kept
    kept = asyncio.create_task(asyncio.sleep(100), name="forgotten")
"""

LEAVES_A_PROCESS = """
import subprocess
def test_it():
    global kept
    kept = subprocess.Popen(["sleep", "100"])
"""

TIDIES_UP = """
import asyncio, subprocess
async def test_task():
    asyncio.create_task(asyncio.sleep(0.05))
def test_process():
    subprocess.Popen(["sleep", "0.05"]).wait()
"""

NEEDS_A_SERVICE = """
def test_it(need):
    need("the service", None)
"""


@pytest.fixture
def outcome(tmp_path):
    """Give the closing lines of a pytest run over one file that is watched as ours are."""

    def run(source, **environment):
        shutil.copy(ROOT / "tests/conftest.py", tmp_path)
        tmp_path.joinpath("test_it.py").write_text(source)
        tmp_path.joinpath("pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-ra", "-p", "pytest_asyncio.plugin", tmp_path],
            env={
                "PATH": "/usr/bin:/bin",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # so that it starts in no time
                "PENSTOCK_TEST_GRACE_S": "0.3",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    return run


def test_a_task_left_behind_is_an_error(outcome):
    said = outcome(LEAVES_A_TASK)
    assert "1 passed, 1 error" in said
    assert "tasks are left behind" in said


def test_a_process_left_behind_is_an_error_and_is_ended(outcome):
    said = outcome(LEAVES_A_PROCESS)
    assert "1 passed, 1 error" in said
    pid = said.partition("child processes are left behind:\n")[2].partition(":")[0]
    assert not Path("/proc", pid, "cmdline").exists() or not Path("/proc", pid, "cmdline").read_bytes()


def test_what_ends_in_time_is_none(outcome):
    assert "2 passed" in outcome(TIDIES_UP)


def test_a_missing_service_skips_at_home_and_fails_in_continuous_integration(outcome):
    assert "1 skipped" in outcome(NEEDS_A_SERVICE)
    assert "1 failed" in outcome(NEEDS_A_SERVICE, CI="true")
