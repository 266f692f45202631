"""What is said of a connection that could not be made: which step it was, and what to look at."""

from __future__ import annotations

import socket
import ssl
import traceback

from ...errors import BrokerUnreachable, LoginError
from . import dialing
from .url import BrokerUrl


def login_error(error: Exception, url: BrokerUrl) -> LoginError:
    """Say of a failed connect which step it was and what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message or str(error)
        hint = f"the broker's certificate is not trusted: {text}"
        if error.verify_code in (9, 10):  # not yet valid, expired: OpenSSL's X509_V_ERR numbers
            hint += "; is this machine's clock right (compare `date`)?"
            if error.verify_code == 10:
                hint += " If so, the broker needs a new one (the bundled: `bellwire-broker renew`)"
        elif error.verify_code in (18, 19, 20, 21):
            hint += "; is ca_file the authority that signed it? If not, copy it here, and restart"
        elif error.verify_code in (62, 64):
            hint += f" (the bundled broker: `bellwire-broker renew --name {url.certified}`)"
        return BrokerUnreachable("certificate", f"{url}: {hint}")
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "reason", None) or error  # not every one of them has a reason
        problem = f"{url}: no TLS on that port, or not one this end speaks ({why})"
        return BrokerUnreachable("tls", problem)
    if isinstance(error, socket.gaierror):
        problem = f"{url}: the name {url.host!r} is not known here ({error.strerror})"
        return BrokerUnreachable("unknown host", problem)
    if isinstance(error, dialing.ResolveTimeout):
        problem = f"{url}: {error} for {url.host!r}: does the network have a name server?"
        return BrokerUnreachable("timeout", problem)
    if isinstance(error, TimeoutError):
        late = error.strerror or f"no answer within {dialing.CONNECT_TIMEOUT:.0f} s"
        problem = f"{url}: {late}"
        return BrokerUnreachable("timeout", problem)
    if isinstance(error, ConnectionRefusedError):
        problem = f"{url}: connection refused: nothing listens on that port"
        return BrokerUnreachable("connection refused", problem)
    if isinstance(error, ConnectionError):
        problem = f"{url}: the connection broke while it was made ({error})"
        return BrokerUnreachable("connection lost", problem)
    return BrokerUnreachable("no route", f"{url}: {error}")


def close_left_open(error: Exception) -> None:
    """Close the socket that paho leaves behind in the frames of a handshake that failed."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, socket.socket):
                value.close()
