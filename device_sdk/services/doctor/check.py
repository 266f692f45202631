"""``bellwire doctor``: from the settings to the own presence, step by step, to the first fault.

Each step says what it found; the last line says what is wrong and what to do.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from ...client.link import srv
from ...client.link.url import BrokerUrl, SrvUrl, Tls, clear_text, parse_brokers
from ...core.wire.codec import MAX_CELL
from ...errors import BellwireError, BrokerRefused, LoginError, SubscriptionRefused
from ..config.doorbell import DoorLine
from ..config.metrics import MetricsSettings
from ..config.timezone import described
from ..metrics.window import check_installed, problem
from ..service.link import make_client
from .fault import Fault
from .homeassistant import examine_mqtt
from .page import examine_page
from .patient import Patient
from .reach import Came, ReachCheck
from .sip import examine_sip

_TIMEOUT = 5.0
#: A clock that shows an earlier year was never set.
_FIRST_YEAR = 2025


def examine(patient: Patient) -> Iterator[str]:
    """Go through the steps; yields a line for each that is well, raises :class:`Fault`.

    Each of several brokers is tried, whatever is wrong with the others.
    """
    for step in (_secret, _clock):
        yield step(patient)
    if patient.door is not None:
        yield _door(patient, patient.door)
    yield from _notify(patient)
    problems: list[str] = []
    brokers: dict[BrokerUrl, str] = {}  # and what to say to be let in there
    for url in parse_brokers(patient.account.broker):
        if isinstance(url, BrokerUrl):
            brokers[url] = str(url)
            continue
        try:
            found = _found(url)
        except BellwireError as error:
            problems.append(str(error).removeprefix("broker: "))
            continue
        yield f"DNS: {url} is {', '.join(map(_described, found.found))}, for {found.ttl:.0f} s"
        for one in (each.url for each in found.found):  # outside, only its domain vouches for it
            brokers.setdefault(one, str(one if one.domain is None else url))
    several = len(brokers) + len(problems) > 1
    for one, said in brokers.items():
        account = replace(patient.account, broker=said)
        try:
            for line in _at_broker(replace(patient, account=account, url=one)):
                yield f"{one}: {line}" if several else line
        except Fault as fault:
            problems += [f"{one}: {each}" if several else each for each in fault.problems]
    if patient.mqtt is not None:
        try:
            yield examine_mqtt(patient.mqtt)
        except Fault as fault:
            problems += fault.problems
    if patient.sip is not None:
        try:
            yield examine_sip(patient.sip, runs=patient.service() is not None)
        except Fault as fault:
            problems += fault.problems
    if patient.web.port is not None:
        try:
            yield examine_page(patient.web)
        except Fault as fault:
            problems.append(str(fault))
    if patient.history is not None and patient.history.keep and patient.service() is None:
        if wrong := patient.history.problem():  # a service that runs may write elsewhere: its own
            problems.append(f"history: {wrong}")
        else:
            yield f"history: {patient.history.file}"
    if patient.metrics is not None:
        try:
            yield _metrics(patient, patient.metrics)
        except BellwireError as error:
            problems.append(str(error))
    if problems:
        raise Fault(*problems)


def _metrics(patient: Patient, settings: MetricsSettings) -> str:
    check_installed()
    runs = patient.service() is not None
    wrong = problem(settings, runs=runs)
    if wrong is not None:
        raise Fault(f"metrics: {wrong}")
    return f"metrics: {settings.url()}" + ("" if runs else ", once the service runs")


def _found(url: SrvUrl) -> srv.SrvAnswer:
    srv.check_installed(url)
    return srv.look_up(url)


def _described(found: srv.SrvRecord) -> str:
    return f"{found.url} (priority {found.priority}, weight {found.weight})"


def _door(patient: Patient, door: DoorLine) -> str:
    rules = door.rules
    may = f"{', '.join(sorted(rules.obeys))} may open it for {rules.seconds:g} s"
    warning = clear_text(patient.account.broker)
    open_to_all = f" (but {warning}: whoever listens there can open it)" if warning else ""
    return f"door: pin {door.output.pin}; {may}{open_to_all}"


def _notify(patient: Patient) -> Iterator[str]:
    """Each address was read by apprise already; ``--notify`` sends to each."""
    from ..logic.notice import Notice
    from ..service import notify

    for address in patient.notify:
        service = notify.service_of(address)
        if not patient.send_notice:
            yield f"notify: {service}; `bellwire doctor --notify` sends a message there"
            continue
        notice = Notice("Bellwire", f"{patient.account.peer} can reach you")
        try:
            notify.send_notice(address, notice)
        except notify.NotifyError as error:
            raise Fault(f"notify: {error}: is it reachable, is the address right?") from None
        yield f"notify: {service} took a message; does the phone show it?"


def _at_broker(patient: Patient) -> Iterator[str]:
    for step in (_name, _port, _certificate, _login):
        yield step(patient)
    yield from _calls(patient)


def _secret(patient: Patient) -> str:
    account = patient.account
    try:
        account.check_files()
    except BellwireError as error:
        raise Fault(str(error)) from None
    if account.cert_file is not None:
        return f"secret: a certificate, {account.cert_file}"
    if account.secret_file is None:
        return "secret: none is asked for"
    warning = clear_text(account.broker)
    return "secret: there" + (f" (but {warning})" if warning else "")


def _clock(patient: Patient) -> str:
    when = datetime.fromtimestamp(patient.now(), UTC)
    if when.year < _FIRST_YEAR and patient.tls:
        raise Fault(
            f"the clock says {when:%Y-%m-%d %H:%M}: it was never set, so no certificate can be "
            f"checked; wait for network time, or see `timedatectl`"
        )
    return f"clock: {when:%Y-%m-%d %H:%M} UTC; time zone: {described()}"


def _name(patient: Patient) -> str:
    found = patient.browse()
    announced = "; ".join(f"{each.host}:{each.port}" for each in found) or "no broker"
    try:
        infos = socket.getaddrinfo(patient.host, patient.port, type=socket.SOCK_STREAM)
    except OSError as error:
        hint = f"; this network announces {announced}" if found else "; is the network up?"
        raise Fault(f"the name {patient.host} is unknown here ({error.strerror}){hint}") from None
    addresses = dict.fromkeys(str(info[4][0]) for info in infos)
    return f"name: {patient.host} is {', '.join(addresses)} (announced: {announced})"


def _port(patient: Patient) -> str:
    try:
        socket.create_connection((patient.host, patient.port), _TIMEOUT).close()
    except ConnectionRefusedError:
        raise Fault(
            f"{patient.host} is there, but nothing listens on port {patient.port}: is the broker "
            f"running (`systemctl status bellwire-broker` there), is the port right?"
        ) from None
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise Fault(
            f"{patient.host} port {patient.port} cannot be reached: {reason}; is it on, is it in "
            f"this network, does a firewall stand between?"
        ) from None
    return f"port: {patient.port} is open"


def _certificate(patient: Patient) -> str:
    if not patient.tls:
        return "TLS: not used"
    context = (patient.account.tls() or Tls()).make_context()
    try:
        with (
            socket.create_connection((patient.host, patient.port), _TIMEOUT) as raw,
            context.wrap_socket(raw, server_hostname=patient.url.certified) as wrapped,
        ):
            return f"TLS: {wrapped.version()}, certificate trusted"
    except ssl.SSLCertVerificationError as error:
        raise Fault(_why_untrusted(error, patient)) from None
    except OSError as error:
        raise Fault(
            f"no TLS on {patient.host} port {patient.port}: {error}; is it the port for mqtts?"
        ) from None


def _why_untrusted(error: ssl.SSLCertVerificationError, patient: Patient) -> str:
    clock = f"{datetime.fromtimestamp(patient.now(), UTC):%Y-%m-%d %H:%M} UTC"
    # OpenSSL's X509_V_ERR_…: not yet valid, expired, name mismatch.
    if error.verify_code == 9:
        return (
            f"the clock is wrong: it says {clock}, and the broker's certificate is not valid yet; "
            f"set the clock (`timedatectl`), or wait for network time"
        )
    if error.verify_code == 10:
        return (
            f"the broker's certificate has run out, if this clock ({clock}) is right: "
            f"`bellwire-broker renew` on the broker"
        )
    if error.verify_code in (62, 64):
        name = patient.url.certified
        why = "" if name == patient.host else (
            f" ({patient.host} is outside of that domain, and DNS alone vouches for nobody)"
        )  # fmt: skip
        return (
            f"the broker's certificate is not for {name}: use the name it was made for, or "
            f"`bellwire-broker renew --name {name}` on the broker{why}"
        )
    ca = patient.account.ca_file or "the system's authorities"
    return f"the broker's certificate is not of {ca}: copy the broker's ca.crt here again"


def _login(patient: Patient) -> str:
    account = patient.account
    # One login for each peer, the newest wins: trying it would end the service's own.
    if (running := patient.service()) is not None:
        unit, status = running
        if not status.startswith("online"):
            raise Fault(f"{unit} runs, but is {status or 'not logged in yet'}")
        if status.removeprefix("online as ").partition(" at ")[0] == account.peer:
            return f"login: {unit} is logged in: {status}"
    if _logged_in_elsewhere(patient):
        return (
            f"login: {account.peer} is let in; it is logged in already, by another program or on"
            " another machine, and was left alone"
        )
    client = make_client(account)
    try:
        client.login(2 * _TIMEOUT)
    except BrokerRefused:
        raise Fault(
            f"the broker does not let {account.peer} in: its secret is wrong or it is not "
            f"registered (`bellwire-broker device list`, `… device rotate {account.peer}` there)"
        ) from None
    except SubscriptionRefused as error:
        raise Fault(f"the broker lets {account.peer} in but not listen: {error}") from None
    except LoginError as error:
        raise Fault(f"no login: {error}") from None
    finally:
        with contextlib.suppress(BellwireError):
            client.logout()
    return f"login: {account.peer} is let in, and its presence was published"


def _logged_in_elsewhere(patient: Patient) -> bool:
    """Whether the device itself is there: a service that is taken over is not started again."""
    reach = ReachCheck(patient.account, patient.url)
    try:
        return reach.is_online()
    except LoginError:
        return False  # what is wrong is said of the login
    finally:
        reach.close()


def _calls(patient: Patient) -> Iterator[str]:
    """Each name that the buttons ring, then the largest cell; all faults in one."""
    if not patient.rings:
        return
    me = patient.account.peer
    may: list[str] = []
    may_not: list[str] = []
    broke = False
    reach = ReachCheck(patient.account, patient.url)
    try:
        for peer in patient.rings:
            came = reach.call(peer)
            (may if came is Came.BACK else may_not).append(peer)
            broke = broke or came is Came.BROKE
        largest = reach.largest(may[0]) if may else Came.NOT_BACK
    except LoginError as error:
        raise Fault(f"no second connection to try the calls: {error}") from None
    finally:
        reach.close()
    if may:
        yield f"calls: {me} may call {', '.join(may)}"
    if may_not:
        names = " ".join(shlex.quote(peer) for peer in patient.rings)
        how = "it closed the connection" if broke else "it dropped the call"
        raise Fault(
            f"the broker does not let {me} call {', '.join(may_not)}: {how}; there: "
            f"`bellwire-broker device set {shlex.quote(me)} --may-call {names}` (and is the name"
            f" in `rings` the panel's own?)"
        )
    if largest is not Came.BACK:
        raise Fault(
            f"the broker does not take a cell of {MAX_CELL} bytes ({largest.value}): let its"
            f" largest packet be 21 KiB or more (mosquitto: max_packet_size, message_size_limit)"
        )
    yield f"largest cell: {MAX_CELL} bytes are taken"
