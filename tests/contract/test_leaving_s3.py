"""A process that used a bucket says what went wrong before it ends, and ends as it should after work.

Right after an error its very end may abort in obstore's threads (docs/critiques.md), so there the exit code is not held.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, sys
from penstock.errors import PenstockError
from penstock.run.clock import SystemClock
from penstock.store import open_store
async def main():
    try:
        async with open_store(sys.argv[1], clock=SystemClock(), random=os.urandom, environ=os.environ) as store:
            await store.probe()
    except PenstockError as error:
        print(error.code, error.detail)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket?endpoint=http://127.0.0.1:1&access_key_id=a&secret_access_key=b", "UNAVAILABLE"),
        ("s3://bucket?endpoint=http://127.0.0.1:1", "no keys"),
    ],
)
def test_after_an_error(url, said):
    environ = {"PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, url], env=environ, capture_output=True, text=True, check=False, timeout=50
        )
        assert said in done.stdout, done.stderr


def test_after_work(aws):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, aws.url("s3", aws.bucket())],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
