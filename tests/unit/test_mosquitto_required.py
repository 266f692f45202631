"""Where mosquitto has to be, a test that needs it fails without it; elsewhere it is skipped."""

from __future__ import annotations

import pytest

from tests import conftest


def test_missing_mosquitto_is_a_skip_or_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "mosquitto_binary", lambda: None)
    monkeypatch.delenv(conftest.REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install mosquitto"):
        conftest.need_mosquitto()
    monkeypatch.setenv(conftest.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match=conftest.REQUIRE):
        conftest.need_mosquitto()
