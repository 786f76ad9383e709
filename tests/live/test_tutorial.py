"""The tutorial is walked: its files are written, its commands are run, and what it shows is what comes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs/tutorial/first-app.md").read_text()
PLACEHOLDERS = re.compile(r"\b(PID|ID|TICKET|RUN)\b")


def block(language):
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE)
    return text


def steps():
    """Give each command that can be run as it stands, with the lines that the page shows below it."""
    found = []
    for console in re.findall(r"^```console\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE):
        for line in console.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    skipped = ("make ", "source ")
    return [(line, shown) for line, shown in found if not line.startswith(skipped) and not PLACEHOLDERS.search(line)]


@pytest.fixture
def platform(tmp_path):
    sys.path.insert(0, str(ROOT / "examples"))
    import demo

    state = tmp_path / "state"
    state.mkdir()
    with demo.platform(state) as (process, api):
        yield api
        demo.stop(process, state)
    sys.path.remove(str(ROOT / "examples"))


@pytest.mark.live
@pytest.mark.timeout(120)
def test_the_tutorial_goes_as_it_says(platform, tmp_path):
    (tmp_path / "words.py").write_text(block("python run"))
    (tmp_path / "app.yaml").write_text(block("yaml"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PENSTOCK_API": platform.url,
        "HOME": str(tmp_path),
    }
    walked = []
    for line, shown in steps():
        command = line.replace("http://127.0.0.1:8080", platform.url)
        if command.startswith("penstock delete"):
            command += " --yes"
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        for expected in shown:
            assert expected in done.stdout
        walked.append(done.stdout)
    assert len(walked) >= 10
    told = "".join(walked)
    assert "penstock-cache: hit" in told
    assert '"code":"INVALID_INPUT"' in told
    assert "w-words-" in told
