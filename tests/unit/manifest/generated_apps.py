"""Apps made by Hypothesis from the very types of the spec, so that a new field is generated from its first day."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from penstock.model.app import App
from penstock.model.app_rules import contradictions

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["yes", "null", "~", "", "1", "0x1F", "1e3", ".inf", "2020-01-01", "a: b", "- a", "# a", "<<", "*a", "'", '"', "\n"]
)
FREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Plain values that a type takes, within its bounds."""
    match kind:
        case inspect.Metadata():
            return values(kind.type)
        case inspect.StructType():
            tag = {kind.tag_field: st.just(kind.tag)} if kind.tag_field else {}
            fields = {field.encode_name: values(field.type) for field in kind.fields}
            needed = {field.encode_name for field in kind.fields if field.required}
            return st.fixed_dictionaries(
                tag | {key: fields[key] for key in needed},
                optional={key: value for key, value in fields.items() if key not in needed},
            )
        case inspect.UnionType():
            return st.one_of([values(choice) for choice in kind.types])
        case inspect.DictType():
            return st.dictionaries(values(kind.key_type), values(kind.value_type), max_size=3)
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type), min_size=kind.min_length or 0, max_size=3)
        case inspect.IntType():
            return st.integers(
                kind.ge if kind.ge is not None else -(2**63), kind.le if kind.le is not None else 2**63 - 1
            )
        case inspect.FloatType():
            low = kind.gt if kind.gt is not None else kind.ge
            return st.floats(low, exclude_min=kind.gt is not None, allow_nan=False, allow_infinity=False)
        case inspect.StrType(pattern=str(pattern)):
            longest = kind.max_length or 1000
            letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
            return st.from_regex(pattern.replace(r"$(?!\n)", r"\Z"), alphabet=letters).filter(
                lambda text: len(text) <= longest
            )
        case inspect.StrType():
            return TEXT.filter(lambda text: len(text) >= (kind.min_length or 0))
        case inspect.BoolType():
            return st.booleans()
        case inspect.EnumType():
            return st.sampled_from([member.value for member in kind.cls])
        case inspect.LiteralType():
            return st.sampled_from(list(kind.values))
        case inspect.NoneType():
            return st.none()
        case _:
            return FREE


def _settled(app: App) -> App:
    """Put back to its default each section that contradicts another."""
    defaults = App(name="settled", image="settled")
    while wrong := contradictions(app):
        section = wrong[0].pointer.split("/")
        name = "name" if section[1] == "metadata" else "image" if len(section) == 2 else section[2]
        field = dict(zip(App.__struct_encode_fields__, App.__struct_fields__, strict=True))[name]
        app = msgspec.structs.replace(app, **{field: getattr(defaults, field)})
    return app


APPS = values(inspect.type_info(App)).map(lambda plain: _settled(msgspec.convert(plain, App)))
