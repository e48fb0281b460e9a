"""The sandbox CRM's memory: contacts and the history of their changes, in a file that is only ever appended to."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class StoreInUse(Exception):  # noqa: N818  # a state of affairs
    """Another sandbox CRM uses this state file."""


class Contact(NamedTuple):
    """`properties` are those with a value; times are ISO 8601, UTC."""

    id: str
    properties: dict[str, str]
    created_at: str
    updated_at: str


def shown(contact: Contact) -> dict[str, object]:
    """Return a contact as HubSpot shows one."""
    return {
        "id": contact.id,
        "properties": contact.properties,
        "createdAt": contact.created_at,
        "updatedAt": contact.updated_at,
        "archived": False,
    }


class Effect(NamedTuple):
    """One change of a contact's properties, as HubSpot's property history would show it."""

    event_id: str
    contact: str
    at: str


class Store:
    """All contacts in memory, every change first in the file. Blocks for an fsync a call: it is a sandbox."""

    def __init__(self, path: Path) -> None:
        """Replay the file. A line that a crash left half written is cut off. Raises StoreInUse."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file: BinaryIO = path.open("ab+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise StoreInUse(f"{path} is in use by another sandbox CRM") from error
        self.contacts: dict[str, Contact] = {}
        self.effects: list[Effect] = []
        self._last_id = 0
        self._replay()

    def upsert(self, changes: Iterable[tuple[str, str, Mapping[str, str]]]) -> list[tuple[Contact, bool]]:
        """Merge properties into contacts; durable on return. An empty value clears a property.

        Args:
            changes: contact, event id, properties; no contact twice.

        Returns:
            Each contact as it now stands, and whether it is new.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines: list[dict[str, object]] = []
        answers: list[tuple[Contact, bool]] = []
        for name, event_id, given in changes:
            old = self.contacts.get(name)
            properties = {key: value for key, value in {**(old.properties if old else {}), **given}.items() if value}
            if old is None or properties != old.properties:
                identity = old.id if old else str(self._last_id + 1)
                lines.append(
                    {"id": identity, "event_id": event_id, "contact": name, "at": at, "properties": properties}
                )
                self._apply(identity, name, event_id, at, properties)
            answers.append((self.contacts[name], old is None))
        self._append(lines)
        return answers

    def erase(self, name: str) -> None:
        """Forget a contact with its history, in the file too; durable on return."""
        del self.contacts[name]
        self.effects = [effect for effect in self.effects if effect.contact != name]
        self._file.seek(0)
        kept = [line for line in self._file.read().splitlines(keepends=True) if orjson.loads(line)["contact"] != name]
        successor = self._path.with_suffix(".new").open("wb+")
        fcntl.flock(successor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        successor.write(b"".join(kept))
        successor.flush()
        os.fsync(successor.fileno())
        Path(successor.name).replace(self._path)
        self._file.close()
        self._file = successor

    def close(self) -> None:
        """Give the file free."""
        self._file.close()

    def _apply(self, identity: str, name: str, event_id: str, at: str, properties: dict[str, str]) -> None:
        old = self.contacts.get(name)
        created_at = old.created_at if old else at
        self._last_id = max(self._last_id, int(identity))
        self.contacts[name] = Contact(identity, properties, created_at, at)
        self.effects.append(Effect(event_id, name, at))

    def _id_of(self, name: str) -> str:
        """Return the id of a contact whose line is of a version that did not write it: they counted from 1."""
        known = self.contacts.get(name)
        return known.id if known else str(len(self.contacts) + 1)

    def _append(self, lines: list[dict[str, object]]) -> None:
        if lines:
            self._file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _replay(self) -> None:
        self._file.seek(0)
        whole, newline, _torn = self._file.read().rpartition(b"\n")
        for line in whole.splitlines():
            change = orjson.loads(line)
            self._apply(
                change.get("id") or self._id_of(change["contact"]),
                change["contact"],
                change["event_id"],
                change["at"],
                change["properties"],
            )
        self._file.truncate(len(whole) + len(newline))
