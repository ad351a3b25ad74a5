# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Debian's Chromium, looking at the visualizer, looking at an engine that the tests make up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, missing
from tests.fake_engine import FakeEngine
from tests.visualizer_server import Server


@pytest.fixture(scope="package")
def chromium() -> Iterator[Chromium]:
    if missing():
        pytest.skip(f"{' and '.join(missing())} missing: 'scripts/setup --dev' installs what the tests need")
    with tempfile.TemporaryDirectory(prefix="apiary-") as profile:
        browser = Chromium(Path(profile))
        try:
            yield browser
        finally:
            browser.quit()


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    # not pytest's own directory: its path may be too long for a socket
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        engine = FakeEngine(Path(directory) / "docker.sock")
        engine.start()
        yield engine
        engine.stop()


@pytest.fixture
def server(engine: FakeEngine) -> Iterator[Server]:
    server = Server(engine.socket)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Chromium]:
    """The browser with an empty page; the test fails if what it opens complains, or leaves this computer."""
    chromium.reset()
    yield chromium
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith(("http://127.0.0.1:", "data:", "about:"))] == []
