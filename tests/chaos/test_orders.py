"""An order is carried out or withdrawn, never both."""

from __future__ import annotations

from pathlib import Path

import pytest

from .orders import NotObeyedError, accept, give, paths


def test_an_order_is_accepted_once(tmp_path: Path) -> None:
    order, accepted = paths(tmp_path, 7)
    order.write_text("block 1.5")
    assert accept(tmp_path, 8) is None
    assert accept(tmp_path, 7) == ("block 1.5", accepted)
    assert accept(tmp_path, 7) is None


def test_what_is_not_accepted_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(NotObeyedError):
        give(tmp_path, 7, "exit", hopeless=lambda: True)
    assert accept(tmp_path, 7) is None


def test_what_is_accepted_cannot_be_taken_back(tmp_path: Path) -> None:
    """The worker was stopped just after it had accepted: it will carry it out."""
    give(tmp_path, 7, "exit", hopeless=lambda: accept(tmp_path, 7) is not None)
    assert paths(tmp_path, 7)[1].exists()


def test_what_is_obeyed_is_gone(tmp_path: Path) -> None:
    def obey() -> bool:
        order = accept(tmp_path, 7)
        if order is not None:
            order[1].unlink()
        return False

    give(tmp_path, 7, "fork", hopeless=obey)
    assert list(tmp_path.iterdir()) == []
