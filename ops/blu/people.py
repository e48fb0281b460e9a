"""Made-up people and what they say on the telephone. None of them exists; every mobile is masked as Blu masks it."""

# ruff: noqa: RUF001  # Chinese punctuation is what Chinese is written with
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .text import Digits

if TYPE_CHECKING:
    from random import Random

_GIVEN = (
    "Anoj",
    "Siti Nurhaliza",
    "Muhammad Haziq",
    "伟强",
    "美玲",
    "𠮷雄",
    "عبد الرحمن",
    "فاطمة",
    "Priya",
    "O'Neil",
    "Ren\u00e9e",
)
_FAMILY = (
    "Mohoo",
    "binti Ismail",
    "bin Abdullah",
    "陈",
    "林",
    "欧阳",
    "الحسن",
    "بن علي",
    "a/p Raman",
    "D'Souza",
    "Tan-Lee",
)

# The dictionaries of blu-facts.md, the vendor's own spelling included; the last stands for a code that nobody knows.
CONCLUSIONS = (
    *("LMS", "Busy", "AP", "HPTP", "NOST", "NotOneself", "CPL", "unknown", "undefined"),
    *(
        "Voicemail",
        "Willing",
        "Unwilling",
        "Donotknow",
        "Whichcompany",
        "Complan",
        "Undecided",
        "Unconnected",
        "Taskcancel",
    ),
    *("D00", "D01", "D02", "D03", "D04", "D05", "D06", "D07", "D08", "D09", "D10", "D90", "D91", "D99", "NAN"),
    "merchant-own-17",
)

_ROBOT = (
    "Hello, may I speak to the account holder?",
    "您好，请问您什么时候方便还款？",
    "Selamat pagi, boleh saya bantu?",
    "هل يمكنك الدفع اليوم؟",
)
_CUSTOMER = (
    'I said "tomorrow", didn\'t I',
    "明天上午可以。",
    "Esok pagi, insya-Allah",
    "غداً إن شاء الله",
    'they wrote {"due": "today"}, and a brace }", then',
    "Flat 12.\nBlock 7, first line\\second line",
    "{name}, is it?",
)
_STRINGS = ("", "vip", "{not an object}", "{", "a,b;c", "null")


def name(random: Random) -> str:
    """Make up a name: Chinese, Malay, Arabic, Indian or European."""
    return f"{random.choice(_GIVEN)} {random.choice(_FAMILY)}"


def mobile(random: Random) -> str:
    """Make up a mobile, masked: `0177****3990`."""
    return f"01{random.randrange(100):02}****{random.randrange(10_000):04}"


def ext_vars(random: Random, unique: int) -> dict[str, Any]:
    """Make up what a merchant sends along and gets back untouched."""
    variables: dict[str, Any] = {"uniqueId": f"u-{unique}", "orderId": unique}
    if random.random() < 0.3:  # noqa: PLR2004  # shares of the mixture are what this file is made of
        variables |= {"key": "string", "intkey": 10000, "remark": random.choice(_CUSTOMER)}
    if random.random() < 0.1:  # noqa: PLR2004
        variables |= {"nested": {"list": [1, None, True, {"deep": '}"'}], "客户": "甲"}}
    return variables


def call_vars(random: Random, client: str) -> dict[str, Any]:
    """Make up what the robot says in the call; now and then with numbers that no double can hold."""
    variables: dict[str, Any] = {"ClientName": client, "OverDueDays": random.randrange(1, 90)}
    variables["amount"] = Digits(f"{random.randrange(10, 9_999)}.{random.randrange(100):02}")
    if random.random() < 0.05:  # noqa: PLR2004
        variables["ledger"] = random.randrange(10**29, 10**30)
        variables["rate"] = Digits(f"0.{random.randrange(10**16, 10**17)}")
        variables["limit"] = Digits(random.choice(("1e400", "1.0", "-0.50", "6.02E23", "10", "0.00000001")))
    return variables


def other_text(random: Random) -> str | None:
    """Make up what stands in place of variables when there are none: a text that is no object, or null."""
    return random.choice((*_STRINGS, None))


def slots(random: Random, day: str) -> dict[str, Any]:
    """Make up slots: a payment time as two local times of the merchant, equal for an exact time, or null."""
    hour = random.randrange(7, 19)
    span = [f"{day} {hour:02}:00:00", f"{day} {hour + random.randrange(4):02}:00:00"]
    return {
        "paymentTime": random.choice((span, [span[0], span[0]], None)),
        "paymentAmount": random.choice((None, Digits("150.00"))),
    }


def scripts(random: Random) -> list[dict[str, str]]:
    """Make up what was said, in turn."""
    said = []
    for _ in range(random.randrange(5)):
        said += [
            {"role": "robot", "text": random.choice(_ROBOT)},
            {"role": "customer", "text": random.choice(_CUSTOMER)},
        ]
    return said
