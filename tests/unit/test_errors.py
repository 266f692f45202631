"""The error tree: what each error is, and what it tells."""

from __future__ import annotations

import re

import pytest

from device_sdk import errors
from device_sdk.states import InvitationApiCallErrorCode, LocalInvitationState

BUILTIN = {
    "InvalidArgument": ValueError,
    "InvitationApiCallError": RuntimeError,
    "ClientClosed": RuntimeError,
    "DecodeError": ValueError,
    "LoginError": ConnectionError,
    "BrokerUnreachable": errors.LoginError,
    "BrokerRefused": errors.LoginError,
    "SubscriptionRefused": errors.LoginError,
    "LoginTimeout": errors.LoginError,
}


@pytest.mark.parametrize("name", BUILTIN)
def test_each_error_is_ours_and_the_builtin_it_resembles(name: str) -> None:
    """``except BellwireError`` and ``except <builtin>`` both catch it."""
    assert issubclass(getattr(errors, name), errors.BellwireError)
    assert issubclass(getattr(errors, name), BUILTIN[name])


def test_a_login_that_was_not_answered_is_also_a_timeout() -> None:
    """``except TimeoutError`` catches LoginTimeout."""
    assert issubclass(errors.LoginTimeout, TimeoutError)


def test_the_docstring_draws_every_error_of_the_module() -> None:
    """The tree in the module's docstring has the module's classes, no more and no fewer."""
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))
    real = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert drawn | {"BellwireError"} == real


def test_an_invalid_argument_names_the_argument() -> None:
    """The message starts with the argument's name."""
    error = errors.InvalidArgument("realm", "no slash")
    assert error.argument == "realm"
    assert str(error) == "realm: no slash"


def test_an_illegal_call_tells_its_code_its_call_and_its_state() -> None:
    """What happened, for which call, in which state."""
    state = LocalInvitationState.CANCELED
    error = errors.InvitationApiCallError(
        InvitationApiCallErrorCode.ALREADY_END, "it is over", call_id="abc", state=state
    )
    assert (error.code, error.call_id, error.state) == (3, "abc", state)
    assert str(error) == "ALREADY_END: it is over (call abc, CANCELED)"


def test_an_illegal_call_without_a_call_says_no_more_than_it_knows() -> None:
    """No empty parentheses where there is no call id."""
    error = errors.InvitationApiCallError(InvitationApiCallErrorCode.INVALID_ARGUMENT, "too long")
    assert str(error) == "INVALID_ARGUMENT: too long"


@pytest.mark.parametrize(
    ("error", "attribute", "value"),
    [
        (errors.DecodeError("tagged", "x"), "cause", "tagged"),
        (errors.BrokerUnreachable("certificate", "x"), "cause", "certificate"),
        (errors.BrokerRefused(5, "x"), "return_code", 5),
        (errors.SubscriptionRefused("sig/v1/a/#", "x"), "topic_filter", "sig/v1/a/#"),
    ],
)
def test_each_error_keeps_what_it_was_told(error: Exception, attribute: str, value: object) -> None:
    """The attribute that its docstring promises, and the text as the message."""
    assert getattr(error, attribute) == value
    assert str(error) == "x"
