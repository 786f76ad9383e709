"""Shows the whole platform at work, within a minute: `make demo`.

Starts `penstock up` as a real process with an empty state folder, sends it real pictures, tells what came back and what
the workers did, waits until they are gone, stops it, and looks whether anything is left. Ends with 0 when all of that
went as promised.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import psutil

EXAMPLES = Path(__file__).parent
DIGITS = EXAMPLES / "digits"
sys.path.insert(0, str(DIGITS))

PATIENCE_S = 30.0
SHADES = " ░▒▓█" if (sys.stdout.encoding or "").lower().startswith("utf") else " .+#@"


class Answer(NamedTuple):
    """What came back, and how long it took in seconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    took: float

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Api:
    """One connection to the platform: what follows is plain HTTP, as curl would speak it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Make a request; `Content_Type=...` stands for the header Content-Type."""
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        began = time.perf_counter()
        try:
            self._connection.request(method, path, body or None, spelled)
            reply = self._connection.getresponse()
            content = reply.read()
        except OSError:
            self._connection.close()
            raise
        found = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, found, content, time.perf_counter() - began)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def infer(self, picture: bytes, **headers: str) -> Answer:
        """Ask what digit a picture shows."""
        return self.call("POST", "/v1/digits/infer", picture, Content_Type="image/png", **headers)


# ------------------------------------------------------------------ what is told


def say(what: str, text: str = "", took: float | None = None) -> None:
    """Print one line: a word, what happened, how long it took."""
    measure = "" if took is None else duration(took)
    print(f"  {what:<10} {text:<76}{measure:>8}".rstrip(), flush=True)


def duration(seconds: float) -> str:
    """Give seconds as people read them."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def drawn(image: Any) -> list[str]:
    """Give an 8 x 8 image as 8 lines of text."""
    return ["".join(SHADES[int(shade / 16 * 4.99)] * 2 for shade in row) for row in image]


def expect(holds: object, promise: str, seen: object = "") -> None:
    """Stop the demo when something is not as promised."""
    if not holds:
        raise AssertionError(f"{promise}; seen: {seen}")


def until(happens: Callable[[], Any], promise: str, patience: float = PATIENCE_S) -> Any:
    """Give what `happens` gives once that is something."""
    deadline = time.monotonic() + patience
    while not (found := happens()):
        expect(time.monotonic() < deadline, f"{promise} within {patience:g} s", found)
        time.sleep(0.05)
    return found


# ------------------------------------------------------------------ the platform


@contextmanager
def platform(state: Path) -> Iterator[tuple[subprocess.Popen[bytes], Api]]:
    """Give a started `penstock up` and a connection to it; whatever happens, it is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("penstock")), "up", "--port", str(port), "--state", str(state)]
    with (state / "platform.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    api = Api(port)
    try:
        until(lambda: ready(process, api), "the platform is ready")
        yield process, api
    except BaseException:
        print((state / "platform.log").read_text()[-4000:], file=sys.stderr)
        raise
    finally:
        api.close()
        process.kill()
        process.wait()
        for orphan in ours(state):
            orphan.kill()


def ready(process: subprocess.Popen[bytes], api: Api) -> bool:
    """Tell whether the platform answers that it is ready."""
    expect(process.poll() is None, "the platform starts", f"it ended with {process.returncode}")
    try:
        return api.call("GET", "/health/ready").status == 200
    except OSError:
        return False


def ours(state: Path) -> list[psutil.Process]:
    """Give every process of this demo's platform: the workers say on their command line or environment whose they are."""
    found = []
    for process in psutil.process_iter():
        try:
            belongs = str(state) in " ".join(process.cmdline()) or str(state) in " ".join(process.environ().values())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if belongs and process.pid != os.getpid():
            found.append(process)
    return found


def workers(api: Api) -> list[dict[str, Any]]:
    """Give every worker that the app ever had."""
    return api.call("GET", "/v1/workers?app=digits").document["items"]


def living(api: Api) -> list[dict[str, Any]]:
    """Give those that are there now."""
    return [worker for worker in workers(api) if worker["state"] in {"STARTING", "IDLE", "BUSY", "DRAINING"}]


# ------------------------------------------------------------------ the story


def main() -> int:
    """Tell it from beginning to end."""
    print("\nPenstock: a durable queue in front of a model that reads handwritten digits\n")
    prepare()
    import samples
    from data import held_out

    images, truth = held_out()
    pictures = [samples.as_png(image) for image in images]
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder:
        state = Path(folder)
        began = time.perf_counter()
        with platform(state) as (process, api):
            say("started", f"penstock up, on {api.url}", time.perf_counter() - began)
            apply(api)
            first_from_zero(api, images[5], pictures[5], int(truth[5]))
            one_after_another(api, pictures[6:], truth[6:])
            what_the_workers_did(api)
            back_to_zero(api, pictures[3], int(truth[3]))
            stop(process, state)
    print("\nAll as promised. Next: make up, then docs/tutorial/first-app.md\n")
    return 0


def prepare() -> None:
    """Train the model unless it is there already."""
    import digits

    if digits.MODEL.exists() and digits.MODEL.stat().st_mtime > Path(digits.__file__).stat().st_mtime:
        return
    import train

    began = time.perf_counter()
    accuracy = train.train()
    say(
        "trained",
        f"a model on this machine; {accuracy:.1%} right on digits that it never saw",
        time.perf_counter() - began,
    )


def apply(api: Api) -> None:
    """Register the app, as `penstock apply -f examples/digits/app.yaml` does."""
    command = [str(Path(sys.executable).with_name("penstock")), "apply", "-f", str(DIGITS / "app.yaml")]
    began = time.perf_counter()
    done = subprocess.run([*command, "--api", api.url], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, "the app is accepted", done.stdout + done.stderr)
    expect(living(api) == [], "an app without work has no worker", living(api))
    say("applied", "examples/digits/app.yaml; no work, so no worker", time.perf_counter() - began)


def first_from_zero(api: Api, image: Any, picture: bytes, digit: int) -> None:
    """Ask for the first time: a worker is started for it."""
    answer = api.infer(picture, Prefer="wait=60")
    expect(answer.status == 200, "the first picture is read", answer)
    read = answer.document
    expect(read["digit"] == digit, f"it is a {digit}", read)
    print()
    for line, row in enumerate(drawn(image)):
        print(f"             {row}" + (f"   ->   {read['digit']}, {read['confidence']:.1%} sure" if line == 3 else ""))
    print()
    say("sync", "a picture went in; a worker came from zero, loaded the model, and answered", answer.took)


def one_after_another(api: Api, pictures: list[bytes], truth: Any) -> None:
    """Ask in each of the ways there are."""
    answer = api.infer(pictures[0])
    expect(answer.status == 200 and answer.document["digit"] == truth[0], "the second picture is read", answer)
    say("sync", f"another: {answer.document['digit']}; the worker was there", answer.took)

    again = api.infer(pictures[0])
    expect(again.headers.get("penstock-cache") == "hit" and again.body == answer.body, "a repeat is a hit", again)
    say("repeated", f"the same once more: {again.document['digit']}; no model ran, the result is kept", again.took)

    asynchronous(api, pictures[1], int(truth[1]))
    cancelled(api, pictures[2])

    bad = api.infer(b"this is no picture")
    expect((bad.status, bad.document["code"]) == (422, "INVALID_INPUT"), "a bad input is refused", bad)
    say("bad", f"422 {bad.document['code']}; it failed alone, and says what to send", bad.took)


def asynchronous(api: Api, picture: bytes, digit: int) -> None:
    """Hand a picture in, go away, come back for the result."""
    taken = api.infer(picture, Prefer="respond-async")
    expect(taken.status == 202, "it is taken in", taken)
    ticket = taken.document["ticket"]
    done = until(lambda: finished(api, ticket), "the ticket leads to a result")
    expect(done.document["digit"] == digit, f"it is a {digit}", done)
    say("async", f"202 with ticket {ticket[:8]}..., durable already; asked later: {done.document['digit']}", taken.took)


def finished(api: Api, ticket: str) -> Answer | None:
    """Give the answer behind a ticket, or None while there is none."""
    answer = api.call("GET", f"/v1/digits/status/{ticket}")
    return None if answer.status == 202 else answer


def cancelled(api: Api, picture: bytes) -> None:
    """Cancel a run while it waits: the app is paused for that moment, so that it does wait."""
    expect(api.call("POST", "/v1/apps/digits/pause").status == 200, "the app is paused")
    taken = api.infer(picture, Prefer="respond-async").document
    answer = api.call("DELETE", f"/v1/digits/status/{taken['ticket']}")
    expect(answer.status == 200 and answer.document["state"] == "CANCELLED", "it is cancelled", answer)
    run = api.call("GET", f"/v1/runs/{taken['run_id']}").document
    expect(not run.get("attempts"), "a paused app's run is given to nobody", run)
    expect(api.call("POST", "/v1/apps/digits/resume").status == 200, "the app goes on")
    say("cancelled", "one that waited, as the app was paused for it; no worker ever saw it", answer.took)


def what_the_workers_did(api: Api) -> None:
    """Tell who worked, and how often each run was tried."""
    runs = api.call("GET", "/v1/runs?app=digits").document["items"]
    states = sorted({run["state"] for run in runs})
    counted = ", ".join(f"{sum(run['state'] == state for run in runs)} {state}" for state in states)
    print()
    say("runs", f"{len(runs)}: {counted}")
    for worker in workers(api):
        say(
            "worker",
            f"{worker['worker_uid']}, pid {worker.get('pid')}: {worker['state']}, {worker.get('attempts', 0)} runs executed",
        )


def back_to_zero(api: Api, picture: bytes, digit: int) -> None:
    """Wait until nothing works, then ask once more: the code is warm, so the way from zero is short."""
    began = time.perf_counter()
    until(lambda: not living(api), "an idle worker goes")
    say("zero", "nothing to do for 3 s, so the worker went", time.perf_counter() - began)
    answer = api.infer(picture)
    expect(answer.status == 200 and answer.document["digit"] == digit, "it comes again", answer)
    say("sync", f"from zero once more: {answer.document['digit']}; its code was kept warm", answer.took)


def stop(process: subprocess.Popen[bytes], state: Path) -> None:
    """Stop the platform as an operator would, and look whether anything is left."""
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    code = process.wait(PATIENCE_S)
    expect(code == 0, "it ends well", f"exit code {code}")
    until(lambda: not ours(state), "nothing is left running", patience=5)
    say("stopped", "SIGTERM; no process is left", time.perf_counter() - began)


def fail(reason: BaseException) -> NoReturn:
    """Say what was not as promised, and end with 1."""
    print(f"\nNot as promised: {reason}\n", file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (AssertionError, OSError, KeyError, ValueError, subprocess.TimeoutExpired) as error:
        fail(error)
