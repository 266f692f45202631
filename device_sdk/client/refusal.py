"""Why a broker lets a client in no more, for the person who has to mend it: said once, with a cure.

Secret, certificate and authority are read once, when a client is made: another one is not found by
trying, however often that is done.
"""

from __future__ import annotations

from ..errors import BrokerRefused, LoginError

#: Return codes of a refusal that concerns who logs in (MQTT 3.1.1, 3.2.2.3).
NOT_LET_IN = (4, 5)


def cure(peer: str, secret: object, certificate: object, where: str = "") -> str:
    """What helps where a broker does not let ``peer`` in.

    ``secret``, ``certificate``: the files that it has them from, or what else they are called; None
    for none. ``where`` they belong into.
    """
    rotate = f"`bellwire-broker device rotate {peer}` there makes a new one"
    if certificate is not None:
        return f"is {certificate} still its certificate? {rotate}: put it there, and restart"
    if secret is not None:
        return f"is {secret} still its secret? {rotate}: put it there, and restart"
    return f"it has neither secret_file nor cert_file{where}; {rotate}"


class Refusals:
    """What one client was refused for since it was connected last; hold its guard."""

    def __init__(self) -> None:
        #: What cures a refusal that concerns who logs in.
        self.cure = ""
        #: The last one, in a line for people; "" for none.
        self.last = ""
        self._said: set[str] = set()
        self._error: LoginError | None = None

    def connected(self) -> None:
        """It is let in: whatever was, is over."""
        self.last, self._error = "", None
        self._said.clear()

    def link_failed(self, error: LoginError) -> bool:
        """A link failed; whether that is for a person to mend, and was not said yet."""
        self._error = error
        if getattr(error, "cause", "") != "certificate":
            return False
        return self._is_new(str(error))

    def refused(self, problem: str) -> bool:
        """The broker said no to one that it had let in; whether that was not said yet."""
        text, error = f"{problem} (it was let in before)", self._error
        if isinstance(error, BrokerRefused) and error.return_code in NOT_LET_IN:
            text += f"; {self.cure}"
        return self._is_new(text)

    def _is_new(self, text: str) -> bool:
        self.last = text
        new = text not in self._said
        self._said.add(text)
        return new
