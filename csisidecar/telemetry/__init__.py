"""What the outside sees: metrics, health, and the HTTP server that shows them.

It fits the small observers that other rooms define and imports none of those rooms.
"""

from __future__ import annotations

from csisidecar.telemetry.health import Health, Leader, Report
from csisidecar.telemetry.http import HTTPServer
from csisidecar.telemetry.metrics import Counter, Histogram, Telemetry

__all__ = ["Counter", "HTTPServer", "Health", "Histogram", "Leader", "Report", "Telemetry"]
