"""Following a sweep in MLflow and W&B. Trials and driver call neither: a process of its own ships the journal."""

from raysweep.track.backlog import Backlog, SinkBacklog
from raysweep.track.process import drain, shipping, start_shipper, status, sync

__all__ = ["Backlog", "SinkBacklog", "drain", "shipping", "start_shipper", "status", "sync"]
