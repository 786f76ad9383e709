"""Text into apps, strictly: nothing unknown, mistyped or contradictory is passed over."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

import msgspec

from penstock.errors import Fault, InvalidSpec, SpecFault
from penstock.model import shape
from penstock.model.app import App
from penstock.model.app_rules import contradictions

from .document import Manifest
from .reader import Document, read
from .spelling import Normal, normalise

__all__ = ["parse", "resolve"]

FILE_SUFFIX: Final = ".py"
MAX_FAULTS: Final = 100  # nobody reads more at once


def parse(text: str, *, source: str = "<string>") -> list[App]:
    """Give the apps of a YAML text, in order; none for a text without documents.

    Args:
        text: one document or several, in either spelling; it may come from anybody.
        source: what the faults call the text, as a rule the file's path.

    Raises:
        InvalidSpec: with every fault of every document (the first 100), and its place.
    """
    documents, faults = read(text, source)
    unread = {(fault.line, fault.column) for fault in faults}
    apps: list[App] = []
    names: set[str] = set()
    for document in documents:
        app, normal, wrong = _judge(document)
        if app is not None:
            if app.name in names:
                wrong.append(Fault("/metadata/name", f"an app above is called '{app.name}' too"))
            names.add(app.name)
            apps.append(app)
        placed = (_placed(fault, document, normal, source) for fault in wrong)
        # What could not be read is wrong for that reason alone.
        faults += [fault for fault in placed if (fault.line, fault.column) not in unread]
    if faults:
        raise InvalidSpec(sorted(faults, key=lambda fault: (fault.line, fault.column))[:MAX_FAULTS])
    return apps


def resolve(app: App, folder: str) -> App:
    """Give the app with a handler file's path made absolute against `folder`, that of the app's YAML.

    A handler in a module, or a path that is absolute already, stays as it is.
    """
    path, colon, name = app.handler.rpartition(":")
    if not path.endswith(FILE_SUFFIX):
        return app
    return msgspec.structs.replace(app, handler=f"{PurePath(folder, path)}{colon}{name}")


def _judge(document: Document) -> tuple[App | None, Normal, list[Fault]]:
    if not isinstance(document.value, dict):
        message = f"expected a mapping that describes an app, got {shape.shown(document.value)}"
        return None, Normal({}, {}, []), [Fault("", message)]
    normal = normalise(document.value)
    try:
        app = msgspec.convert(normal.document, Manifest).app()
    except msgspec.ValidationError as error:
        faults = normal.faults + shape.faults(normal.document, Manifest)
        return None, normal, faults or [Fault("", str(error))]
    return app, normal, normal.faults + contradictions(app)


def _placed(fault: Fault, document: Document, normal: Normal, source: str) -> SpecFault:
    mark = document.mark(normal.origin(fault.pointer))
    return SpecFault(message=fault.message, pointer=fault.pointer, source=source, line=mark.line, column=mark.column)
