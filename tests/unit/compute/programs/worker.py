"""A worker that does what a file tells it to, so that tests can stage any life and death.

It writes `{folder}/{uid}.ready` once it listens; on SIGUSR1 it does the lines of `{folder}/{uid}.todo`:
`say TEXT`, `exit CODE`, `deaf` (ignore SIGTERM), `child` (start a process of its own).
"""
# ruff: noqa: PTH108, PTH123 -- it starts without pathlib, in milliseconds

import os
import signal
import subprocess
import sys


def main(uid: str) -> None:
    folder = os.environ["TEST_FOLDER"]

    def obey(*_: object) -> None:
        with open(f"{folder}/{uid}.todo") as file:
            for line in file:
                verb, _, rest = line.rstrip("\n").partition(" ")
                do(verb, rest)
        os.unlink(f"{folder}/{uid}.todo")

    def do(verb: str, rest: str) -> None:
        if verb == "say":
            print(rest, flush=True)
        elif verb == "exit":
            os.unlink(f"{folder}/{uid}.todo")
            os._exit(int(rest))
        elif verb == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif verb == "child":
            child = subprocess.Popen(["sleep", "60"])
            with open(f"{folder}/{uid}.child", "w") as file:
                file.write(str(child.pid))

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGUSR1, obey)
    with open(f"{folder}/{uid}.env", "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in os.environ.items())
    with open(f"{folder}/{uid}.ready", "a") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[sys.argv.index("--uid") + 1])
