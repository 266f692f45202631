"""Where a broker is, and what makes the way there trusted."""

import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import SplitResult, unquote, urlsplit

from ...errors import InvalidArgument
from .text_file import TextFileError, read_text


class Tls(NamedTuple):
    """What to trust, and who I am: PEM files; ``ca_file`` None for the system's authorities.

    ``context`` replaces all of it where the files do not do.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    context: ssl.SSLContext | None = None

    def make_context(self) -> ssl.SSLContext:
        """The SSL context; raises :class:`InvalidArgument` naming the file that does not do."""
        if self.context is not None:
            return self.context
        try:
            # As text: OpenSSL sees no certificate behind an editor's byte order mark.
            authority = None if self.ca_file is None else read_text(self.ca_file)
            if authority == "":  # to ssl it is none: the system's would be trusted
                raise ValueError("it is empty")
            if authority is not None:  # bundles have names in their comments
                authority = authority.encode("ascii", "replace").decode()
            context = ssl.create_default_context(cadata=authority)
        except TextFileError as error:
            raise InvalidArgument("ca_file", str(error)) from None
        except (OSError, ssl.SSLError, ValueError) as error:
            problem = f"no certificate in PEM form that can be used: {error}"
            raise InvalidArgument("ca_file", f"{self.ca_file}: {problem}") from None
        if self.cert_file is not None:
            self._load_chain(context)
        elif self.key_file is not None:
            raise InvalidArgument("key_file", "a key without a certificate (cert_file)")
        return context

    def _load_chain(self, context: ssl.SSLContext) -> None:
        cert, key = str(self.cert_file), self.key_file
        for name, file in (("cert_file", cert), ("key_file", key)):
            if file is not None:
                _check_pem(name, file)
        name = "cert_file" if key is None else "key_file"

        def passphrase() -> str:  # else OpenSSL asks at the terminal, and waits there
            problem = "its key is encrypted; give one without passphrase (openssl pkey)"
            raise InvalidArgument(name, f"{key or cert}: {problem}")

        try:
            context.load_cert_chain(cert, key, passphrase)
        except (OSError, ssl.SSLError) as error:
            files = f"{cert}, {key or 'no key file'}"
            raise InvalidArgument("cert_file", f"{files}: {error}") from None


def _check_pem(name: str, file: str) -> None:
    """Refuse what OpenSSL would wait for without end, or only number."""
    try:
        if Path(file).is_fifo():  # OpenSSL opens it again
            raise TextFileError(f"{file}: this is a pipe; name a file")
        if "-----BEGIN " not in read_text(file):
            raise TextFileError(f"{file}: no certificate or key in PEM form")
    except (TextFileError, ValueError) as error:
        raise InvalidArgument(name, str(error)) from None


_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
#: The schemes that name a domain, and the service that its DNS is asked for (RFC 6335's registry).
_SERVICES = {"mqtt+srv": "_mqtt._tcp", "mqtts+srv": "_secure-mqtt._tcp"}


class BrokerUrl(NamedTuple):
    """Where the broker is: ``mqtt``, ``mqtts``, ``ws`` or ``wss``."""

    scheme: str
    host: str
    port: int
    path: str = "/mqtt"
    #: The domain that vouches for a host outside of it, which only DNS has named.
    domain: str | None = None

    @property
    def certified(self) -> str:
        """The name that the broker's certificate has to be for."""
        return self.host if self.domain is None else self.domain

    @property
    def secure(self) -> str:
        """What to say instead of the scheme so that it is encrypted."""
        return "wss://" if self.websocket else "mqtts://"

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        """Whether MQTT runs inside a WebSocket."""
        return self.scheme in ("ws", "wss")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" + (self.path if self.websocket else "")

    @classmethod
    def parse(cls, url: object) -> Self:
        """Take ``mqtt://host[:port]`` apart; raises :class:`InvalidArgument` saying what is off."""
        parts, host, port = _split(url)
        if parts.scheme not in _PORTS:
            raise InvalidArgument("broker", f"one broker is wanted, and {url!r} may stand for many")
        websocket = parts.scheme in ("ws", "wss")
        if (parts.path not in ("", "/") and not websocket) or parts.query or parts.fragment:
            raise InvalidArgument("broker", f"nothing is wanted after the port in {url!r}")
        if port == 0:
            raise InvalidArgument("broker", "port 0 is no port to connect to")
        path = parts.path if parts.path not in ("", "/") else "/mqtt"
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], path)


class SrvUrl(NamedTuple):
    """A domain whose DNS says where its brokers are: ``mqtt+srv`` or ``mqtts+srv`` (RFC 2782)."""

    scheme: str
    host: str

    @property
    def service(self) -> str:
        """The name that is asked for its SRV records."""
        return f"{_SERVICES[self.scheme]}.{self.host}"

    @property
    def tls(self) -> bool:
        """Whether connections to what is found are encrypted."""
        return self.scheme == "mqtts+srv"

    @property
    def secure(self) -> str:
        """What to say instead of the scheme so that they are."""
        return "mqtts+srv://"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"

    @classmethod
    def parse(cls, url: object) -> Self:
        """Take ``mqtts+srv://domain`` apart; raises :class:`InvalidArgument`."""
        parts, host, port = _split(url)
        if port is not None:
            raise InvalidArgument("broker", f"no port in {url!r}: the domain's DNS says it")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise InvalidArgument("broker", f"nothing is wanted after the domain in {url!r}")
        host = host.removesuffix(".")
        if _is_address(host):
            plain = parts.scheme.removesuffix("+srv")
            raise InvalidArgument(
                "broker", f"{host} is an address, no domain with records: say {plain}://{host}"
            )
        if host == "local" or host.endswith(".local"):
            raise InvalidArgument(
                "broker", f"{host!r} is no domain of DNS: say mqtts://NAME.local, as `bellwire"
                " doctor` finds it in this network"
            )  # fmt: skip
        return cls(parts.scheme, host)


AnyUrl = BrokerUrl | SrvUrl


def _split(url: object) -> tuple[SplitResult, str, int | None]:
    """What every URL has: its parts, the host, and the port, if one is said."""
    if not isinstance(url, str):
        raise InvalidArgument("broker", f"a URL is a string, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument("broker", f"{error}: give it as mqtt://HOST:PORT") from None
    if parts.scheme not in _PORTS and parts.scheme not in _SERVICES:
        raise InvalidArgument(
            "broker",
            "starts with mqtt://, mqtts://, ws://, wss://, mqtt+srv:// or mqtts+srv://,"
            f" not {_shown(url)!r}",
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument(
            "broker", "no user or password in the URL: pass them as username and password"
        )
    if not parts.hostname:
        raise InvalidArgument("broker", f"no host in {url!r}")
    host = unquote(parts.hostname)
    if not _is_host(host):
        raise InvalidArgument("broker", f"{host!r} is no name of a host")
    return parts, host, port


def parse_broker(url: object) -> AnyUrl:
    """A broker's URL, or that of a domain; raises :class:`InvalidArgument`."""
    domain = isinstance(url, str) and url.partition("://")[0].lower() in _SERVICES
    return SrvUrl.parse(url) if domain else BrokerUrl.parse(url)


def parse_brokers(brokers: object) -> tuple[AnyUrl, ...]:
    """One broker's URL, or several: a sequence, or one text with commas or blanks between them.

    Some may be domains, whose DNS says where their brokers are.

    Raises :class:`InvalidArgument` naming the member that is wrong, is there twice, or is encrypted
    where another is not: the secret would be as safe as with the worst of them.
    """
    members = _members(brokers)
    if len(members) == 1:
        return (parse_broker(members[0]),)
    if not members:
        raise InvalidArgument(
            "broker", "no URL in the list; give at least one, as mqtt://HOST:PORT"
        )
    urls: list[AnyUrl] = []
    for number, member in enumerate(members, 1):
        try:
            url = parse_broker(member)
        except InvalidArgument as error:
            shown = _shown(member) if isinstance(member, str) else member
            problem = str(error).removeprefix("broker: ")
            raise InvalidArgument(
                "broker", f"number {number} of {len(members)}, {shown!r}: {problem}"
            ) from None
        if url in urls:
            raise InvalidArgument("broker", f"{url} is there twice (number {number})")
        if urls and url.tls is not urls[0].tls:
            plain, other = (urls[0], url) if url.tls else (url, urls[0])
            raise InvalidArgument(
                "broker",
                f"{plain} is not encrypted: say {plain.secure},"
                f" as {other} is (number {number}): all of them, or none",
            )
        urls.append(url)
    return tuple(urls)


def _members(brokers: object) -> list[object]:
    if isinstance(brokers, str):
        return [*brokers.replace(",", " ").split()] or [brokers]
    if isinstance(brokers, Sequence) and not isinstance(brokers, bytes | bytearray):
        return list(brokers)
    return [brokers]


def _is_host(name: str) -> bool:
    """Whether a resolver can be asked for it (RFC 1035, 2.3.4), or it is an address."""
    if any(c.isspace() or not c.isprintable() for c in name):
        return False
    labels = name.removesuffix(".").split(".")
    return len(name) <= 254 and all(0 < len(label) <= 63 for label in labels)


def clear_text(brokers: object) -> str:
    """A warning where a secret would cross the network unencrypted to a broker, else ``""``."""
    try:
        urls = parse_brokers(brokers)
    except InvalidArgument:
        return ""  # refused where it is used
    exposed = [url for url in urls if not url.tls and not _on_this_machine(url.host)]
    if not exposed:
        return ""
    secure = dict.fromkeys(url.secure for url in exposed)
    return (
        f"the secret goes to {', '.join(map(str, exposed))} unencrypted, for all on the way to"
        f" read: say {' or '.join(secure)}"
    )


def _on_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shown(url: str) -> str:
    """``url`` for an error message, without what may be a secret in it."""
    return url.rpartition("@")[2] if "@" in url else url
