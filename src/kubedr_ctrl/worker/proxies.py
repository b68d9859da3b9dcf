"""Which proxy leads to a URL, read from the environment as restic, a Go program, reads it.

HTTP_PROXY, HTTPS_PROXY and NO_PROXY count, also in lower case. NO_PROXY holds host names, which stand for their
subdomains too, `.domains`, addresses, address ranges, and `*`; what is on this host never takes a proxy.
Source: https://pkg.go.dev/golang.org/x/net/http/httpproxy
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, variables: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy, or None where the way is direct."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    proxy = _read(variables, f"{parts.scheme}_proxy")
    port = parts.port or _PORTS.get(parts.scheme)
    if not proxy or _is_excepted(host, port, _read(variables, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _read(variables: Mapping[str, str], name: str) -> str:
    return variables.get(name.upper()) or variables.get(name) or ""


def _is_excepted(host: str, port: int | None, exceptions: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address and address.is_loopback):
        return True
    for exception in filter(None, (word.strip().lower() for word in exceptions.split(","))):
        if exception == "*" or (address and _within(address, exception)):
            return True
        name, wanted = _split_port(exception.removeprefix("*"))
        if wanted and wanted != str(port):
            continue
        if host.endswith("." + name.removeprefix(".")) or (host == name and not name.startswith(".")):
            return True
    return False


def _split_port(words: str) -> tuple[str, str]:
    """Return host and port of `host`, `host:port`, an IPv6 address, or `[address]:port`."""
    host, _, port = words.rpartition(":")
    if not host or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = words, ""
    return host.strip("[]"), port


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _within(address: IPv4Address | IPv6Address, words: str) -> bool:
    try:
        return address in ip_network(words, strict=False)
    except ValueError:
        return False
