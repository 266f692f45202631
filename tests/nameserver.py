"""A name server on loopback: real questions and answers of DNS, over UDP, from a table."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from device_sdk.client.link import srv


class Srv(NamedTuple):
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str


class NameServer:
    """Answers for the names in ``table``, unless it is ``silent``; counts what it was asked."""

    def __init__(self) -> None:
        self.table: dict[str, list[Srv]] = {}
        self.ttl = 300
        self.silent = False
        self.failing = False
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def resolver(self) -> dns.resolver.Resolver:
        """One that asks this server alone."""
        resolver = dns.resolver.Resolver(configure=False)
        host, resolver.port = self._socket.getsockname()
        resolver.nameservers = [host]
        return resolver

    def _run(self) -> None:
        while True:
            packet, asker = self._socket.recvfrom(4096)
            if not packet:
                return
            question = dns.message.from_wire(packet)
            name = question.question[0].name.to_text(omit_final_dot=True)
            self.asked.append(name)
            if not self.silent:
                self._socket.sendto(self._answer(question, name).to_wire(), asker)

    def _answer(self, question: dns.message.Message, name: str) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        records = self.table.get(name)
        if self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif records:
            texts = [f"{p} {w} {port} {target}" for p, w, port, target in records]
            answer.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", "SRV", *texts))
        return answer


@contextlib.contextmanager
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """One that all look-ups in this process ask."""
    with NameServer() as server:
        monkeypatch.setattr(srv, "system_resolver", server.resolver)
        yield server
