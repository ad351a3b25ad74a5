# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A swarm's networks get addresses that no machine uses."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.address_pools import choose, problems_of, unheeded
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

NAT = {"10.0.2.0/24": "NAT", "10.0.2.3": "name server", "192.168.99.0/24": "network"}
CLOUD = {"10.0.0.0/16": "network", "10.0.0.2": "name server"}
VPN = {"192.168.1.0/24": "network", "10.0.0.0/8": "route through tun0"}
OFFICE = {"10.0.0.0/8": "route through eth0", "172.16.0.0/12": "route through eth0", "192.168.0.0/16": "network"}


@pytest.mark.parametrize(
    ("used", "prefix", "pools"),
    [
        pytest.param({}, 24, [], id="nothing is known"),
        pytest.param({"192.168.97.0/24": "network", "172.17.0.0/16": "network"}, 24, [], id="the engine's own will do"),
        pytest.param({"192.168.97.0/24": "network"}, 26, ["10.0.0.0/8"], id="the engine's own in smaller parts"),
        pytest.param({"fd00::/8": "network", "fe80::1": "name server"}, 24, [], id="IPv6 is another world"),
        pytest.param(NAT, 24, ["10.128.0.0/9"], id="machines behind a NAT"),
        pytest.param(CLOUD, 24, ["10.128.0.0/9"], id="hosts in 10.0.0.0/16 with their resolver at 10.0.0.2"),
        pytest.param({"10.255.255.53": "name server"}, 24, ["10.0.0.0/9"], id="a name server in the upper half"),
        pytest.param({**NAT, "10.200.1.0/24": "network"}, 24, ["10.128.0.0/10"], id="both halves"),
        pytest.param(NAT, 28, ["10.240.0.0/12"], id="no more than 65536 networks"),
        pytest.param(VPN, 24, ["172.24.0.0/13"], id="all of 10.0.0.0/8, so clear of the engine's own bridges"),
        pytest.param(
            {**VPN, "172.16.0.0/12": "route through tun0"}, 24, ["192.168.128.0/17"], id="only 192.168 is left"
        ),
        pytest.param(OFFICE, 24, ["100.64.0.0/10"], id="all private ranges"),
    ],
)
def test_auto_takes_the_engines_pool_or_the_largest_block_that_meets_nothing(
    used: dict[str, str], prefix: int, pools: list[str]
) -> None:
    assert choose("auto", prefix, {"host1": used}) == (pools, prefix)
    assert choose(["auto"], str(prefix), {"host2": {}, "host1": used}) == (pools, prefix)
    for pool in pools:
        assert not [text for text in used if ":" not in text and ip_network(text).overlaps(ip_network(pool))]


def test_where_all_is_taken_it_says_by_what_and_what_to_set() -> None:
    with pytest.raises(ApiaryError) as error:
        choose("auto", 24, {"host1": OFFICE, "host2": {"100.64.0.0/10": "route through tailscale0"}})
    for words in (
        "swarm_address_pools is auto",
        "10.0.0.0/8 (route through eth0 of host1)",
        "192.168.0.0/16 (network of host1)",
        "100.64.0.0/10 (route through tailscale0 of host2)",
        "Set swarm_address_pools to a list of networks that no host uses",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("pools", "prefix", "said"),
    [
        ("10.64.0.0/10", 24, r"swarm_address_pools is '10.64.0.0/10': give a list"),
        ({"a": 1}, 24, r"swarm_address_pools is \{'a': 1\}: give a list"),
        ([], 24, r"swarm_address_pools is \[\]: give a list"),
        (None, 24, r"swarm_address_pools is None: give a list"),
        ([10], 24, r"swarm_address_pools is \[10\]: give a list"),
        (["auto", "10.64.0.0/10"], 24, r"has 'auto', and that is no network: give a list"),
        (["10.64.0/10"], 24, r"has '10.64.0/10', and that is no network"),
        (["10.64.0.0/33"], 24, r"has '10.64.0.0/33', and that is no network"),
        (["10.64.1.0/16"], 24, r"has '10.64.1.0/16', and the network that this is in is written 10.64.0.0/16"),
        (["fd00::/64"], 24, r"has 'fd00::/64', and networks of a swarm get IPv4 addresses"),
        (["127.0.0.0/16"], 24, r"has '127.0.0.0/16', and a container cannot have addresses from it"),
        (["0.0.0.0/0"], 24, r"has '0.0.0.0/0', and a container cannot have addresses from it"),
        (["224.0.0.0/8"], 24, r"has '224.0.0.0/8', and a container cannot have addresses from it"),
        (["10.64.0.0/16", "10.64.128.0/17"], 24, r"has 10.64.128.0/17 and 10.64.0.0/16, which overlap: take one"),
        (["172.16.0.0/12"], 24, r"172.16.0.0/12, which meets 172.17.0.0/16 \(bridge docker0 of every engine\), "),
        (["10.64.0.0/16"], 12, r"do not fit: no network of /12 is in 10.64.0.0/16: give a greater number or"),
        (["10.64.0.0/24"], 24, r"do not fit: 10.64.0.0/24 is one network of /24, which the ingress takes"),
        ("auto", "many", r"swarm_address_pool_prefix is 'many': give the prefix length"),
        ("auto", 30, r"swarm_address_pool_prefix is 30: give .* from 9 to 29, such as 24"),
        ("auto", 8, r"swarm_address_pool_prefix is 8: "),
        (
            ["10.0.0.0/16"],
            24,
            r"10.0.0.0/16, which meets 10.0.2.0/24 \(NAT of vm1 and vm2\), 10.0.2.3 \(name server of ",
        ),
    ],
)
def test_bad_input_is_refused_by_variable_value_and_remedy(pools: Any, prefix: Any, said: str) -> None:
    used = {"vm1": NAT, "vm2": NAT}
    (problem,) = problems_of(pools, prefix, used)
    assert re.search(said, problem)
    with pytest.raises(ApiaryError, match=said):
        choose(pools, prefix, used)


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(problems_of(["fd00::/64", "10.0.0.0/8"], 40, {"vm1": NAT})) == 3


def test_given_pools_that_meet_nothing_are_taken() -> None:
    assert choose(["10.64.0.0/16", "10.80.0.0/24"], 25, {"vm1": NAT}) == (["10.64.0.0/16", "10.80.0.0/24"], 25)


@pytest.mark.parametrize(
    ("pools", "prefix", "is_said"),
    [
        ("auto", 24, False),
        (["10.64.0.0/16", "10.80.0.0/16"], 24, False),
        (["10.64.0.0/16"], 24, True),
        (["10.80.0.0/16", "10.64.0.0/16"], 26, True),
    ],
)
def test_pools_that_a_swarm_does_not_have_are_told(pools: Any, prefix: int, is_said: bool) -> None:
    assert bool(unheeded(pools, prefix, ["10.80.0.0/16", "10.64.0.0/16"], 24)) is is_said
