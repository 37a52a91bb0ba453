"""`cidr(ip, net)`: whether an address lies in a network. No name is ever looked up."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from agentguard.policy.conditions.faults import Fault

_ADDRESS_CHARS_MAX: Final = 64


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """
    Read a network such as `10.0.0.0/8` or `fd00::/8`.

    Raises:
        ValueError: It is none, or has bits behind its prefix.
    """
    if "%" in text or len(text) > _ADDRESS_CHARS_MAX:
        raise ValueError("no network, such as 10.0.0.0/8")
    try:
        return ip_network(text, strict=True)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"no network, did you mean {ip_network(text, strict=False)}") from None
        raise ValueError("no network, such as 10.0.0.0/8") from None


def is_inside(text: str, net: IPv4Network | IPv6Network) -> bool:
    """
    Whether an address lies in a network; an IPv4 address mapped into IPv6 counts as itself.

    Raises:
        Fault: The text is no address.
    """
    try:
        if len(text) > _ADDRESS_CHARS_MAX or "%" in text:
            raise ValueError
        address = ip_address(text)
    except ValueError:
        raise Fault("a text that is no IP address") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None and net.version == 4:
        return address.ipv4_mapped in net
    return address in net
