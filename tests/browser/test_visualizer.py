# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The visualizer's page in a real browser.

Each test also fails on a complaint in the console, and on a request to elsewhere.
"""

from __future__ import annotations

import signal
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Chromium
from tests.fake_engine import NOT_A_MANAGER, SECRETS, FakeEngine, large, tutorial
from tests.visualizer_server import Server


@pytest.fixture
def swarm(engine: FakeEngine, server: Server, page: Chromium) -> dict[str, str]:
    """The page of the tutorial's swarm, all of it drawn; the IDs of its parts."""
    ids = tutorial(engine)
    page.open(server.url)
    # What was just put on the page has no text until the browser has looked whether it is in sight.
    page.until(lambda: len(list(filter(None, page.tasks()))) == 12)
    return ids


def card(page: Chromium, node: str) -> str:
    return page.text(f'[data-node="{node}"]')


def log(page: Chromium) -> list[str]:
    return page.texts("#log li")


# What there is


def test_a_node_has_a_card_with_what_is_known_of_it(page: Chromium, swarm: dict[str, str]) -> None:
    leader = card(page, swarm["node1"])
    known = ["node1", "Leader", "ready", "192.168.70.101", "Docker 20.10.24", "linux/x86_64", "disk=ssd"]
    reserved = ["CPU reserved 0.2 of 2", "Memory reserved 144 MiB of 4 GiB"]
    assert [word for word in [*known, *reserved] if word not in leader] == []
    assert "Manager" in card(page, swarm["node2"])
    assert "Worker" in card(page, swarm["node4"])
    assert page.texts("#nodes h2")[0].startswith("node1")
    assert page.text("#summary") == "5 nodes, 3 managers · 4 services · 12 of 12 tasks running"
    assert page.text("#connection") == "Live"


def test_a_task_is_on_its_nodes_card_with_what_is_known_of_it(
    page: Chromium, engine: FakeEngine, swarm: dict[str, str]
) -> None:
    assert page.tasks(swarm["node1"]) == ["ingress", "redis.1", "visualizer.1", "web.1"]
    assert page.tasks(swarm["node5"]) == ["ingress", "web.5"]
    container = engine.tasks[swarm["web.1"]]["Status"]["ContainerStatus"]["ContainerID"][:12]
    tile = page.text(f'[data-task="{swarm["web.1"]}"]')
    assert [word for word in ("web.1", "50 min", "1d0f032e7f7c", container) if word not in tile] == []
    label = page.run("return document.querySelector(arguments[0]).ariaLabel", f'[data-task="{swarm["web.1"]}"]')
    assert label == f"web.1, running, image 1d0f032e7f7c, container {container}"


def test_tasks_have_their_services_colour(page: Chromium, swarm: dict[str, str]) -> None:
    hue = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue('--hue')"
    hues = {name: page.run(hue, f'[data-task="{swarm[name]}"]') for name in ("web.1", "web.5", "redis.1", "ingress.1")}
    assert hues["web.1"] == hues["web.5"]
    assert len(set(hues.values())) == 3
    assert page.run(hue, '[data-service="shop_web"] .swatch') == hues["web.1"]


def test_secrets_are_not_on_the_page(page: Chromium, swarm: dict[str, str]) -> None:
    source = page.run("return document.documentElement.outerHTML")
    assert [name for name, secret in SECRETS.items() if secret in source] == []
    assert "token=•••" in card(page, swarm["node1"])


def test_the_first_paint_waits_for_nothing(page: Chromium, engine: FakeEngine, server: Server) -> None:
    engine.stop()
    page.open(server.url)
    assert page.text("h1") == "Swarm"
    assert page.run("return performance.getEntriesByName('first-contentful-paint').length") == 1


# Changes


def test_a_failure_is_seen_within_a_second_or_so_with_its_error(
    page: Chromium, engine: FakeEngine, swarm: dict[str, str]
) -> None:
    engine.set_task(swarm["web.4"], "failed", "shutdown", error="task: non-zero exit (137)")
    replacement = engine.replace(swarm["web.4"], node=swarm["node5"])
    page.until(lambda: "task: non-zero exit (137)" in card(page, swarm["node4"]))
    page.until(lambda: page.tasks(swarm["node5"]) == ["ingress", "web.4", "web.5"])
    kinds = {
        key: page.run("return document.querySelector(arguments[0]).dataset.kind", f'[data-task="{key}"]')
        for key in (swarm["web.4"], replacement)
    }
    assert list(kinds.values()) == ["failed", "running"]
    assert page.texts('[data-kind="failed"] .state') == ["failed"]  # a word, not a colour alone
    told = " ".join(log(page))
    assert "shop_web.4 failed on node4" in told
    assert "shop_web.4 moved" in told
    assert "node4 → node5" in told
    assert "1 in trouble" in page.text("#summary")


def test_a_deploy_is_seen_by_its_event(page: Chromium, engine: FakeEngine, swarm: dict[str, str]) -> None:
    engine.update_service(swarm["web"], image="apiary/web:2", update="updating")
    engine.set_task(swarm["web.1"], "running", "shutdown")
    engine.replace(swarm["web.1"], state="preparing")
    page.until(lambda: "updating" in page.text('[data-service="shop_web"]'))
    page.until(lambda: page.texts(f'[data-node="{swarm["node1"]}"] .state') == ["stopping", "preparing"])
    assert "shop_web updated" in log(page)[0]
    assert "apiary/web:1d0f032e7f7c → apiary/web:2" in log(page)[0]
    assert page.text('[data-service="shop_web"] .count') == "4/5"


def test_nodes_come_change_and_go(page: Chromium, engine: FakeEngine, swarm: dict[str, str]) -> None:
    engine.set_node(swarm["node4"], state="down")
    page.until(lambda: "down" in card(page, swarm["node4"]))
    page.until(lambda: "not heard of" in card(page, swarm["node4"]))
    engine.set_node(swarm["node3"], availability="drain")
    page.until(lambda: "drain" in card(page, swarm["node3"]))
    new = engine.add_node("node10")
    page.until(lambda: "node10" in card(page, new))
    assert "No tasks" in card(page, new)
    assert [text.split()[0] for text in page.texts("#nodes h2")] == [
        "node1",
        "node2",
        "node3",
        "node4",
        "node5",
        "node10",
    ]
    with engine.lock:
        del engine.nodes[new]
    engine.event("node", "remove", new)
    page.until(lambda: not card(page, new))


def test_a_task_that_finds_no_node_is_shown_with_the_reason(
    page: Chromium, engine: FakeEngine, swarm: dict[str, str]
) -> None:
    key = engine.add_task(swarm["web"], "", 6, "pending", error="no suitable node (insufficient resources on 5 nodes)")
    page.until(lambda: "insufficient resources" in page.text(".node.waiting"))
    with engine.lock:
        engine.tasks[key]["NodeID"] = swarm["node2"]
    engine.set_task(key, "running")
    page.until(lambda: "web.6" in page.tasks(swarm["node2"]))
    page.until(lambda: not page.texts(".node.waiting"))


# Keyboard


def test_a_service_is_chosen_by_keyboard(page: Chromium, swarm: dict[str, str]) -> None:
    page.press(Keys.TAB, Keys.TAB)
    assert page.focused()["data"] == {"service": "shop_ingress"}
    page.press(Keys.ARROW_RIGHT, Keys.SPACE)
    assert page.focused()["data"] == {"service": "shop_redis"}
    page.until(lambda: page.tasks() == ["redis.1"])
    page.press(Keys.END, Keys.ENTER)
    page.until(lambda: sorted(page.tasks()) == ["redis.1", "web.1", "web.2", "web.3", "web.4", "web.5"])
    pressed = page.run(
        "return [...document.querySelectorAll('#legend [aria-pressed=true]')].map(b => b.dataset.service)"
    )
    assert pressed == ["shop_redis", "shop_web"]
    page.driver.refresh()  # the choice is in the address
    page.until(lambda: len(page.tasks()) == 6)
    page.press(Keys.ESCAPE)
    page.until(lambda: len(page.tasks()) == 12)


def test_the_focus_goes_through_the_parts_in_order(page: Chromium, engine: FakeEngine, swarm: dict[str, str]) -> None:
    engine.set_node(swarm["node3"], availability="drain")
    page.until(lambda: log(page))
    seen = []
    for _ in range(8):
        page.press(Keys.TAB)
        focused = page.focused()
        seen.append(focused["id"] or focused["data"].get("service") or focused["label"].split(",")[0])
    # one stop for all services, and one for the tasks of each node
    assert seen == ["Skip to the nodes", "shop_ingress", *["ingress"] * 5, "log"]


def test_a_task_is_opened_and_closed_by_keyboard(page: Chromium, engine: FakeEngine, swarm: dict[str, str]) -> None:
    page.press(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ARROW_RIGHT, Keys.ENTER)
    page.until(lambda: page.text("#details-title") == "redis.1")
    details = page.text("#details")
    known = [
        "shop_redis (replicated, 1 of 1 running)",
        "node1, 192.168.70.101",
        "apiary/redis:77c19e02ab4d",
        "0.1 CPU, 64 MiB",
    ]
    assert [word for word in known if word not in details] == []
    engine.set_task(swarm["redis.1"], "failed", "shutdown", error="task: non-zero exit (1)")
    page.until(lambda: "task: non-zero exit (1)" in page.text("#details"))  # it stays up to date
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.texts("#details"))
    assert page.focused()["data"]["task"] == swarm["redis.1"]


def test_only_what_is_in_trouble(page: Chromium, engine: FakeEngine, swarm: dict[str, str]) -> None:
    assert not page.texts("#troubles")
    engine.set_task(swarm["web.4"], "failed", "shutdown", error="exit 1")
    engine.replace(swarm["web.4"])
    page.until(lambda: page.texts("#troubles"))
    page.click("#troubles")
    page.until(lambda: page.tasks() == ["web.4"])
    page.click("#everything")
    page.until(lambda: len(page.tasks()) == 13)


# When something goes away


def test_the_engine_goes_away_and_the_page_recovers(page: Chromium, engine: FakeEngine, swarm: dict[str, str]) -> None:
    engine.stop()
    page.until(lambda: page.text("#connection") == "Manager away")
    page.until(lambda: "There is no socket" in page.text("#problem") or "No engine answers" in page.text("#problem"))
    assert "What is shown is from" in page.text("#problem")
    assert len(page.tasks()) == 12
    engine.set_task(swarm["web.1"], "failed", "shutdown", error="exit 1")
    engine.start()
    page.until(lambda: page.text("#connection") == "Live")
    assert not page.texts("#problem")
    page.until(lambda: "shop_web.1 failed on node1" in " ".join(log(page)))


def test_on_a_worker_the_page_says_where_it_belongs(page: Chromium, engine: FakeEngine, server: Server) -> None:
    engine.refusal = NOT_A_MANAGER
    page.open(server.url)
    page.until(lambda: "not a manager" in page.text("#problem"))
    assert "node.role == manager" in page.text("#problem")


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_goes_away_and_the_page_recovers(
    page: Chromium, engine: FakeEngine, server: Server, swarm: dict[str, str], with_signal: int
) -> None:
    page.expected = ["/events"]  # the console tells of each attempt
    server.stop(with_signal)
    page.until(lambda: page.text("#connection") == "Server away")
    assert "has not answered since" in page.text("#problem")
    page.run("document.querySelector(arguments[0]).mark = 'kept'", f'[data-task="{swarm["web.2"]}"]')
    engine.set_task(swarm["web.1"], "failed", "shutdown", error="exit 1")
    server.start()
    page.until(lambda: page.text("#connection") == "Live", seconds=15)
    page.until(lambda: "exit 1" in card(page, swarm["node1"]))
    # what did not change was not drawn anew
    assert page.run("return document.querySelector(arguments[0]).mark", f'[data-task="{swarm["web.2"]}"]') == "kept"


def test_a_server_that_falls_silent_is_found_out(page: Chromium, server: Server, swarm: dict[str, str]) -> None:
    page.expected = ["/events"]
    server.pause()
    page.until(lambda: page.text("#connection") == "Server away", seconds=20)
    server.resume()
    page.until(lambda: page.text("#connection") == "Live", seconds=20)


# Looks


@pytest.mark.parametrize("width", [320, 360, 768])
def test_narrow_screens_scroll_in_one_direction(page: Chromium, engine: FakeEngine, server: Server, width: int) -> None:
    ids = tutorial(engine)
    node = engine.add_node("a-node-with-a-name-that-somebody-found-too-short.example.com", labels={"l" * 60: "v" * 60})
    service = engine.add_service("a-service-with-a-very-long-name-that-goes-on", "registry.example/image:" + "t" * 60)
    engine.add_task(service, node, 1, "failed", error="e" * 300)
    engine.add_task(ids["web"], "", 9, "pending", error="no suitable node " + "x" * 100)
    page.resize(width, 780, phone=True)
    page.open(server.url)
    page.until(lambda: len(page.tasks()) == 14)
    assert page.run("return document.documentElement.scrollWidth") == width
    page.run("document.querySelector('.task').click()")
    assert page.run("return document.querySelector('dialog').getBoundingClientRect().right <= innerWidth")


_CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const over = (...colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = rgb => rgb.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  if (!element.checkVisibility() || element.closest('[aria-hidden=true], .unseen, .skip, .stopping')) continue;
  if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
  const grounds = [];
  for (let e = element; e; e = e.parentElement) grounds.unshift(getComputedStyle(e).backgroundColor);
  const ground = over(...grounds);
  const [a, b] = [light(over(...grounds, getComputedStyle(element).color)), light(ground)].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) poor.push(`${element.className} ${element.textContent.slice(0, 20)}: ${ratio.toFixed(2)}`);
}
return poor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page: Chromium, engine: FakeEngine, server: Server, scheme: str) -> None:
    """The contrast is at least 4.5:1, which WCAG 2 asks for at level AA, in the colours of twelve services."""
    ids = tutorial(engine)
    for number in range(8):
        service = engine.add_service(f"more{number}", f"more{number}:1")
        engine.add_task(service, ids["node2"], 1)
    engine.add_task(ids["web"], ids["node1"], 1, "failed", error="exit 1")
    engine.add_task(ids["web"], ids["node1"], 7, "preparing")
    engine.add_task(ids["web"], "", 8, "pending", error="no suitable node")
    engine.set_node(ids["node3"], availability="drain")
    engine.set_node(ids["node4"], state="down")
    page.scheme(scheme)
    page.open(server.url)
    page.until(lambda: len(page.tasks()) == 23)
    time.sleep(0.5)  # colours fade in
    assert page.run(_CONTRAST) == []


def test_controls_have_names(page: Chromium, engine: FakeEngine, swarm: dict[str, str]) -> None:
    engine.set_node(swarm["node3"], availability="drain")
    page.until(lambda: log(page))
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nameless = [
        node["nodeId"]
        for node in tree
        if not node.get("ignored")
        and node.get("role", {}).get("value")
        in ("button", "link", "article", "main", "dialog", "group", "log", "region")
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    roles = {node.get("role", {}).get("value") for node in tree if not node.get("ignored")}
    assert {"main", "complementary", "banner", "status", "log", "button", "heading"} <= roles


# Fifty nodes, a thousand tasks

_WATCH = """
window.frames = []; window.long = [];
let last = performance.now();
const step = time => { frames.push(time - last); last = time; requestAnimationFrame(step); };
requestAnimationFrame(time => { last = time; requestAnimationFrame(step); });
new PerformanceObserver(list => long.push(...list.getEntries().map(e => e.duration)))
  .observe({entryTypes: ['longtask']});
"""


def test_a_thousand_tasks_on_fifty_nodes(
    page: Chromium, engine: FakeEngine, server: Server, record_property: Any
) -> None:
    """What it takes is recorded, not judged: that depends on the machine. All is drawn, and again only what changed."""
    ids = large(engine)
    page.open(server.url)
    page.until(lambda: page.run("return document.querySelectorAll('.task').length") == 1000, seconds=30)
    assert page.text("#summary").startswith("50 nodes, 5 managers · 20 services · 1000 of 1000 tasks running")
    page.run("for (const tile of document.querySelectorAll('.task')) tile.mark = 'kept'")
    page.run(_WATCH)

    def failed(key: str) -> bool:
        script = "return document.querySelector(arguments[0])?.dataset.kind === 'failed'"
        return bool(page.run(script, f'[data-task="{key}"]'))

    latencies, replacements = [], []
    for round_ in range(10):
        keys = ids["tasks"][round_ * 40 : round_ * 40 + 40]
        for key in keys:
            engine.set_task(key, "failed", "shutdown", error="task: non-zero exit (1)")
            replacements.append(engine.replace(key))
        changed = time.monotonic()
        page.until(lambda last=keys[-1]: failed(last), seconds=30)  # type: ignore[misc]
        latencies.append(time.monotonic() - changed)
    page.until(lambda: page.run("return document.querySelectorAll('.task').length") == 1400, seconds=30)
    page.click('[data-service="shop_service3"]')
    page.until(lambda: len(page.tasks()) == 70)
    page.press(Keys.ESCAPE)

    frames, long = page.run("return [frames, long]")
    frames.sort()
    figures = {
        "changes": 800,
        "frames": len(frames),
        "frame_median_ms": round(statistics.median(frames), 1),
        "frame_95th_ms": round(frames[int(len(frames) * 0.95)], 1),
        "frame_longest_ms": round(frames[-1], 1),
        "long_tasks": len(long),
        "latency_median_s": round(statistics.median(latencies), 2),
        "latency_longest_s": round(max(latencies), 2),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(figures)
    kept = page.run("return [...document.querySelectorAll('.task')].filter(tile => tile.mark === 'kept').length")
    assert kept == 1000
    assert len(replacements) == 400


def test_the_pictures_in_the_documentation(
    page: Chromium, engine: FakeEngine, server: Server, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Takes them anew with --pictures; else shows that they can be taken."""
    directory = Path(__file__).parents[2] / "docs" if pytestconfig.getoption("pictures") else tmp_path
    ids = tutorial(engine)
    server.stop()
    engine.set_task(ids["web.4"], "failed", "shutdown", error="task: non-zero exit (137): out of memory")
    server.start()
    page.open(server.url)
    page.until(lambda: "failed on node4" in " ".join(log(page)))
    engine.replace(ids["web.4"], node=ids["node5"])
    page.until(lambda: "moved" in " ".join(log(page)))
    engine.set_node(ids["node3"], availability="drain")
    engine.update_service(ids["web"], image="apiary/web:5be0a1c4d911", update="updating")
    engine.set_task(ids["web.2"], "running", "shutdown")
    engine.replace(ids["web.2"], state="preparing")
    page.until(lambda: "preparing" in card(page, ids["node2"]))
    for name, size in {"light": (1440, 960), "dark": (1440, 960), "phone": (360, 740)}.items():
        page.scheme("dark" if name == "dark" else "light")
        page.resize(*size, phone=name == "phone", scale=2 if name == "phone" else 1)
        time.sleep(0.5)
        page.screenshot(directory / f"visualizer-{name}.png")
        assert (directory / f"visualizer-{name}.png").stat().st_size > 20_000
