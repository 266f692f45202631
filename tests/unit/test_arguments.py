"""Wrong usage is told in our own words, whatever this Python's argparse calls it."""

from __future__ import annotations

import pytest

from device_sdk.services.arguments import Parser, in_our_words


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("argument COMMAND: invalid choice: 'cal' (choose from 'call', 'listen')",
         "there is no command 'cal'; did you mean call?"),
        ("argument COMMAND: invalid choice: 'cal' (choose from call, listen)",  # Python 3.14
         "there is no command 'cal'; did you mean call?"),
        ("argument ACTION: invalid choice: 'x' (choose from 'add')", "there is no action 'x'"),
        ("argument -r/--role: invalid choice: 'x' (choose from 'a', 'b')",
         "--role is one of a, b, not 'x'"),
        ("argument --arch: invalid Arch value: 'x'", "--arch wants another value, not 'x'"),
        ("argument --port: invalid int value: 'x'", "--port wants a whole number, not 'x'"),
        ("argument --may-call: expected at least one argument", "--may-call wants a value"),
        ("argument --a: not allowed with argument -b/--bee", "--a does not go with --bee"),
        ("one of the arguments --a --b is required", "one of --a --b is missing"),
        ("argument --at: no such day", "--at: no such day"),
        ("something new", "something new"),
    ],
)  # fmt: skip
def test_what_argparse_says_as_a_person_would(theirs: str, ours: str) -> None:
    assert in_our_words(theirs) == ours


def test_a_word_that_may_be_a_secret_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is not known only flags are shown, and not what they were given."""
    parser = Parser(prog="bellwire")
    for words in (["swordfish"], ["--passwort=swordfish"], ["--passwort", "swordfish"]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        assert ended.value.code == 2
        assert "swordfish" not in capsys.readouterr().err
