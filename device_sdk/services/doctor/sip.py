"""The doctor's look at the baresip beside a SIP phone's service."""

from __future__ import annotations

import socket

from ..config.sip import SipSettings
from ..service.baresip import Netstrings, netstring
from .fault import Fault

_TIMEOUT = 5.0


def examine_sip(settings: SipSettings, *, runs: bool) -> str:
    """A line for a baresip that is there; :class:`Fault`.

    ``runs``: the service does, and has its control: baresip has one at a time, and another
    connection would end the service's. So then it is only looked whether somebody listens.
    """
    where = f"{settings.host}:{settings.port}"
    cure = "`systemctl status bellwire-baresip`, or `baresip -f DIR` by hand"
    if not _listens(settings.host, settings.port):
        raise Fault(f"sip: no baresip at {where}: is it running, with its ctrl_tcp there? {cure}")
    if not runs and not _is_baresip(settings.host, settings.port):
        raise Fault(f"sip: what answers at {where} is no ctrl_tcp of a baresip")
    return f"sip: baresip is at {where}, and rings {settings.uri}"


def _listens(host: str, port: int) -> bool:
    """Whether that port of this machine is taken by a listener; nobody is disturbed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return True
    return False


def _is_baresip(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _TIMEOUT) as control:
            control.settimeout(_TIMEOUT)
            control.sendall(netstring({"command": "reginfo", "token": "doctor"}))
            messages = Netstrings()
            while data := control.recv(65536):
                if any(each.get("token") == "doctor" for each in messages.feed(data)):
                    return True
    except (OSError, ValueError):
        pass
    return False
