"""HTTP in: line protocol at `/api/v2/write`, checked, bounded, and answered as InfluxDB 2 does.

`endpoint` takes a post from its header to its answer; `body`, `sorting` and `gate` are what it goes
through on the way, `strangers` what those meet who show no good token. `docs/ingest.md` lists every
limit and reason.
"""

from farmhand_collector.ingest.endpoint import Ingest
from farmhand_collector.ingest.limits import Counts, Limits

__all__ = ["Counts", "Ingest", "Limits"]
