"""Several receivers on one port, each a process with a journal of its own. See docs/receiver.md."""

from receiver.workers.leash import Leash
from receiver.workers.supervisor import Supervisor

__all__ = ["Leash", "Supervisor"]
