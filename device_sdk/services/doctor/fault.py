"""What a doctor stops at."""

from __future__ import annotations

from ...errors import BellwireError


class Fault(BellwireError):
    """The first thing that is wrong; the message says what to do.

    Of several brokers each may have one: ``problems``.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
