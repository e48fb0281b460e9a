"""The script of the sandbox CRM's bad days: what shall happen to the next calls."""

from __future__ import annotations

from collections import deque
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Fault(BaseModel):
    """What happens to the next `calls` calls (null: to all from now on); later faults wait until this one is spent."""

    model_config = ConfigDict(extra="forbid")

    calls: int | None = Field(1, ge=1)
    delay_s: float = Field(0.0, ge=0, description="before anything is applied")
    reply_delay_s: float = Field(0.0, ge=0, description="between applying and the answer")
    lose: bool = Field(False, description="apply, then close the connection without an answer")
    status: int | None = Field(None, ge=400, le=599, description="answer this instead; nothing is applied")
    apply: bool = Field(False, description="with `status`: apply all the same")
    category: str = Field("VALIDATION_ERROR", description="the code of `status` and of rejects, in the vendor's words")
    retry_after_s: int | None = Field(None, ge=0, description="Retry-After of `status`")
    policy: str = Field("TEN_SECONDLY_ROLLING", description="policyName of `status` 429")
    reject: list[str] = Field(default_factory=list, description="contacts that are refused, the others are applied")
    anonymous: bool = Field(False, description="errors do not name their items")
    forget: list[str] = Field(default_factory=list, description="contacts applied, but left out of the answer")
    whole: bool = Field(False, description="one of `reject` in a call refuses the whole call with 400")
    errors_status: Literal[200, 207] | None = Field(None, description="of partial failures; else 207 for v3, else 200")


class Script:
    """Faults in the order in which they were asked for."""

    def __init__(self) -> None:
        self._faults: deque[Fault] = deque()

    def add(self, fault: Fault) -> None:
        """Put a fault behind the others."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Good days again."""
        self._faults.clear()

    def waiting(self) -> list[Fault]:
        """Return what is still to come."""
        return list(self._faults)

    def next(self) -> Fault:
        """Return what happens to this call; a harmless fault if nothing does."""
        if not self._faults:
            return Fault()
        fault = self._faults[0]
        if fault.calls is not None:
            fault.calls -= 1
            if fault.calls == 0:
                self._faults.popleft()
        return fault
