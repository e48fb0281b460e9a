"""What a change of the contract would break, and for whom: the rules behind docs/contract.md, "Compatibility".

Our own rules and not a general comparison of schemas: the schemas are open, so a general one would refuse every added
field; and it could not say whom a change hits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FORM = ("type", "format", "pattern", "enum", "const", "minLength", "maxLength")
"""What a subscriber's column, class or switch is built on. Looser and stricter are both another form."""

_READERS = "every subscriber that reads it, in any language, and their history: old records keep the old form"
_UNASKING = "every subscriber that reads it without asking whether it is there"
_OLD_RECORDS = (
    "whoever reads what is already there: 28 days of records on the topic, replays and journals lack it, and the kit "
    "and all sinks would refuse them"
)
_EVERYBODY = "every subscriber: groups, offsets, access rights and the partition of a contact hang on it"


def value_breaks(released: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """List what of a released value schema no longer holds; empty when the change is compatible."""
    return list(_object("value", released, current))


def topic_breaks(released: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Likewise for two AsyncAPI documents: topic, partitions, key and headers."""
    return [*_topic(released, current), *_object("header", _message(released)["headers"], _message(current)["headers"])]


def _object(what: str, released: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    old, new = released["properties"], current["properties"]
    for name, form in old.items():
        if name not in new:
            yield _gone(what, name, form, {other: new[other] for other in new if other not in old})
        elif changed := [key for key in _FORM if form.get(key) != new[name].get(key)]:
            changes = ", ".join(f"{key} {form.get(key)!r} -> {new[name].get(key)!r}" for key in changed)
            yield f"{what} `{name}` has another form ({changes}). Breaks {_READERS}."
    for name in old:
        if name in new and name in released["required"] and name not in current["required"]:
            yield f"{what} `{name}` may now be absent. Breaks {_UNASKING}."
    for name in current["required"]:
        if name not in released["required"]:
            yield f"{what} `{name}` is newly required. Breaks {_OLD_RECORDS}. Let it be optional."
    if released.get("additionalProperties", True) and not current.get("additionalProperties", True):
        yield f"{what}: further fields are shut out. Breaks whoever validates a record of a later release."


def _gone(what: str, name: str, form: Mapping[str, Any], added: Mapping[str, Any]) -> str:
    alike = [other for other, its in added.items() if its.get("type") == form.get("type")]
    renamed = f" (renamed to `{alike[0]}`?)" if alike else ""
    return f"{what} `{name}` is gone{renamed}. Breaks {_READERS}. Keep it, and add beside it."


def _topic(released: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    for what, old in _place(released).items():
        if (new := _place(current)[what]) != old:
            yield f"the {what} changed: {old!r} -> {new!r}. Breaks {_EVERYBODY}."


def _place(document: Mapping[str, Any]) -> dict[str, Any]:
    channel = document["channels"]["dialResults"]
    key = _message(document)["bindings"]["kafka"]["key"]
    return {
        "topic's name": channel["address"],
        "number of partitions": channel["bindings"]["kafka"]["partitions"],
        "key": {name: key[name] for name in ("type", "pattern")},
        "content type": _message(document)["contentType"],
    }


def _message(document: Mapping[str, Any]) -> Any:  # noqa: ANN401  # parsed YAML
    return document["components"]["messages"]["dialResult"]
