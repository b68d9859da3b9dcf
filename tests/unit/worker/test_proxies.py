import pytest

from kubedr_ctrl.worker.proxies import proxy_for

PROXIES = {"HTTP_PROXY": "http://proxy:3128", "HTTPS_PROXY": "http://tls-proxy:3128"}


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://s3.example.com", "http://proxy:3128"),
        ("https://s3.example.com", "http://tls-proxy:3128"),
        ("https://localhost:9000", None),
        ("http://127.0.0.1:9000", None),
        ("http://[::1]:9000", None),
    ],
)
def test_the_proxy_goes_by_the_scheme_and_never_stands_before_this_host(url: str, proxy: str | None) -> None:
    assert proxy_for(url, PROXIES) == proxy


@pytest.mark.parametrize(
    ("exceptions", "direct"),
    [
        ("s3.example.com", True),
        ("example.com", True),
        (".example.com", True),
        ("*.example.com", True),
        ("*", True),
        ("ample.com", False),
        (".s3.example.com", False),
        ("s3.example.com:9000", True),
        ("s3.example.com:443", False),
        ("other.org, EXAMPLE.com ,", True),
        ("10.0.0.0/8", False),
        ("", False),
    ],
)
def test_names_are_excepted_as_restic_does_it(exceptions: str, *, direct: bool) -> None:
    variables = {**PROXIES, "NO_PROXY": exceptions}
    assert (proxy_for("http://s3.example.com:9000", variables) is None) == direct


@pytest.mark.parametrize(
    ("exceptions", "direct"), [("10.0.0.0/8", True), ("10.1.2.3", True), ("10.2.0.0/16", False), ("fd00::/8", False)]
)
def test_addresses_are_excepted_by_range(exceptions: str, *, direct: bool) -> None:
    variables = {**PROXIES, "NO_PROXY": exceptions}
    assert (proxy_for("http://10.1.2.3:9000", variables) is None) == direct


@pytest.mark.parametrize(
    ("url", "exceptions"),
    [
        ("https://s3.example.com", "s3.example.com:443"),
        ("http://s3.example.com", "s3.example.com:80"),
        ("http://[fd00::1]:9000", "[fd00::1]:9000"),
        ("http://[fd00::1]:9000", "fd00::1"),
    ],
)
def test_a_port_that_is_not_written_is_the_schemes_and_addresses_may_have_brackets(url: str, exceptions: str) -> None:
    assert proxy_for(url, {**PROXIES, "NO_PROXY": exceptions}) is None


def test_lower_case_variables_count_and_a_scheme_may_be_left_out() -> None:
    assert proxy_for("http://s3.example.com", {"http_proxy": "proxy:3128"}) == "http://proxy:3128"
