"""Which addresses are the public Internet's; all others lead into this machine, its network or its cloud."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

# Own lists and not `is_global`: Python 3.11's says yes to 64:ff9b::7f00:1 (NAT64 of loopback), 2002:7f00:1:: (6to4 of
# it), 224.0.0.1 and 192.0.0.192. After the IANA registries of special-purpose addresses; whole blocks are refused
# where a part of one is public (192.0.0.0/24, 2001::/23), since no page is served from them.
CLOSED_4 = tuple(map(IPv4Network, (
    "0.0.0.0/8",          # this host on this network
    "10.0.0.0/8",         # private
    "100.64.0.0/10",      # shared by carriers; 100.100.100.200 is Alibaba's metadata
    "127.0.0.0/8",        # loopback
    "168.63.129.16/32",   # Azure's platform: a public number, answered from inside
    "169.254.0.0/16",     # link-local; 169.254.169.254 is the metadata of most clouds
    "172.16.0.0/12",      # private
    "192.0.0.0/24",       # protocol assignments; 192.0.0.192 is Oracle's metadata
    "192.0.2.0/24",       # documentation
    "192.31.196.0/24",    # AS112
    "192.52.193.0/24",    # automatic multicast tunnelling
    "192.88.99.0/24",     # 6to4 relays
    "192.168.0.0/16",     # private
    "192.175.48.0/24",    # AS112
    "198.18.0.0/15",      # benchmarks of networks
    "198.51.100.0/24",    # documentation
    "203.0.113.0/24",     # documentation
    "224.0.0.0/4",        # multicast
    "240.0.0.0/4")))      # reserved, and broadcast
OPEN_6 = IPv6Network("2000::/3")
"""Global unicast. Outside it lie loopback, IPv4-mapped and -compatible (::/96, ::ffff:0:0/96), NAT64 (64:ff9b::/96,
64:ff9b:1::/48), discard-only, segment routing, unique local (fd00:ec2::254 is Amazon's metadata), link-local,
site-local and multicast addresses."""
CLOSED_6 = tuple(map(IPv6Network, (
    "2001::/23",          # protocol assignments: Teredo (2001::/32), benchmarks, ORCHID
    "2001:db8::/32",      # documentation
    "2002::/16",          # 6to4: any IPv4 address inside
    "2620:4f:8000::/48",  # AS112
    "3fff::/20")))        # documentation


def is_public(address: Address) -> bool:
    """Whether pages may be fetched from it. One with a zone (fe80::1%eth0) is never public."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in CLOSED_4)
    return address.scope_id is None and address in OPEN_6 and not any(address in network for network in CLOSED_6)


def read_address(text: str) -> Address | None:
    """The address that the text is in its one usual form, or None: 127.1, 0x7f.0.0.1 and 2130706433 are none."""
    try:
        return ip_address(text)
    except ValueError:
        return None
