"""Where a broker is, and what is trusted: said by name when it cannot be."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from device_sdk.client.link.url import (
    BrokerUrl,
    SrvUrl,
    Tls,
    clear_text,
    parse_broker,
    parse_brokers,
)
from device_sdk.errors import InvalidArgument
from tests.integration.certificates import Authority


@pytest.mark.parametrize(
    ("url", "wanted", "shown"),
    [
        ("mqtt://host", ("mqtt", "host", 1883, "/mqtt"), "mqtt://host:1883"),
        ("mqtt://host:7", ("mqtt", "host", 7, "/mqtt"), "mqtt://host:7"),
        ("mqtt://host:7/", ("mqtt", "host", 7, "/mqtt"), "mqtt://host:7"),
        ("mqtts://host", ("mqtts", "host", 8883, "/mqtt"), "mqtts://host:8883"),
        ("ws://host", ("ws", "host", 80, "/mqtt"), "ws://host:80/mqtt"),
        ("wss://host/bell", ("wss", "host", 443, "/bell"), "wss://host:443/bell"),
        ("mqtt://[::1]:7", ("mqtt", "::1", 7, "/mqtt"), "mqtt://[::1]:7"),
    ],
)
def test_urls(url: str, wanted: tuple[str, str, int, str], shown: str) -> None:
    parsed = BrokerUrl.parse(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.path) == wanted
    assert str(parsed) == shown
    assert parsed.tls is (parsed.scheme in ("mqtts", "wss"))
    assert parsed.websocket is (parsed.scheme in ("ws", "wss"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "NoneType"),
        ("host", "starts with"),
        ("http://host", "starts with"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("mqtt:// ", "no name of a host"),
        ("mqtt://a b", "no name of a host"),
        ("mqtt://a..b", "no name of a host"),
        ("mqtt://\0", "no name of a host"),
        (f"mqtt://{64 * 'x'}", "no name of a host"),
        ("mqtt://host:port", "HOST:PORT"),
        ("mqtt://host:65536", "HOST:PORT"),
        ("mqtt://host:0", "port 0"),
        ("mqtt://host/path", "after the port"),
        ("ws://host/mqtt?x=1", "after the port"),
        ("mqtt://me:secret@host", "username and password"),
        ("http://me:secret@host", "starts with"),
    ],
)
def test_urls_that_cannot_be(url: object, words: str) -> None:
    """Named, without the secret that may stand in it."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        BrokerUrl.parse(url)
    assert caught.value.argument == "broker"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtts+srv://", "no host"),
        ("mqtts+srv://a b", "no name of a host"),
        ("mqtts+srv://bell.example:8883", "no port in .*: the domain's DNS says it"),
        ("mqtts+srv://bell.example/x", "nothing is wanted after the domain"),
        ("mqtts+srv://192.0.2.1", "is an address, .*: say mqtts://192.0.2.1"),
        ("mqtt+srv://[::1]", "is an address"),
        ("mqtts+srv://broker.local", "no domain of DNS: say mqtts://NAME.local"),
        ("mqtts+srv://local", "no domain of DNS"),
        ("mqtts+srv://me:secret@bell.example", "username and password"),
        ("ws+srv://bell.example", "starts with"),
    ],
)
def test_domains_that_cannot_be(url: object, words: str) -> None:
    """Named as a broker's URL is."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        parse_broker(url)
    assert caught.value.argument == "broker"
    assert "secret" not in str(caught.value)


def test_domains() -> None:
    """The service that DNS is asked for, and whether it is encrypted, follow from the scheme."""
    plain, secure = parse_broker("mqtt+srv://Bell.example."), parse_broker("mqtts+srv://a.example/")
    assert isinstance(plain, SrvUrl)
    assert isinstance(secure, SrvUrl)
    assert (str(plain), plain.service, plain.tls) == (
        "mqtt+srv://bell.example", "_mqtt._tcp.bell.example", False
    )  # fmt: skip
    assert (str(secure), secure.service, secure.tls) == (
        "mqtts+srv://a.example", "_secure-mqtt._tcp.a.example", True
    )  # fmt: skip
    assert "say mqtts+srv://" in clear_text("mqtt+srv://bell.example")
    with pytest.raises(InvalidArgument, match="one broker is wanted"):
        BrokerUrl.parse("mqtt+srv://bell.example")


@pytest.mark.parametrize(
    "brokers",
    [
        ["mqtts://a", "wss://b:8443/mqtt"],
        ("mqtts://a:8883", "wss://b:8443"),
        "mqtts://a,wss://b:8443",
        " mqtts://a , wss://b:8443\n",
        "mqtts://a wss://b:8443",
        "mqtts://a\n\twss://b:8443,",
    ],
)
def test_several_brokers(brokers: object) -> None:
    """A sequence, or one text with commas or blanks between them."""
    assert list(map(str, parse_brokers(brokers))) == ["mqtts://a:8883", "wss://b:8443/mqtt"]


@pytest.mark.parametrize(
    ("brokers", "words"),
    [
        ([], "no URL in the list"),
        ("", "starts with mqtt://"),
        (" , ", "starts with mqtt://"),
        (b"mqtt://a", "a URL is a string, not bytes"),
        ({"mqtt://a", "mqtt://b"}, "a URL is a string, not set"),
        (["mqtt://a", None], "number 2 of 2, None: a URL is a string, not NoneType"),
        (["mqtt://a", ["mqtt://b"]], "number 2 of 2, .*: a URL is a string, not list"),
        ("mqtt://a http://b", "number 2 of 2, 'http://b': starts with mqtt://"),
        ("mqtt://a, mqtt://b:0", "number 2 of 2, 'mqtt://b:0': port 0"),
        (["mqtt://a, mqtt://b", "mqtt://c"], "number 1 of 2, .* no name of a host"),
        ("mqtt://a mqtt://b mqtt://me:secret@c", "number 3 of 3, 'c': no user or password"),
        ("mqtt://a, mqtt://b, mqtt://a:1883", "mqtt://a:1883 is there twice .number 3"),
        ("mqtts://a, mqtt://b", "mqtt://b:1883 is not encrypted: say mqtts://, as mqtts://a:8883"),
        ("mqtt+srv://a, mqtts://b", "mqtt.srv://a is not encrypted: say mqtts.srv://, as mqtts"),
        ("ws://a, mqtts://b", "ws://a:80/mqtt is not encrypted: say wss://, as mqtts://b:8883"),
    ],
)
def test_lists_of_brokers_that_cannot_be(brokers: object, words: str) -> None:
    """The member that is wrong is named, without the secret that may stand in it."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        parse_brokers(brokers)
    assert caught.value.argument == "broker"
    assert "secret" not in str(caught.value)


def test_tls_of_the_system() -> None:
    context = Tls().make_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_context_of_ones_own_is_taken_as_it_is() -> None:
    context = ssl.create_default_context()
    assert Tls("no such file", context=context).make_context() is context


def test_an_authority_saved_by_notepad_is_read(tmp_path: Path) -> None:
    """A byte order mark hides it from OpenSSL; a name in a comment is no obstacle."""
    pem = Authority(tmp_path, "authority").path.read_bytes()
    pem = "# Főtanúsítvány\n".encode() + pem
    (tmp_path / "ca.crt").write_bytes(b"\xef\xbb\xbf" + pem.replace(b"\n", b"\r\n"))
    assert len(Tls(str(tmp_path / "ca.crt")).make_context().get_ca_certs()) == 1


def test_files_that_do_not_do_are_named(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    empty = tmp_path / "empty.pem"
    empty.touch()
    for tls, argument in (
        (Tls(str(tmp_path / "none.pem")), "ca_file"),
        (Tls(str(rubbish)), "ca_file"),
        (Tls(str(empty)), "ca_file"),
        (Tls(cert_file=str(rubbish)), "cert_file"),
        (Tls(key_file=str(rubbish)), "key_file"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            tls.make_context()
        assert caught.value.argument == argument


def test_a_key_that_openssl_would_wait_for_is_refused(tmp_path: Path) -> None:
    """An encrypted key is not asked for at the terminal, a pipe is not read, a wrong file named."""
    cert, key = Authority(tmp_path, "authority").sign("door")
    locked, pipe, wide = tmp_path / "locked.key", tmp_path / "pipe", tmp_path / "wide.key"
    locked.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hush"),
        )
    )
    os.mkfifo(pipe)
    wide.write_bytes(key.read_text().encode("utf-16"))
    for tls, argument, says in (
        (Tls(cert_file=str(cert), key_file=str(locked)), "key_file", "without passphrase"),
        (Tls(cert_file=str(cert), key_file=str(pipe)), "key_file", "a pipe"),
        (Tls(cert_file=str(pipe), key_file=str(key)), "cert_file", "a pipe"),
        (Tls(cert_file=str(cert), key_file=str(wide)), "key_file", "UTF-16"),
        (Tls(cert_file=str(tmp_path / "none"), key_file=str(key)), "cert_file", "no such file"),
    ):
        with pytest.raises(InvalidArgument, match=says) as caught:
            tls.make_context()
        assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("mqtt://broker.lan", "mqtts://"),
        ("ws://broker.lan", "wss://"),
        ("mqtts://broker.lan", ""),
        ("mqtt://127.0.0.1", ""),
        ("mqtt://localhost", ""),
        ("http://broker.lan", ""),  # refused, where it is used
    ],
)
def test_a_secret_in_clear_text_is_warned_of(url: str, warns: str) -> None:
    warning = clear_text(url)
    assert bool(warning) is bool(warns)
    assert warning.endswith(warns)
