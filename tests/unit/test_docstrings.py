"""What the public classes say of themselves: the thread of each, and what each method raises.

What a method can raise is read from the source: from its own ``raise``, and from those of what it
calls on itself, on its client or by name. A docstring names each of them, or the method as which it
raises.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import device_sdk
from device_sdk import aio
from device_sdk.client import threaded
from device_sdk.core.callee_side import CalleeSide
from device_sdk.core.caller_side import CallerSide

ERRORS = ("InvalidArgument", "InvitationApiCallError", "ClientClosed", "LoginError")
#: Where the core takes a command, and what it raises for one that is not legal.
CORE: dict[str, tuple[type, str]] = {
    "Cancel": (CallerSide, "cancel"),
    "Accept": (CalleeSide, "accept"),
    "Refuse": (CalleeSide, "refuse"),
}
#: What happens while events are told is no answer to a command.
APART = {"_dispatch_all"}
NAMES = (
    "Call",
    "CallManager",
    "LocalInvitation",
    "RemoteInvitation",
    "RingGroup",
    "SignalingClient",
)
CLASSES = [getattr(face, name) for face in (threaded, aio) for name in NAMES]

Function = tuple[Callable[..., Any], type | None]


def functions(value: object) -> list[Callable[..., Any]]:
    """What runs when this attribute of a class is called, read or set."""
    if isinstance(value, property):
        return [each for each in (value.fget, value.fset) if each is not None]
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    return [value] if inspect.isfunction(value) else []


def face_of(cls: type) -> ModuleType:
    """The face that has this class."""
    return next(face for face in (threaded, aio) if getattr(face, cls.__name__, None) is cls)


def client_of(cls: type) -> type:
    """The client that an invitation, or a manager, of this face has."""
    found: type = face_of(cls).SignalingClient
    return found


class Reached:
    """The errors of :data:`ERRORS` that a function can raise."""

    def __init__(self, function: Callable[..., Any], cls: type | None) -> None:
        self.errors: set[str] = set()
        self._seen: set[Function] = set()
        # An invitation is what it is: its own methods need not say that something else is none.
        itself = cls is not None and cls.__name__.endswith("Invitation")
        self._apart = {*APART, "_checked_invitation"} if itself else APART
        self._follow((function, cls))

    def _follow(self, what: Function) -> None:
        function, _ = what
        if what in self._seen or function.__name__ in self._apart:
            return
        if not function.__module__.startswith("device_sdk."):
            return
        self._seen.add(what)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        self._visit(tree.body[0], what, frozenset())

    def _visit(self, node: ast.AST, where: Function, kept: frozenset[str]) -> None:
        if isinstance(node, ast.With):
            for item in node.items:
                kept |= self._suppressed(item.context_expr)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func).rpartition(".")[2]
            name = "ClientClosed" if name == "_closed_error" else name
            if name in ERRORS and name not in kept:
                self.errors.add(name)
        if isinstance(node, ast.Call):
            before = set(self.errors)
            for called in self._called(node.func, where):
                self._follow(called)
            self.errors -= kept - before
        for child in ast.iter_child_nodes(node):
            self._visit(child, where, kept)

    @staticmethod
    def _suppressed(call: ast.expr) -> frozenset[str]:
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "contextlib.suppress":
            return frozenset()
        names = {ast.unparse(each) for each in call.args}
        return frozenset(ERRORS if "Exception" in names else names)

    @staticmethod
    def _called(func: ast.expr, where: Function) -> Iterator[Function]:
        function, cls = where
        *owner, name = ast.unparse(func).split(".")
        if not owner:
            if name in CORE:
                side, method = CORE[name]
                yield getattr(side, method), side
                return
            made = function.__globals__.get(name, getattr(builtins, name, None))
            if inspect.isclass(made):
                for maker in ("__init__", "__new__"):
                    yield from ((each, made) for each in functions(getattr(made, maker)))
            else:
                yield from ((each, None) for each in functions(made))
        elif cls is not None and owner in (["self"], ["self", "_client"], ["client"]):
            holder = cls if owner == ["self"] else client_of(cls)
            yield from ((each, holder) for each in functions(getattr(holder, name, None)))
        elif inspect.ismodule(module := function.__globals__.get(owner[0])):
            yield from ((each, None) for each in functions(getattr(module, name, None)))
        elif cls is not None and owner == ["self", "call_manager"]:
            manager = face_of(cls).CallManager
            yield from ((each, manager) for each in functions(getattr(manager, name)))


def public(cls: type) -> Iterator[tuple[str, object]]:
    """The names of a class that are for the application, with what stands behind them."""
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        if not name.startswith("_") and functions(value):
            yield name, value


def said(cls: type, name: str, value: object, seen: tuple[str, ...] = ()) -> str:
    """Its docstring, with that of a method as which it raises."""
    text = inspect.getdoc(value) or ""
    other = re.search(r"as :meth:`(\w+\.)?(\w+)`", text)
    if other and other[2] not in (name, *seen):
        holder = getattr(face_of(cls), (other[1] or cls.__name__).rstrip("."))
        more = inspect.getattr_static(holder, other[2])
        text += said(holder, other[2], more, (*seen, name))
    return text


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_public_method_says_what_it_does_and_what_it_raises(cls: type) -> None:
    """The first line is the contract; what the body can raise is named below it."""
    missing = {}
    for name, value in public(cls):
        text = said(cls, name, value)
        first = text.partition("\n")[0]
        assert first.endswith((".", ":")), f"{cls.__name__}.{name}: {first!r}"
        errors: set[str] = set().union(*(Reached(f, cls).errors for f in functions(value)))
        if silent := sorted(each for each in errors if each not in text):
            missing[name] = silent
    assert not missing


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_public_class_says_from_which_thread_it_is_used(cls: type) -> None:
    assert re.search(r"^Threads: ", inspect.getdoc(cls) or "", re.MULTILINE)


def test_what_an_application_overrides_says_on_which_thread_it_runs() -> None:
    """Listeners and policies are the application's code."""
    assert "Threads: on a thread of this listener's own" in (
        inspect.getdoc(device_sdk.CallEventListener) or ""
    )
    assert "on a thread of its own" in (inspect.getdoc(device_sdk.Policy.screen) or "")


def test_the_source_is_followed_to_what_it_raises() -> None:
    """Through the client, the manager, a function, a core and a context manager; else all pass."""
    invitation, client = threaded.RemoteInvitation, threaded.SignalingClient
    command = {"InvitationApiCallError", "ClientClosed"}
    assert Reached(invitation.accept, invitation).errors == command
    assert Reached(client.accept, client).errors == {*command, "InvalidArgument"}
    assert Reached(client.login, client).errors == {*ERRORS} - {"InvitationApiCallError"}
    assert Reached(client.watch, client).errors == {"InvalidArgument", "ClientClosed"}
    assert Reached(client.ring, client).errors == {*ERRORS} - {"LoginError"}
    assert Reached(client.logout, client).errors == set()
    assert Reached(client.find, client).errors == set()


@pytest.mark.parametrize("name", device_sdk.__all__)
def test_everything_exported_has_a_contract(name: str) -> None:
    """Its first line is a sentence."""
    first = (inspect.getdoc(getattr(device_sdk, name)) or "").partition("\n")[0]
    assert first.endswith((".", ":"))
