"""Fixtures of the export's tests."""

from __future__ import annotations

import pytest
from drawn_export import draw_export


@pytest.fixture
def drawn(tmp_path):
    return draw_export(tmp_path / "drawn")
