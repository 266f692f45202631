"""The doctor's look at the MQTT broker that Home Assistant has."""

from __future__ import annotations

import secrets
import select
import time

from ...client.link.paho import PahoLink
from ...client.link.url import BrokerUrl, clear_text
from ...core.effects import Connected, Disconnected, LinkFailed
from ...errors import BellwireError
from ..config.account import Account
from .fault import Fault

_TIMEOUT = 10.0


def examine_mqtt(account: Account) -> str:
    """Log in there beside the bridge; the line for it, or :class:`Fault`."""
    where = f"Home Assistant's broker {account.broker}"
    try:
        account.check_files()
        tls = account.tls()
        link = PahoLink(
            BrokerUrl.parse(account.broker), f"bellwire-doctor-{secrets.token_hex(4)}", None,
            keepalive=5, username=account.username, password=account.password(),
            context=None if tls is None else tls.make_context(), at_most=_TIMEOUT,
        )  # fmt: skip
        link.open()
    except BellwireError as error:
        raise Fault(f"[mqtt]: {error}") from None
    try:
        problem = _greeting(link)
    finally:
        link.close(clean=True)
    if problem:
        raise Fault(f"[mqtt]: {problem}")
    warning = clear_text(account.broker) if account.secret_file else ""
    return f"{where} lets the bridge in" + (f" (but {warning})" if warning else "")


def _greeting(link: PahoLink) -> str:
    """Wait for it; "" when it lets in, else why not."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline and link.fileno() >= 0:
        select.select([link.fileno()], [], [], 0.5)
        link.read()
        for what in link.drain():
            if isinstance(what, Connected):
                return ""
            if isinstance(what, LinkFailed):
                return str(what.error)
            if isinstance(what, Disconnected):
                return "it closed the connection"
    return "it took the connection and did not answer"
