"""Certificates that a broker cannot serve with are named, whatever OpenSSL calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from amqtt.contexts import ListenerConfig

from broker_config.admin import serve, setup
from broker_config.net.listeners import CertificateError, ListeningBroker


@pytest.mark.parametrize(
    ("file", "says"),
    [("server.key", "server.crt with .*server.key: .*renew"), ("ca.crt", "ca.crt")],
)
def test_a_file_that_holds_nothing(tmp_path: Path, file: str, says: str) -> None:
    """All that was said of it was "[SSL] PEM lib"."""
    setup.init(tmp_path / "broker")
    tls = tmp_path / "broker" / "tls"
    (tls / file).write_text("")
    listener = ListenerConfig(
        bind="127.0.0.1:0", ssl=True, cafile=tls / "ca.crt", certfile=tls / "server.crt",
        keyfile=tls / "server.key",
    )  # fmt: skip
    with pytest.raises(CertificateError, match=says) as caught:
        ListeningBroker._create_ssl_context(listener)
    assert serve._why(caught.value) == str(caught.value)
