from gateway.config import load_settings


def test_a_trusted_proxy_is_an_address_or_a_network() -> None:
    settings = load_settings(trusted_proxies="10.0.0.1, 192.168.0.0/16,::1")

    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.1/32", "192.168.0.0/16", "::1/128"]


def test_trusting_everybody_is_refused() -> None:
    for everybody in ("0.0.0.0/0", "10.0.0.1,::/0"):
        assert any("TRUSTED_PROXIES" in sentence for sentence in load_settings(trusted_proxies=everybody).problems())
