"""Publishing as a process of its own, which follows the receiver's journal. See docs/receiver.md."""

from receiver.publishing.process import Publishing, PublishingProcess

__all__ = ["Publishing", "PublishingProcess"]
