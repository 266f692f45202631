"""What the commands say of a broker's directory: files that do not do, and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from amqtt.contexts import ListenerConfig

from broker_config.admin import cli, serve, setup
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


def test_commands_can_be_copied_from_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a directory with a blank in its name, too: each word of the name was taken for one."""
    where = tmp_path / "my broker"
    assert cli.main(["status", str(where)]) == 2
    assert f"`bellwire-broker init '{where}'`" in capsys.readouterr().err
    assert cli.main(["init", str(where)]) == 0
    said = capsys.readouterr().out
    assert f"next: bellwire-broker device add NAME --dir '{where}'" in said
    assert f"then: bellwire-broker run '{where}'" in said
    (where / "devices.json").unlink()
    assert cli.main(["device", "list", "--dir", str(where)]) == 2
    assert f"`bellwire-broker init '{where}'`" in capsys.readouterr().err
