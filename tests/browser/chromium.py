# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Chromium under WebDriver, kept off the network."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

T = TypeVar("T")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication",
    "--no-proxy-server",
    # nothing has a name here but this computer, so that nothing else is even looked up
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*",
    "--force-color-profile=srgb",
    "--lang=en-GB",
)


def missing() -> list[str]:
    """Return what of a browser this computer lacks."""
    found = any(map(shutil.which, BROWSERS))
    return [*([] if found else ["chromium"]), *([] if shutil.which("chromedriver") else ["chromedriver"])]


class Chromium:
    """What tests do with a page."""

    def __init__(self, profile: Path) -> None:
        options = Options()
        options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # The driver is named, since Selenium would otherwise look for one on the network.
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(60)
        self._complaints: list[str] = []
        #: of console errors, those that are expected: each contains one of these
        self.expected: list[str] = []

    def quit(self) -> None:
        self.driver.quit()

    def reset(self, width: int = 1440, height: int = 900) -> None:
        """Start anew: an empty page, a light one, nothing in the logs."""
        self.driver.get("about:blank")
        self.resize(width, height)
        self.scheme("light")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.expected = []

    def open(self, url: str) -> None:
        self.driver.get(url)

    def resize(self, width: int, height: int, *, phone: bool = False, scale: float = 1) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def run_async(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_async_script(script, *arguments)

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def texts(self, selector: str) -> list[str]:
        """The texts of what is to be seen."""
        script = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter(e => e.checkVisibility()).map(e => e.innerText.replace(/\\s+/g, ' ').trim())"
        )
        return [str(text) for text in self.run(script, selector)]

    def text(self, selector: str) -> str:
        return " | ".join(self.texts(selector))

    def tasks(self, node: str = "") -> list[str]:
        """The names of the tasks that are to be seen, on a node or on all."""
        within = f'[data-node="{node}"] ' if node else ""
        return self.texts(f"{within}.task .name")

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def focused(self) -> dict[str, Any]:
        """What has the focus."""
        found: dict[str, Any] = self.run(
            "const e = document.activeElement;"
            "return {tag: e.tagName, id: e.id, data: {...e.dataset},"
            " label: e.getAttribute('aria-label') || e.innerText}"
        )
        return found

    def until(self, question: Callable[[], T], seconds: float = 10) -> T:
        """Ask until the answer is yes, and return it."""
        end = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < end, f"waited for {seconds} s; the page says: {self.text('body')[:2000]}"
            time.sleep(0.02)
        return answer

    def complaints(self) -> list[str]:
        """Errors and warnings in the console, without those that are expected."""
        entries = [
            entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")
        ]
        return [text for text in entries if not any(word in text for word in self.expected)]

    def requests(self) -> list[str]:
        """What the page has asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(self.driver.get_screenshot_as_png())
