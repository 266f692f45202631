"""Wrong usage is told in our own words, whatever this Python's argparse calls it."""

from __future__ import annotations

import pytest

from broker_config.admin.device_cli import _ACTIONS as ACTIONS
from device_sdk.services.arguments import _ELSEWHERE, _OTHER_WORDS, Parser, in_our_words


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("argument COMMAND: invalid choice: 'cal' (choose from 'call', 'listen')",
         "there is no command 'cal'; did you mean call?"),
        ("argument COMMAND: invalid choice: 'cal' (choose from call, listen)",  # Python 3.14
         "there is no command 'cal'; did you mean call?"),
        ("argument COMMAND: invalid choice: 'ring' (choose from 'call', 'listen', 'trace')",
         "there is no command 'ring'; did you mean call?"),
        ("argument COMMAND: invalid choice: 'answer' (choose from 'call', 'listen', 'panel')",
         "there is no command 'answer'; did you mean listen?"),
        ("argument COMMAND: invalid choice: 'start' (choose from 'run', 'status')",
         "there is no command 'start'; did you mean run?"),
        ("argument COMMAND: invalid choice: 'run' (choose from 'call', 'listen')",
         "there is no command 'run'; did you mean bellwire-broker run?"),
        ("argument COMMAND: invalid choice: 'help' (choose from 'call', 'wheels')",
         "there is no command 'help'"),
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


def test_a_word_points_at_a_command_that_there_is() -> None:
    """What is suggested instead of another word is a command of one of the two programs."""
    from broker_config.admin.cli import _parser as of_broker
    from device_sdk.cli.command_line import _parser as of_bellwire

    words = {
        name
        for parser in (of_broker(), of_bellwire(None))
        for action in parser._subparsers._group_actions  # type: ignore[union-attr]
        for name in action.choices or ()
    } | set(ACTIONS)
    instead = {each for names in _OTHER_WORDS.values() for each in names}
    instead |= {each.partition(" ")[2] for each in _ELSEWHERE.values()}
    assert instead <= words


def test_a_word_without_its_flag_is_asked_which_it_is_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`listen kitchen`, `panel panel.toml`, `device list my-broker`."""
    for flags, of in ((("--settings", "--peer"), "--peer"), (("--dir",), "--dir")):
        parser = Parser(prog="bellwire")
        for flag in flags:
            parser.add_argument(flag)
        with pytest.raises(SystemExit):
            parser.parse_args(["kitchen"])
        assert f"1 word(s) too many: does it belong after {of}?" in capsys.readouterr().err


def test_a_word_that_may_be_a_secret_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is not known only flags are shown, and not what they were given."""
    parser = Parser(prog="bellwire")
    for words in (["swordfish"], ["--passwort=swordfish"], ["--passwort", "swordfish"]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        assert ended.value.code == 2
        assert "swordfish" not in capsys.readouterr().err
