"""The mapping file: which of our fields goes where in the CRM, and what its words for conclusions are.

```toml
object = "contacts"                   # HubSpot: type of object; Salesforce: sObject
id = "dial_contact"                   # the unique property, or external id field, that holds merchant:recordId

[fields]                              # ours = theirs; any field of the record as record.NAME or record.NAME.NAME
conclusion = "dial_result_conclusion"
"record.extVars.grade" = "grade"

[conclusions."*"]                     # of every merchant; [conclusions.acme] comes first for that one
KPTP = "Promised to pay"

[webhook]                             # for CRM_VENDOR=webhook; {theirs} and {contact} stand for values
path = "/api/leads"
headers = {Authorization = "Bearer {token}"}
body = {external_id = "{event_id}", title = "Call: {conclusion}"}

[webhook.erase]                       # how a contact is erased there
path = "/api/leads/{remote_id}"
```
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .template import places

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = (
    "event_id",
    "merchant",
    "task_id",
    "record_id",
    "received_at",
    "source",
    "name",
    "mobile",
    "conclusion",
    "called_at",
    "duration_s",
)
_RECORD_FIELD = re.compile(r"record(\.[^.]+)+")
_OBJECT = r"^[A-Za-z0-9_-]{1,100}$"
_HEADER_PLACES = {"token", "event_id"}  # others may hold line ends


class MappingFileError(ValueError):
    """The mapping file cannot be used; the message says where, why, and what is allowed."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Done(_Strict):
    """An answer that says the event is there already, from servers that do not know `Idempotency-Key`."""

    status: int = Field(ge=300, le=499)
    contains: str = Field("", description="text that its body must hold")


class WebhookErase(_Strict):
    """The call that erases a contact; {contact} and {remote_id} stand for it."""

    method: Literal["DELETE", "POST", "PUT", "PATCH"] = "DELETE"
    path: str = Field(pattern=r"^/")
    body: dict[str, Any] | None = None


class WebhookCall(_Strict):
    """What one call looks like."""

    method: Literal["POST", "PUT", "PATCH"] = "POST"
    path: str = Field("/webhook", pattern=r"^/")
    headers: dict[str, str] = {"Authorization": "Bearer {token}"}
    body: dict[str, Any] | None = None  # none: all fields, and contact
    remote_id_at: str = "id"  # dotted path in the answer
    error_at: str = ""  # dotted path: where something stands there, a 2xx is none (JSON-RPC)
    done: tuple[Done, ...] = ()
    erase: WebhookErase | None = None  # none: the contact has to be erased there by hand


class FieldMap(_Strict):
    """A mapping file's content."""

    object: str = Field(pattern=_OBJECT)
    id: str = Field(pattern=_OBJECT)
    fields: dict[str, str]
    conclusions: dict[str, dict[str, str]] = {}
    webhook: WebhookCall = WebhookCall()

    def conclusion(self, merchant: str, said: str) -> str:
        """Return the CRM's word for a conclusion; what no table names stays as it is."""
        for table in (merchant, "*"):
            if (word := self.conclusions.get(table, {}).get(said)) is not None:
                return word
        return said

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: dict[str, str]) -> dict[str, str]:
        for ours, theirs in fields.items():
            if ours not in FIELDS and not _RECORD_FIELD.fullmatch(ours):
                raise ValueError(f"`{ours}` is no field of ours; allowed: {', '.join(FIELDS)}, record.NAME")
            if not theirs:
                raise ValueError(f"`{ours}` goes to a field without a name")
        twice = [theirs for theirs in fields.values() if list(fields.values()).count(theirs) > 1]
        if twice:
            raise ValueError(f"`{twice[0]}` is filled from two fields")
        return fields

    @model_validator(mode="after")
    def _places_are_known(self) -> Self:
        known = {"contact", *self.fields.values()}
        if self.id in self.fields.values():
            raise ValueError(f"`{self.id}` is the id: it holds the contact, and no field")
        call = self.webhook
        erase = {"erase.path": call.erase.path, "erase.body": call.erase.body} if call.erase else {}
        for shape, allowed in (
            (erase, {"contact", "remote_id"}),
            ({"path": call.path, "body": call.body}, known),
            ({"headers": call.headers}, _HEADER_PLACES),
        ):
            for where, name in places(shape):
                if name not in allowed:
                    raise ValueError(f"webhook.{where}: {{{name}}} is unknown; allowed: {', '.join(sorted(allowed))}")
        return self


_HUBSPOT = {
    name: f"dial_result_{name}" for name in FIELDS if name not in ("merchant", "record_id", "source", "duration_s")
}
_SALESFORCE = {ours: f"{theirs.title()}__c" for ours, theirs in _HUBSPOT.items()}
DEFAULTS: dict[str, dict[str, Any]] = {
    "hubspot": {"object": "contacts", "id": "dial_contact", "fields": _HUBSPOT},
    "salesforce": {"object": "Dial_Result__c", "id": "Dial_Contact__c", "fields": _SALESFORCE},
    "webhook": {"object": "events", "id": "contact", "fields": {name: name for name in FIELDS}},
}


def load_field_map(path: Path | None, vendor: str) -> FieldMap:
    """Read a mapping file; tables that it leaves out are the vendor's defaults.

    Raises:
        MappingFileError: it is missing, not TOML, or says something that cannot be.
    """
    if path is None:
        return FieldMap.model_validate(DEFAULTS[vendor])
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise MappingFileError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingFileError(f"{path}: not TOML: {error}") from error
    try:
        return FieldMap.model_validate(DEFAULTS[vendor] | tables)
    except ValidationError as error:
        raise MappingFileError(f"{path}: {_sentence(error, text)}") from error


def _sentence(error: ValidationError, text: str) -> str:
    """Say where (with the line, if it can be found) and what is wrong with the first problem."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    named = re.search(r"`([^`]+)`", message)
    key = named[1] if named else str(first["loc"][-1]) if first["loc"] else ""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if key and key in line]
    place = f"line {lines[0]}: " if lines else ""
    if first["type"] == "extra_forbidden":
        message = f"unknown; allowed: {', '.join(_allowed(first['loc']))}"
    return f"{place}{where}: {message}" if where else f"{place}{message}"


def _allowed(place: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {"webhook": WebhookCall, "done": Done, "erase": WebhookErase}
    parents = [models[str(part)] for part in place[:-1] if str(part) in models]
    return list((parents[-1] if parents else FieldMap).model_fields)
