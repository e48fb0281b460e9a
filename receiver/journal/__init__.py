"""An append-only segment journal: durable before the answer, read on by the publisher. See docs/journal.md."""

from receiver.journal.damage import Damage
from receiver.journal.disk import Disk
from receiver.journal.errors import JournalError, JournalFailed, JournalFull, JournalLocked, JournalUnavailable
from receiver.journal.frame import JournaledCallback
from receiver.journal.journal import Journal
from receiver.journal.limits import JournalLimits
from receiver.journal.retained import Choice, Retained
from receiver.journal.survey import SegmentSurvey, Survey, survey

__all__ = [
    "Choice",
    "Damage",
    "Disk",
    "Journal",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalLimits",
    "JournalLocked",
    "JournalUnavailable",
    "JournaledCallback",
    "Retained",
    "SegmentSurvey",
    "Survey",
    "survey",
]
