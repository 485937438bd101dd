"""A web address taken apart once, so that what is checked is what is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import quote, urljoin

import idna

from headwater.agent.browser.web.addresses import Address, is_public, read_address
from headwater.agent.tool import ToolError

LONGEST = 2000
"""Characters of an address, as browsers and servers have it."""
PORTS = {"http": 80, "https": 443}
Origin = tuple[str, int]
"""Host and port."""

# RFC 3986, appendix B, with an authority that must be there. No other parser sees the text.
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]")
_LOCAL = ("localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "arpa",
          "onion", "alt", "test", "invalid")
"""Last labels that no public name has."""
_KEPT = "/?:@!$&'()*+,;=%-._~"


class Refused(ToolError):
    """Not fetched, on purpose: the address or what came from it breaks a rule."""


@dataclass(frozen=True)
class Url:
    """An http or https address. host: ASCII, lower case, no final dot; of IPv6 without brackets. target: path and
    query, percent-encoded."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> Origin:
        return self.host, self.port

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(text: str, trusted: frozenset[Origin] = frozenset()) -> Url:
    """The address of a page. trusted: origins that may be of any port, name and address.

    Raises `Refused` as `read_url` does, and for a port other than 80 and 443, a name that is local, or an address that
    is not public or not in its usual form.
    """
    found = read_url(text)
    if found.origin not in trusted:
        _check(found)
    return found


def read_url(text: str) -> Url:
    """An address taken apart. Raises `Refused` for what is no http or https address, is too long, or holds a user name
    or a character that no address has."""
    text = text.strip()
    if len(text) > LONGEST:
        raise Refused(f"the address has {len(text)} characters", fix=f"give one of at most {LONGEST}")
    match = _URL.fullmatch(text)
    if match is None or _CONTROL.search(match[2]) or "\n" in text or "\r" in text:
        raise Refused("not a web address", where=_shown(text), fix="give one like https://example.org/page")
    scheme, authority = match[1].lower(), match[2]
    if scheme not in PORTS:
        raise Refused("only http and https addresses are opened", where=_shown(text), fix="give one of those")
    if "@" in authority:
        raise Refused("the address holds a user name", where=_shown(text), fix="leave out what stands before @")
    parted = _AUTHORITY.fullmatch(authority)
    if parted is None:
        raise Refused("the address has no readable host", where=_shown(text), fix="write it as HOST or HOST:PORT")
    port = int(parted[2]) if parted[2] else PORTS[scheme]
    target = quote((match[3] or "/") + (match[4] or ""), safe=_KEPT, errors="replace")
    return Url(scheme, _host(parted[1], text), port, target)


def join_url(base: str, reference: str) -> str:
    """What a link or a redirect on the page `base` leads to, not checked yet; "" where it is not an address."""
    try:
        return urljoin(base, reference.strip())
    except ValueError:
        return ""


def _host(text: str, whole: str) -> str:
    if text.startswith("["):
        address = read_address(text[1:-1])
        if not isinstance(address, IPv6Address):
            raise Refused("no IPv6 address", where=_shown(whole), fix="give the host by name")
        return str(address)
    try:
        # UTS 46 as browsers do it: full-width digits and dots and the like become the ones that count.
        host = text.lower() if text.isascii() else idna.encode(text, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        host = ""
    host = host.removesuffix(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise Refused("the host is no name", where=_shown(whole), fix="give one like example.org")
    return host


def _check(url: Url) -> None:
    if url.port not in PORTS.values():
        raise Refused(f"port {url.port} is not opened", where=url, fix="give an address of port 80 or 443")
    address = read_address(url.host)
    last = url.host.rpartition(".")[2]
    if address is None and _NUMBER.fullmatch(last):
        raise Refused("an address that is not in its usual form", where=url, fix="give the host by name")
    if address is None and (last == url.host or last in _LOCAL):
        raise Refused("the name is local", where=url, fix="give a public one")
    if address is not None:
        require_public(address, url.host)


def require_public(address: Address, host: str) -> None:
    """Raises `Refused` for an address of a private or special network."""
    if not is_public(address):
        raise Refused("the address is not public", where=host if host == str(address) else f"{host} ({address})",
                      fix="give a page of the public web")


def _shown(text: str) -> str:
    return repr(text if len(text) < 100 else f"{text[:100]}...")
