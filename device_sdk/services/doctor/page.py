"""Whether a panel's page can be served, and is: its files, its certificate, its answer."""

from __future__ import annotations

import http.client
import importlib.util
import ssl

from ...errors import BellwireError
from ..config.web import WebSettings
from .fault import Fault

_TIMEOUT = 5.0


def examine_page(web: WebSettings) -> str:
    """A line for a page that is well; :class:`Fault`."""
    try:
        web.check()
    except BellwireError as error:
        raise Fault(str(error)) from None
    missing = [each for each in ("starlette", "uvicorn") if not importlib.util.find_spec(each)]
    if missing:
        raise Fault(f"web: {missing[0]} is not installed: pip install 'bellwire[web]'")
    who = "with a PIN" if web.pin_file else "for this machine"
    who = "for users" if web.users_file else who
    try:
        status = _asked(web)
    except ssl.SSLCertVerificationError as error:
        # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED; the name is that of this machine to others.
        old = "has run out" if error.verify_code == 10 else f"is not good: {error.verify_message}"
        raise Fault(
            f"web: the page's certificate {old}; a new one: `bellwire-broker web-certificate NAME`"
        ) from None
    except OSError as error:
        return f"page: set for {web.url} {who}; nothing answers there ({error.strerror or error})"
    if status not in (200, 401):
        raise Fault(f"web: something else than a panel answers at {web.url} ({status})")
    return f"page: {web.url} answers, {who}"


def _asked(web: WebSettings) -> int:
    """The status of the page's state, asked as a browser on this machine would."""
    host, port = web.url.partition("://")[2].strip("/").rsplit(":", 1)
    host = host.strip("[]")
    if web.https:
        context = ssl.create_default_context(cafile=web.ca_file)
        context.check_hostname = False  # it is for the name by which others know this machine
        if web.ca_file is None:
            context.verify_mode = ssl.CERT_NONE  # whoever made it is the owner's affair
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, int(port), timeout=_TIMEOUT, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT)
    try:
        connection.request("GET", "/state")
        return connection.getresponse().status
    except http.client.HTTPException:
        return 0
    finally:
        connection.close()
