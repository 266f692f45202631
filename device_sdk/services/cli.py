"""The subcommands of ``bellwire`` for a Pi: doorbell, panel, homeassistant, doctor and more.

:func:`add_commands` registers them; each handler imports what it needs, so that ``bellwire call``
stays as light as it was.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client.display import LineHandler, complain, say
from ..client.link.url import clear_text
from ..errors import BellwireError
from .arguments import sentence
from .roles import settings_file

if TYPE_CHECKING:
    from .config.account import Action
    from .config.doorbell import DoorbellSettings
    from .config.history import HistorySettings
    from .config.homeassistant import HomeAssistantSettings
    from .config.panel import PanelSettings
    from .config.sip import SipSettings
    from .config.web import WebSettings


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this package's commands; each sets ``run``, a function from arguments to exit code."""
    for name, what in (
        ("doorbell", "be a doorbell: buttons that ring panels"),
        ("panel", "be a panel: ring, answer, refuse"),
    ):
        parser = subparsers.add_parser(
            name, help=what, description=sentence(what), allow_abbrev=False
        )
        parser.add_argument(
            "--settings",
            type=Path,
            default=settings_file(name),
            metavar="FILE",
            help=f"the TOML file (default: {settings_file(name)})",
        )
        parser.add_argument(
            "--keyboard", action="store_true", help="keys in place of pins: try it on a laptop"
        )
        parser.add_argument("--check", action="store_true", help="read the settings, then exit")
        if name == "doorbell":
            parser.add_argument(
                "--release",
                action="store_true",
                help="switch the door's pin off, then exit: for after a service that was killed",
            )
        else:
            _web_options(parser)
        parser.set_defaults(run=_run_doorbell if name == "doorbell" else _run_panel)
    what = "be a SIP phone's end: it rings like a panel"
    parser = subparsers.add_parser("sip", help=what, description=sentence(what), allow_abbrev=False)
    parser.add_argument(
        "--settings", type=Path, default=settings_file("sip"), metavar="FILE",
        help=f"the TOML file (default: {settings_file('sip')})",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="read the settings, then exit")
    parser.set_defaults(run=_run_sip, keyboard=False)
    name, what = "homeassistant", "bring calls to Home Assistant, by the MQTT broker that it has"
    parser = subparsers.add_parser(name, help=what, description=sentence(what), allow_abbrev=False)
    parser.add_argument(
        "--settings", type=Path, default=settings_file(name), metavar="FILE",
        help=f"the TOML file (default: {settings_file(name)})",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="read the settings, then exit")
    parser.set_defaults(run=_run_homeassistant, keyboard=False)
    from .doctor import cli as doctor_cli
    from .history import cli as history_cli
    from .provision import cli as provision_cli

    history_cli.add(subparsers)
    doctor_cli.add(subparsers)
    provision_cli.add(subparsers)


def _web_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--web", metavar="[HOST:]PORT", help="serve its page there (default: `listen` in [web])"
    )
    parser.add_argument(
        "--web-cert", type=Path, metavar="FILE", help="serve it by https with this certificate"
    )
    parser.add_argument("--web-key", type=Path, metavar="FILE", help="the certificate's key")


def _run_doorbell(args: argparse.Namespace) -> int:
    from .config.doorbell import read_doorbell
    from .service.appliance import Exit

    def serve() -> int:
        settings = read_doorbell(args.settings)
        if args.release:
            return _release(settings)
        _check(settings, [settings.chime.action.command, *_commands(settings.on)], args)
        if args.check:
            say(f"{args.settings}: {len(settings.buttons)} button(s), as it should be")
            return Exit.OK
        from .service.doorbell import DoorbellService

        return _serve(args, settings, DoorbellService)

    return _explained(serve, args.settings)


def _release(settings: DoorbellSettings) -> int:
    """Let go of the door: a pin may keep its level when its process is killed."""
    if settings.door is not None:
        from .gpio.pins import open_pins

        pins = open_pins(settings.gpio)
        try:
            pins.output("door", settings.door.output).set(False)
        finally:
            pins.close()
    return 0


def _run_panel(args: argparse.Namespace) -> int:
    from .config.panel import read_panel
    from .config.web import with_options
    from .service.appliance import Exit

    def serve() -> int:
        settings = read_panel(args.settings)
        web = with_options(settings.web, args.web, args.web_cert, args.web_key)
        settings = replace(settings, web=web)
        _check(settings, [settings.ringer.command, *_commands(settings.on)], args)
        web.check()
        if web.for_nothing:
            complain(f"bellwire: warning: {web.for_nothing}, or --web 8080")
        if args.check:
            if settings.keeps_history:
                _warn_of_history(settings.history)
            page = "" if web.port is None else f", with a page at {web.url}"
            say(f"{args.settings}: a panel named {settings.account.peer}{page}, as it should be")
            return Exit.OK
        if args.keyboard and not settings.buttons:
            from .config.account import InputPin
            from .logic.panel import PanelButton

            settings.buttons.update({b: InputPin(n) for n, b in enumerate(PanelButton)})
        return _serve(args, settings, _panel_class(web), has_pins=settings.has_pins)

    return _explained(serve, args.settings)


def _run_sip(args: argparse.Namespace) -> int:
    from .config.sip import read_sip
    from .service.appliance import Exit

    def serve() -> int:
        settings = read_sip(args.settings)
        _check(settings, [*_commands(settings.on)], args)
        if args.check:
            say(f"{args.settings}: {settings.account.peer} rings {settings.uri}, as it should be")
            return Exit.OK
        from .service.sip import SipService

        return _serve(args, settings, SipService, has_pins=False)

    return _explained(serve, args.settings)


def _run_homeassistant(args: argparse.Namespace) -> int:
    from .. import __version__
    from .config.homeassistant import read_homeassistant
    from .service.appliance import Exit

    def serve() -> int:
        settings = read_homeassistant(args.settings)
        settings.check_mqtt_files()
        if settings.mqtt.secret_file and (warning := clear_text(settings.mqtt.broker)):
            complain(f"bellwire: warning: {warning}")
        _check(settings, _commands(settings.on), args)
        if args.check:
            _warn_of_history(settings.history)
            what = f"{len(settings.doors)} door(s), {len(settings.buttons)} button(s)"
            say(f"{args.settings}: {what}, as it should be")
            return Exit.OK
        from .homeassistant.service import HomeAssistantService

        def made(settings: Any, _pins: Any, loop: Any, notifier: Any) -> HomeAssistantService:
            return HomeAssistantService(settings, loop, notifier, version=__version__)

        return _serve(args, settings, made, has_pins=False)

    return _explained(serve, args.settings)


def _panel_class(web: WebSettings) -> Any:
    """The panel's service, with its page if there is to be one."""
    if web.port is None:
        from .service.panel import PanelService

        return PanelService
    from .config.toml_reader import SettingsError

    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise SettingsError(
            f"web: {error.name} is not installed: pip install 'bellwire[web]'"
        ) from None
    _ = starlette, uvicorn
    from .web.service import WebPanelService

    return WebPanelService


def _warn_of_history(history: HistorySettings) -> None:
    if problem := history.problem():
        complain(f"bellwire: warning: history: {problem}")


def _commands(actions: Mapping[Any, Action]) -> list[tuple[str, ...]]:
    return [action.command for action in actions.values()]


def _check(
    settings: DoorbellSettings | PanelSettings | SipSettings | HomeAssistantSettings,
    commands: list[tuple[str, ...]],
    args: argparse.Namespace,
) -> None:
    """All that a press will need, short of sending; raises :class:`BellwireError`."""
    from .metrics.window import check_installed
    from .service.link import make_client

    account = settings.account
    if settings.metrics is not None:
        check_installed()

    logging.getLogger("bellwire").addHandler(logging.NullHandler())  # it is said below, or later
    account.check_files()
    make_client(account)
    for command in commands:
        if command and shutil.which(command[0]) is None:
            complain(f"bellwire: warning: {command[0]}: there is no such command on this machine")
    # A service that starts is told so by its client.
    if args.check and account.secret_file and (warning := clear_text(account.broker)):
        complain(f"bellwire: warning: {warning}")


def _serve(
    args: argparse.Namespace, settings: Any, service_class: Any, *, has_pins: bool = True
) -> int:
    from .gpio.keyboard import KeyboardPins
    from .gpio.no_pins import NoPins
    from .gpio.pins import Pins, open_pins
    from .metrics.window import serving
    from .service.appliance import stop_on_signals
    from .service.loop import Loop
    from .service.sd_notify import Notifier

    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[LineHandler()]
    )
    logging.getLogger("bellwire.pi").setLevel(logging.INFO)
    notifier = Notifier()
    loop = Loop(notifier)
    keys = KeyboardPins(loop.stop) if args.keyboard else None
    pins: Pins = keys or (open_pins(settings.gpio) if has_pins else NoPins())
    service = service_class(settings, pins, loop, notifier)
    restore = stop_on_signals(loop)
    try:
        if keys is not None:
            say(keys.help())
            keys.start()
        with serving(settings.metrics, service.client, service.other_links):
            return int(service.run())
    finally:
        restore()
        notifier.close()


def _explained(serve: Callable[[], int], settings: Path) -> int:
    """``serve()`` by ``settings``; what the owner can mend is told in one line, exit code 2."""
    from .config.toml_reader import SettingsError
    from .gpio.pins import PinError
    from .service.appliance import Exit

    try:
        return int(serve())
    except SettingsError as error:
        elsewhere = "" if settings.exists() else "; --settings FILE says where it is"
        for problem in error.problems:
            complain(f"bellwire: {problem}{elsewhere}")
        return Exit.SETTINGS
    except PinError as error:
        complain(f"bellwire: {error}")
        return Exit.SETTINGS
    except BellwireError as error:
        complain(f"bellwire: {error}")
        return Exit.SETTINGS if isinstance(error, ValueError) else Exit.FAILED
