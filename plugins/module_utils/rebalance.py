# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Spread the tasks of a swarm's services evenly over its nodes, without having fewer of them at any time.

The number of replicas that a service is to have again is kept at the service while its tasks are moved, so that a run
that was interrupted can be finished.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import placement
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import is_ready
from ansible_collections.apiary.swarm.plugins.module_utils.placement import REPLICAS_LABEL, name_of
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import hostname
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import (
    Progress,
    Stalled,
    Swarm,
    View,
    all_in_place,
)

Object = Mapping[str, Any]


class Rebalance:
    """Moves tasks from where a service has many to where it has few: more are started, then as many are ended.

    Swarm starts a task where the fewest are and ends one where the most are, so no other task is touched, and the
    service never has fewer than it should, whatever the order of its updates.
    """

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.settings = swarm.settings
        self.actions: list[str] = []
        self.left_alone: dict[str, str] = {}

    def run(self, only: Collection[str] | None = None) -> None:
        """Do it for all services, or for those of these names; one after another."""
        view = self.swarm.look()
        for service_id in [service["ID"] for service in sorted(view.services, key=name_of)]:
            service = view.service(service_id)
            if service is None or placement.replicas(service) is None:
                continue
            if only is not None and name_of(service) not in only:
                continue
            if self._finish(service):
                view = self.swarm.look()
                service = view.service(service_id) or service
            if self._level(service, view):
                view = self.swarm.look()

    def _act(self, action: str) -> None:
        self.actions.append(action)
        self.settings.say(f"would {action}" if self.settings.check_mode else action)

    def _finish(self, service: Object) -> bool:
        """End what an interrupted run has begun; return whether there was something."""
        remembered = (service["Spec"].get("Labels") or {}).get(REPLICAS_LABEL)
        if remembered is None:
            return False
        wanted = int(remembered)
        self._act(f"take back the tasks of {name_of(service)} beyond {wanted}, which an interrupted run has left")
        if not self.settings.check_mode:
            self._take_back(service, wanted)
        return True

    def _level(self, service: Object, view: View) -> bool:
        count = placement.moves(service, view.tasks, view.nodes)
        if not count:
            return False
        name, total = name_of(service), placement.replicas(service) or 0
        if reason := placement.why_left_alone(service):
            self.left_alone[name] = reason
            self.settings.say(f"{name} is spread unevenly and left alone: {reason}")
            return False
        names = {node["ID"]: hostname(node) for node in view.nodes}
        counts = placement.spread(service, view.tasks, view.nodes)
        where = ", ".join(f"{counts[node]} on {names[node]}" for node in sorted(counts, key=lambda node: names[node]))
        self._act(f"move {count} of {total} tasks of {name} ({where})")
        if self.settings.check_mode:
            return False
        self._scale(service, total + count, remember=total)
        try:
            self.swarm.wait(
                f"starting {count} tasks of {name} elsewhere", lambda view: all_in_place(view.lacks({name}))
            )
        except Stalled as stall:
            self._take_back(service, total)
            raise Stalled(f"{stall}. {name} has {total} replicas again, where they were") from None
        self._take_back(service, total)
        return True

    def _take_back(self, service: Object, wanted: int) -> None:
        """End what is there beyond *wanted*, and wait until it has ended."""
        self._scale(service, wanted, remember=None)
        name = name_of(service)

        def ended(view: View) -> Progress:
            ready = {node["ID"] for node in view.nodes if is_ready(node)}
            running = [
                task
                for task in placement.tasks_of(service, view.tasks)
                if task.get("NodeID") in ready and placement.runs_on(task, task["NodeID"])
            ]
            surplus = max(0, len(running) - wanted)
            return Progress(not surplus, -surplus, f"{surplus} tasks more than {wanted}")

        self.swarm.wait(f"ending tasks of {name}", ended)

    def _scale(self, service: Object, count: int, remember: int | None) -> None:
        def change(spec: dict[str, Any]) -> None:
            spec["Mode"]["Replicated"] = {**(spec["Mode"]["Replicated"] or {}), "Replicas": count}
            labels = dict(spec.get("Labels") or {})
            labels.pop(REPLICAS_LABEL, None)
            if remember is not None:
                labels[REPLICAS_LABEL] = str(remember)
            spec["Labels"] = labels

        self.swarm.change_service(service["ID"], change)
