"""The smallest template: it speaks `penstock.model.forking` and forks `worker.main`. `TEST_TEMPLATE` makes it fail."""
# ruff: noqa: PTH123 -- it starts without pathlib, in milliseconds

import json
import os
import select
import signal
import socket
import sys
import time

import worker
from setproctitle import setproctitle


def child(line: dict, wires: list[int]) -> None:
    os.setsid()
    for number in wires:
        os.close(number)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(line["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(line["env"])
    setproctitle(f"penstock worker {line['uid']}")
    worker.main(line["uid"])


def worker_forever(say: object) -> None:
    """Be warm and heed nothing, not even the end of the socket."""
    say("ready", ok=True, why="")
    while True:
        signal.pause()


def main(wire: socket.socket) -> None:
    def say(tag: str, **fields: object) -> None:
        wire.sendall(json.dumps({"type": tag, **fields}).encode() + b"\n")

    mode = os.environ.get("TEST_TEMPLATE", "")
    if mode == "crash":
        sys.exit(3)
    time.sleep(float(os.environ.get("TEST_IMPORT_S", "0")))
    if mode == "linger":
        worker_forever(say)
    if mode == "refuse":
        say("ready", ok=False, why="it said no")
        return
    with open(os.environ["TEST_FOLDER"] + "/templates", "a") as file:
        file.write(f"{os.getpid()}\n")
    if mode == "confused":  # of strangers, and of a worker that nobody has asked for yet
        say("forked", uid="w-nobody", pid=1)
        say("forked", uid="w-1", pid=2**22 + 1)
        say("ended", uid="w-nobody", pid=1, code=0)
    say("ready", ok=True, why="")
    if mode == "confused":
        say("ready", ok=False, why="again")
    heard, alarm = socket.socketpair()
    alarm.setblocking(False)
    signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    uids: dict[int, str] = {}
    rest = b""
    while True:
        for ready in select.select([wire, heard], [], [])[0]:
            data = ready.recv(65536)
            if ready is wire:
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if mode == "deaf":
                        continue
                    if mode == "babble":
                        wire.sendall(b"what?\n")
                        continue
                    ask = json.loads(line)
                    pid = os.fork()
                    if pid == 0:
                        child(ask, [wire.fileno(), heard.fileno(), alarm.fileno()])
                    uids[pid] = ask["uid"]
                    if mode == "die":
                        os._exit(9)
                    say("forked", uid=ask["uid"], pid=pid)
        while uids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            say("ended", uid=uids.pop(pid), pid=pid, code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])))
