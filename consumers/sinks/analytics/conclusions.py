"""What a call came to, in groups that are the same for every merchant. The codes are Blu's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.merchants import Merchant

OTHER = "other"

GROUPS = {
    "voicemail": ("LMS", "Voicemail", "D08"),
    "busy": ("Busy", "D01"),
    "paid": ("AP",),
    "promise": ("HPTP",),
    "no_agreement": ("NOST",),
    "wrong_person": ("NotOneself", "Donotknow"),
    "complaint": ("CPL", "Complan"),  # inclined to complain, and complaint (Blu's spelling)
    "willing": ("Willing",),
    "refused": ("Unwilling",),
    "question": ("Whichcompany",),
    "undecided": ("unknown", "undefined", "Undecided"),
    "unreachable": ("Unconnected", "NAN", *(f"D{number:02}" for number in (0, 2, 3, 4, 5, 6, 7, 9, 10, 90, 91))),
    "connected": ("D99",),
    "cancelled": ("Taskcancel",),
}
"""Group to the codes of Blu's two dictionaries and of its line detection."""

_GROUP_OF = {code: group for group, codes in GROUPS.items() for code in codes}


def groups(merchant: Merchant | None) -> dict[str, str]:
    """Return code to group: the merchant's own word first, then Blu's. A code that is not there is `OTHER`."""
    own = merchant.conclusions if merchant else {}
    return _GROUP_OF | {code: name for code, name in own.items() if name}
