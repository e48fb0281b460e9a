"""What the journal raises.

JournalError
├── JournalLocked        another process has this folder
├── JournalFull          no room; mends itself when room is freed
├── JournalUnavailable   too slow just now, or closing
└── JournalFailed        an I/O error: end the process, the next start verifies what is on disk
"""


class JournalError(Exception):
    """The callback is not acknowledged; its bytes may or may not be on disk."""


class JournalLocked(JournalError):  # noqa: N818  # says what the journal is, not what went wrong in it
    """Another process holds the journal in this folder."""


class JournalFull(JournalError):  # noqa: N818  # says what the journal is, not what went wrong in it
    """The quota, or the disk, has no room for another segment."""


class JournalUnavailable(JournalError):  # noqa: N818  # says what the journal is, not what went wrong in it
    """The disk did not take the callback within its budget, or too many bytes wait for it already."""


class JournalFailed(JournalError):  # noqa: N818  # says what the journal is, not what went wrong in it
    """The disk reported an error; nothing more is written by this process."""
