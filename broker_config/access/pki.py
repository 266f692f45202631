"""A small certificate authority for one broker: the CA, the broker's and the devices' own."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped] # ships no types
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_sdk.core.wire.topics import escape

from .auth import CERTIFICATE_NAME
from .registry import write_private
from .writing import Staged

#: A machine whose clock is not set yet still makes certificates that are valid when it is.
_EARLIEST = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
_BACKDATED = dt.timedelta(days=1)
CA_DAYS, SERVER_DAYS, DEVICE_DAYS = 3650, 825, 3650
_COMMON_NAME_BYTES = 64
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, in PEM, and the SHA-256 by which the registry knows it."""

    certificate: bytes
    key: bytes
    fingerprint: str


def local_name() -> str:
    """The name by which multicast DNS knows this host."""
    return f"{socket.gethostname().partition('.')[0]}.local"


def own_name(ca: Path) -> str:
    """The host name that the broker of this CA announces: its own, not this host's.

    This host's name is for its own responder (avahi) to hold, and another machine in the network
    may have it. The certificate of `init` and `renew` is for both.
    """
    try:
        seed = ca.read_bytes()
    except OSError:
        seed = local_name().encode()
    return f"bellwire-{hashlib.sha256(seed).hexdigest()[:6]}.local"


def host_names() -> list[str]:
    """The names and addresses by which this host may be reached."""
    name = socket.gethostname()
    names = ["localhost", name, socket.getfqdn(), local_name()]
    addresses = [
        address.address.partition("%")[0]
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return list(dict.fromkeys([*names, "127.0.0.1", "::1", *addresses]))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode())


def check_names(names: list[str]) -> None:
    """Raise ValueError for what no certificate can be for, before anything is made."""
    for name in names:
        try:
            found = _general_name(name)
            if isinstance(found, x509.DNSName) and not _HOST.fullmatch(found.value):
                raise ValueError("letters, digits, hyphens and dots")
        except ValueError as error:
            raise ValueError(
                f"--name: {name!r} is no name or address of a host: {error}"
            ) from error


def _common_name(text: str) -> x509.Name:
    short = text.encode()[:_COMMON_NAME_BYTES].decode(errors="ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, short)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issue(
    subject: x509.Name,
    days: int,
    *,
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier | None,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    now = max(dt.datetime.now(dt.UTC), _EARLIEST)
    signer = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(_usage(ca=issuer is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def make_ca(folder: Path) -> None:
    """Make ``ca.crt`` and ``ca.key`` in ``folder``."""
    ca = _issue(
        _common_name(f"Bellwire CA of {socket.gethostname()}"),
        CA_DAYS, names=[], purpose=None, issuer=None,
    )  # fmt: skip
    write_private(folder / "ca.key", ca.key)
    write_private(folder / "ca.crt", ca.certificate)
    (folder / "ca.crt").chmod(0o644)  # devices get a copy


def _ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{folder / 'ca.key'} is not a key that `init` made")
    return certificate, key


def make_server(folder: Path, extra: list[str]) -> list[str]:
    """Make ``server.crt`` and ``server.key``; gives the names they are for."""
    names = list(dict.fromkeys([*host_names(), own_name(folder / "ca.crt"), *extra]))
    server = _issue(
        _common_name(socket.gethostname()),
        SERVER_DAYS,
        names=[_general_name(name) for name in names],
        purpose=ExtendedKeyUsageOID.SERVER_AUTH,
        issuer=_ca(folder),
    )
    with Staged() as staged:
        staged.add(folder / "server.key", server.key, over=True)
        staged.add(folder / "server.crt", server.certificate, over=True)
        staged.place()
    return names


def make_node(folder: Path, host: str) -> Certificate:
    """A certificate for a broker of another kind on ``host``, which its fellows may ask for too."""
    return _issue(
        _common_name(host),
        SERVER_DAYS,
        names=[_general_name(host)],
        purpose=None,
        issuer=_ca(folder),
    )


def make_web(folder: Path, names: list[str]) -> Certificate:
    """A certificate for web pages that are served under those names, as a panel's is."""
    return _issue(
        _common_name(names[0]),
        SERVER_DAYS,
        names=[_general_name(name) for name in names],
        purpose=ExtendedKeyUsageOID.SERVER_AUTH,
        issuer=_ca(folder),
    )


def make_device(folder: Path, name: str) -> Certificate:
    """A client certificate for the device ``name``."""
    return _issue(
        _common_name(name),
        DEVICE_DAYS,
        names=[x509.UniformResourceIdentifier(CERTIFICATE_NAME + escape(name))],
        purpose=ExtendedKeyUsageOID.CLIENT_AUTH,
        issuer=_ca(folder),
    )


def extra_names(path: Path) -> list[str]:
    """The names of a certificate, so that its renewal keeps those that were asked for."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]


def expiry(path: Path) -> tuple[dt.datetime, dt.datetime]:
    """From when and until when a certificate is valid."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc
