"""``[web]`` of a panel's file: where its page is served, to whom, and what it may show."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, replace
from pathlib import Path

from ...client.link.text_file import TextFileError, read_secret, read_text
from ...core.wire.topics import check_peer_id
from ..web.content import origin_of
from .toml_reader import SettingsError, Table

LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Fewer could be tried out.
MIN_SECRET = 6
#: The longest name of a user, in bytes: the cookie holds it.
MAX_USER = 64


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The page. ``port`` None: there is none. Secrets are read when it starts."""

    host: str = "127.0.0.1"
    port: int | None = None
    pin_file: Path | None = None
    users_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    ca_file: Path | None = None
    names: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    door: str = ""

    @property
    def https(self) -> bool:
        """Whether it is served with a certificate."""
        return self.cert_file is not None

    @property
    def url(self) -> str:
        """What to type into a browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - to compare
        host = f"[{host}]" if ":" in host else host
        return f"http{'s' if self.https else ''}://{host}:{self.port}/"

    def elsewhere(self) -> str:
        """What to type on other machines, for a line to people; empty on loopback."""
        if self.host in LOOPBACK:
            return ""
        name = self.names[0] if self.names else f"{socket.gethostname().partition('.')[0]}.local"
        return f" (elsewhere: http{'s' if self.https else ''}://{name}:{self.port}/)"

    def pin(self) -> str | None:
        """The PIN, read now; :class:`SettingsError`."""
        if self.pin_file is None:
            return None
        try:
            pin = read_secret(self.pin_file)
        except TextFileError as error:
            raise SettingsError(f"pin_file: {error}") from None
        if len(pin) < MIN_SECRET:
            raise SettingsError(f"{self.pin_file}:1: pin_file: at least {MIN_SECRET} characters")
        return pin

    def users(self) -> dict[str, str]:
        """Names and passwords, read now, one ``NAME PASSWORD`` a line; :class:`SettingsError`."""
        if self.users_file is None:
            return {}
        try:
            lines = read_text(self.users_file, 64 * 1024).splitlines()
        except TextFileError as error:
            raise SettingsError(f"users_file: {error}") from None
        found: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            name, _, secret = line.strip().partition(" ")
            secret = secret.strip()
            if not name or name.startswith("#"):
                continue
            at = f"{self.users_file}:{number}: users_file"
            if len(secret) < MIN_SECRET:
                raise SettingsError(f"{at}: expected NAME PASSWORD ({MIN_SECRET} or more)")
            if len(name.encode()) > MAX_USER:
                raise SettingsError(f"{at}: a name has at most {MAX_USER} bytes")
            if name in found:
                raise SettingsError(f"{at}: {name} is there twice")
            found[name] = secret
        if not found:
            raise SettingsError(f"{self.users_file}: users_file: nobody is in it")
        return found

    def authority(self) -> bytes | None:
        """The CA certificate to hand out, read now; :class:`SettingsError`."""
        if self.ca_file is None:
            return None
        try:
            text = read_text(self.ca_file)
            ssl.PEM_cert_to_DER_cert(text.strip())
        except (TextFileError, ValueError) as error:
            raise SettingsError(f"{self.ca_file}: ca_file: no certificate (PEM): {error}") from None
        if "PRIVATE KEY" in text:
            raise SettingsError(f"{self.ca_file}: ca_file: there is a private key in it")
        return text.encode()

    def check(self) -> None:
        """All that serving needs, short of listening; :class:`SettingsError`."""
        if self.port is None:
            return
        pin, users = self.pin(), self.users()
        self.authority()
        if self.host not in LOOPBACK and pin is None and not users:
            raise SettingsError(
                f"web: {self.host} can be reached from elsewhere: say who may come in, by pin_file "
                f"or users_file in [web], or listen on 127.0.0.1"
            )
        if self.cert_file is not None:
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                what = f"{self.cert_file} and {self.key_file} are no certificate and its key"
                if self.key_file is None:
                    what = f"{self.cert_file} is no certificate with its key in it: say key_file"
                raise SettingsError(f"web: {what}: {error.strerror or error}") from None
        elif self.key_file is not None:
            raise SettingsError("web: a key without its certificate: say cert_file, too")

    @property
    def for_nothing(self) -> str:
        """What to say of settings without a page; empty where there is one, or none is meant."""
        if self.port is not None or self == WebSettings():
            return ""
        return 'web: no page is served: say where, such as listen = "8080" in [web]'

    def own_names(self) -> tuple[str, ...]:
        """What this machine is called in its network, beside what the settings say."""
        name = socket.gethostname().partition(".")[0]
        return (*self.names, name, f"{name}.local", socket.gethostname())


def read_web(table: Table, path: Path, me: str) -> WebSettings:
    """The table ``[web]`` of the panel ``me``; file names are relative to the settings file."""

    def beside(key: str) -> Path | None:
        name = table.text(key, None)
        return None if name is None else path.parent / name

    listen = table.text("listen", None)
    where = None if listen is None else table.made("listen", listen, parse_listen)
    media = [table.made("media", each, _origin) for each in table.texts("media", ())]
    host, port = where or ("127.0.0.1", None)
    web = WebSettings(
        host,
        port,
        pin_file=beside("pin_file"),
        users_file=beside("users_file"),
        cert_file=beside("cert_file"),
        key_file=beside("key_file"),
        ca_file=beside("ca_file"),
        names=tuple(table.checked("names", each, _check_name) for each in table.texts("names", ())),
        peers=tuple(
            table.checked("peers", each, check_peer_id) for each in table.texts("peers", ())
        ),
        media=tuple(each for each in media if each is not None),
        door=table.text("door", ""),
    )
    if me in web.peers:
        table.wrong("peers", f"{me} is this panel itself; expected those that it calls")
    table.done()
    return web


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``; without a host it is this machine alone.

    >>> parse_listen("8080"), parse_listen("0.0.0.0:443"), parse_listen("[::]:80")
    (('127.0.0.1', 8080), ('0.0.0.0', 443), ('::', 80))
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f'expected [HOST:]PORT such as "8080" or "0.0.0.0:8080", not "{text}"')
    if not re.fullmatch(r"[0-9A-Za-z.:-]*", host) or (":" in host) is not bracketed:
        raise ValueError(f'expected [HOST:]PORT; an IPv6 address stands in brackets, not "{text}"')
    return host or "127.0.0.1", int(port)


def with_options(
    web: WebSettings, listen: str | None, cert: Path | None, key: Path | None
) -> WebSettings:
    """``web`` with what the command line says; :class:`SettingsError`."""
    if listen is not None:
        try:
            host, port = parse_listen(listen)
        except ValueError as error:
            raise SettingsError(f"--web: {error}") from None
        web = replace(web, host=host, port=port)
    if cert is not None or key is not None:
        web = replace(web, cert_file=cert or web.cert_file, key_file=key or web.key_file)
    return web


def _origin(url: str) -> str:
    origin = origin_of(url)
    if origin is None:
        raise ValueError(f'expected where it comes from, such as "http://camera:1984", not "{url}"')
    return origin


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name):
        raise ValueError(f'expected a host name such as "panel.lan", not "{name}"')
    return name
