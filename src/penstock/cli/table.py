"""Every client verb in one table: where its command is, and what the help page says of it."""

from __future__ import annotations

from typing import Final

from .lazy import Verb

__all__ = ["APPS", "RUNS", "SETTINGS"]


def _at(place: str, summary: str) -> Verb:
    return Verb(f"penstock.cli.verbs.{place}", summary)


APPS: Final = {
    "apply": _at("apply:apply", "Create or change apps from YAML"),
    "diff": _at("apply:diff", "Show what an apply would change"),
    "validate": _at("check:validate", "Check specs without a server"),
    "schema": _at("check:schema", "Print the JSON Schema of an app's YAML"),
    "get": _at("get:get", "List apps, runs or workers, or show one"),
    "describe": _at("describe:describe", "Tell all about an app or a run"),
    "delete": _at("apps:delete", "Forget apps"),
    "pause": _at("apps:pause", "Go on accepting runs, start none"),
    "resume": _at("apps:resume", "Accept and execute again"),
    "drain": _at("apps:drain", "Accept nothing new, finish what is queued"),
    "logs": _at("logs:logs", "Print what an app's workers print"),
    "events": _at("events:events", "Show what happened to an app or a run"),
}
RUNS: Final = {
    "submit": _at("submit:submit", "Send an input, get its result or a ticket"),
    "status": _at("tickets:status", "Show where an app or a ticket stands"),
    "result": _at("tickets:result", "Fetch the result of a run"),
    "cancel": _at("tickets:cancel", "Cancel runs"),
    "runs": _at("runs:runs", "List runs, by filter"),
    "explain": _at("runs:explain", "Say why a run waits or failed"),
    "retry": _at("runs:retry", "Start FAILED runs anew"),
    "redrive": _at("runs:redrive", "Retry all FAILED runs that match"),
    "wait": _at("wait:wait", "Wait until a condition holds"),
}
SETTINGS: Final = {
    "config": _at("config:config", "Choose among servers"),
    "whoami": _at("whoami:whoami", "Show who the credential says you are"),
    "version": _at("version:version", "Print versions"),
    "completion": _at("completion:completion", "Print a shell's completion script"),
}
