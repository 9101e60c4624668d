"""Addresses of machines, and passwords inside addresses of pages."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from plumbline.curation.pii.scan import Scan
from plumbline.curation.pii.spans import Span

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][-.])(?<![=~^<>!]=)(?<!\.)"
    rf"{_OCTET}(?:\.{_OCTET}){{3}}(?![0-9A-Za-z_])(?![-.][0-9A-Za-z])"
)
_DOTTED = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_VERSION_BEFORE = re.compile(
    r"(?:(?<![a-z])(?:version|ver|v|release|build|firmware|section|chapter|clause)\.?|版本|章|节)"
    r"[ :=\"']{0,4}$",
    re.IGNORECASE,
)
_ADDRESS_BEFORE = re.compile(
    r"(?:(?<![a-z])(?:ip|ipv4|address|addr|host|server|dns|gateway|from|ping|subnet|client)"
    r"(?![a-z])|地址|主机|服务器|网关)[^0-9\n]{0,16}$",
    re.IGNORECASE,
)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:.])(?:[0-9A-Fa-f]{1,4}:|::?)[0-9A-Fa-f:]{1,38}"
    r"(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z_:])(?!\.[0-9A-Za-z])"
)
_MAC = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9A-Fa-f][:-])[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}"
    r"(?:\1[0-9A-Fa-f]{2}){4}(?![0-9A-Za-z_])(?![:-][0-9A-Fa-f])"
)
_CREDENTIALS = re.compile(
    r"(?<=://)[^\s/@:\"'<>\\?#]{1,256}:[^\s/@\"'<>\\]{1,256}(?=@[0-9A-Za-z\[])"
)


def find_ipv4(scan: Scan) -> Iterator[Span]:
    if scan.digits < 4 or scan.signals.count(b".") < 3 or not _DOTTED.search(scan.text):
        return
    for match in _IPV4.finditer(scan.text):
        before = scan.before(match.start())
        if _VERSION_BEFORE.search(before):
            continue
        if _ADDRESS_BEFORE.search(before):
            yield Span(match.start(), match.end(), "IP_ADDRESS", 0.99)
        else:
            # 1.2.3.4 is a version or a section as often as it is a machine.
            small = all(len(octet) == 1 for octet in match.group().split("."))
            yield Span(match.start(), match.end(), "IP_ADDRESS", 0.3 if small else 0.9)


def find_ipv6(scan: Scan) -> Iterator[Span]:
    if scan.signals.count(b":") < 2 or not _COLONS.search(scan.text):
        return
    for match in _IPV6.finditer(scan.text):
        address = match.group()
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            continue
        if _is_telling(address):
            yield Span(match.start(), match.end(), "IP_ADDRESS", 0.95)


def _is_telling(address: str) -> bool:
    """Whether no slice or scope of a programming language looks like it."""
    groups = [group for group in address.split(":") if group]
    if not any(character.isdigit() for character in address):
        return False
    return len(groups) >= 3 or (len(groups) == 2 and len(groups[0]) == 4)


def find_macs(scan: Scan) -> Iterator[Span]:
    if scan.signals.count(b":") < 5 and scan.signals.count(b"-") < 5:
        return
    for match in _MAC.finditer(scan.text):
        # 12-31-19-99-10-20 could be anything.
        if match.group(1) == ":" or not digits_only(match.group()):
            yield Span(match.start(), match.end(), "MAC_ADDRESS", 0.95)


def digits_only(text: str) -> bool:
    return not any(character.isalpha() for character in text)


def find_credentials(scan: Scan) -> Iterator[Span]:
    """The `user:password` in front of a page's or a database's host."""
    if b"@" not in scan.signals or "://" not in scan.text:
        return
    for match in _CREDENTIALS.finditer(scan.text):
        yield Span(match.start(), match.end(), "URL_CREDENTIALS", 0.95)
