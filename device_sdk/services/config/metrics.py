"""``[metrics]`` of a doorbell's or a panel's file: where its figures are served."""

from __future__ import annotations

from dataclasses import dataclass

from .toml_reader import Table
from .web import parse_listen


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Where ``/metrics`` is."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, port: int | None = None) -> str:
        """What is asked on this machine; ``port``: the one it got."""
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to compare
        shown = MetricsSettings(local.get(self.host, self.host), port or self.port)
        return f"http://{shown}/metrics"


def read_metrics(root: Table) -> MetricsSettings | None:
    """The table ``[metrics]``; None where there is none."""
    table = root.table("metrics")
    listen = table.text("listen") if "metrics" in root else None
    where = None if listen is None else table.made("listen", listen, parse_listen)
    table.done()
    return None if where is None else MetricsSettings(*where)
