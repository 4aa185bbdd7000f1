"""Where the service is and who the user is: what each variable comes to mean, and what is no value for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mwa_client.asvo.service import Credentials, Service, address_of
from mwa_client.asvo.variables import services_from
from mwa_client.errors import CredentialsMissing, ExitStatus, SettingsError
from mwa_client.jobs.keys import ApiVersion

ADDRESS_2018 = "https://asvo.mwatelescope.org:8778"
ACCOUNT = {"ASVO_USER": "someone", "ASVO_PASS": "s3cret-word"}


def service(**environment: str) -> Service:
    return services_from({**ACCOUNT, **environment})[0]


# --- Where the service is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("", "", "https://asvo.mwatelescope.org:8778"),
        ("  ", " ", "https://asvo.mwatelescope.org:8778"),
        ("", "9000", "https://asvo.mwatelescope.org:9000"),
        ("asvo.example", "", "https://asvo.example:8778"),
        ("asvo.example", " 443 ", "https://asvo.example:443"),
        ("ASVO.Example", "", "https://asvo.example:8778"),
        ("asvo.example:99", "", "https://asvo.example:99"),
        ("asvo.example:99", "8778", "https://asvo.example:99"),
        ("https://asvo.example", "", "https://asvo.example:8778"),
        ("HTTPS://asvo.example:443/", "", "https://asvo.example:443"),
        ("http://127.0.0.1:8080", "", "http://127.0.0.1:8080"),
        ("http://localhost", "", "http://localhost:80"),
        ("http://localhost", "81", "http://localhost:81"),
        ("192.168.0.7", "65535", "https://192.168.0.7:65535"),
        ("[::1]", "", "https://[::1]:8778"),
        ("[::1]:99", "", "https://[::1]:99"),
        ("http://[2001:db8::7]:99/", "", "http://[2001:db8::7]:99"),
    ],
)
def test_address(host: str, port: str, address: str) -> None:
    assert address_of(host, port) == address


@pytest.mark.parametrize(
    "host",
    [
        "https://asvo.example/asvo",
        "asvo.example/asvo",
        "https://asvo.example?key=1",
        "https://asvo.example#top",
        "ftp://asvo.example",
        "file:///etc/passwd",
        "https://",
        "://asvo.example",
        "asvo example",
        "asvo.example:port",
        "asvo.example:99999",
        "::1",
        "[::1",
    ],
)
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        address_of(host, "")
    assert caught.value.what == f"ASVO_HOST={host} is not an address."
    assert ADDRESS_2018 in caught.value.remedy
    assert caught.value.exit_status is ExitStatus.FAILED


@pytest.mark.parametrize("port", ["0", "65536", "-1", "8778.0", "https", "٨٧٧٨", "1" * 5000, "87 78"])
def test_what_is_no_port(port: str) -> None:
    with pytest.raises(SettingsError, match="is not a port") as caught:
        address_of("asvo.example", port)
    assert "1 to 65535" in caught.value.remedy


@pytest.mark.parametrize(
    "host",
    [
        "https://someone:s3cret-word@asvo.example",
        "someone:s3cret-word@asvo.example:8778",
        "https://someone:s3cret/word@asvo.example",
        "https://someone:s3cret?word@asvo.example",
        "https://s3cret@asvo.example:port",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        address_of(host, "")
    assert "s3cret" not in f"{caught.value} {caught.value!r}"
    assert "ASVO_PASS" in caught.value.remedy


def test_default_service() -> None:
    default = service()
    assert default == Service(
        api=ApiVersion.V2018,
        address=ADDRESS_2018,
        name="asvo.mwatelescope.org",
        credentials=Credentials("someone", "s3cret-word"),
        is_default=True,
        verify=True,
        call_timeout=60.0,
        delivery_roots=default.delivery_roots,  # Which homes are private depends on the machine.
    )


def test_a_service_elsewhere_is_known_by_its_host_and_port() -> None:
    elsewhere = service(ASVO_HOST="asvo.example", ASVO_PORT="99")
    assert (elsewhere.name, elsewhere.is_default) == ("asvo.example:99", False)
    assert service(ASVO_HOST="asvo.mwatelescope.org").is_default


@pytest.mark.parametrize(
    ("host", "in_clear"),
    [
        ("http://asvo.example", True),
        ("http://192.168.0.7:8080", True),
        ("http://127.0.0.1.example", True),
        ("https://asvo.example", False),
        ("http://127.0.0.1:8080", False),
        ("http://localhost:8080", False),
        ("http://[::1]:8080", False),
    ],
)
def test_it_is_known_when_the_password_would_be_readable(host: str, in_clear: bool) -> None:
    assert service(ASVO_HOST=host).sends_password_in_clear is in_clear


@pytest.mark.parametrize("word", ["", " ", "1", "true", "TRUE", "yes", "on"])
def test_certificates_are_verified(word: str) -> None:
    assert service(SSL_VERIFY=word).verify is True


@pytest.mark.parametrize("word", ["0", "false", "False", "NO", "off", " 0 "])
def test_certificates_are_not_verified_when_told_so(word: str) -> None:
    assert service(SSL_VERIFY=word).verify is False


def test_certificates_are_verified_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "Authorities.PEM"
    file.touch()
    assert service(SSL_VERIFY=f" {file} ").verify == str(file)


@pytest.mark.parametrize("word", ["maybe", "/no/such/file.pem", "2"])
def test_verification_that_cannot_be(word: str) -> None:
    with pytest.raises(SettingsError, match="no such file") as caught:
        service(SSL_VERIFY=word)
    assert "1, 0" in caught.value.remedy


def test_timeout_of_a_call() -> None:
    assert service(MWA_ASVO_API_TIMEOUT="2.5").call_timeout == 2.5
    with pytest.raises(SettingsError, match="MWA_ASVO_API_TIMEOUT=never is not a time"):
        service(MWA_ASVO_API_TIMEOUT="never")


# --- The account -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "missing", "there"),
    [
        ({}, ["MWA_ASVO_API_KEY"], ["ASVO_USER", "ASVO_PASS"]),
        ({"ASVO_USER": "someone"}, ["ASVO_PASS"], ["ASVO_USER"]),
        ({"ASVO_PASS": "s3cret-word"}, ["ASVO_USER"], ["ASVO_PASS"]),
        ({"ASVO_USER": "someone", "ASVO_PASS": ""}, ["ASVO_PASS"], ["ASVO_USER"]),
    ],
)
def test_missing_credentials_are_named_and_no_others(
    given: dict[str, str], missing: list[str], there: list[str]
) -> None:
    with pytest.raises(CredentialsMissing) as caught:
        services_from(given)
    assert all(name in caught.value.what and f"{name}=" in caught.value.remedy for name in missing)
    assert not any(name in str(caught.value) for name in there)
    assert "s3cret-word" not in str(caught.value)
    assert "--sandbox" in caught.value.remedy


def test_a_key_means_todays_service_v2_before_v1() -> None:
    ways = services_from({**ACCOUNT, "MWA_ASVO_API_KEY": "k3y-word", "HOME": "/home/someone"})
    assert [way.api for way in ways] == [ApiVersion.V2, ApiVersion.V1]
    assert {way.address for way in ways} == {"https://asvo.mwatelescope.org:443"}
    assert {way.name for way in ways} == {"asvo.mwatelescope.org"}
    assert all(way.credentials == Credentials(key="k3y-word") for way in ways)
    assert ways[0].tokens == Path("/home/someone/.mwa-asvo/tokens.json")
    assert "k3y-word" not in repr(ways)


def test_a_password_means_2018_and_v2_where_nobody_answers_there() -> None:
    assert [way.api for way in services_from(ACCOUNT)] == [ApiVersion.V2018, ApiVersion.V2]
    assert [way.api for way in services_from(ACCOUNT, ApiVersion.V2018)] == [ApiVersion.V2018]


@pytest.mark.parametrize(
    ("given", "address", "name"),
    [
        ({}, "https://asvo.mwatelescope.org:443", "asvo.mwatelescope.org"),
        ({"ASVO_HOST": "asvo.example"}, "https://asvo.example:8778", "asvo.example"),
        ({"ASVO_HOST": "asvo.example", "ASVO_PORT": "99"}, "https://asvo.example:99", "asvo.example:99"),
        ({"ASVO_HOST": "http://[::1]:99", "MWA_ASVO_PORT": "7"}, "http://[::1]:99", "[::1]:99"),
        ({"ASVO_HOST": "a.example", "MWA_ASVO_HOST": "b.example"}, "https://b.example:443", "b.example"),
    ],
)
def test_an_account_of_2018_is_tried_at_v2_of_the_same_server(
    given: dict[str, str], address: str, name: str
) -> None:
    of_2018, todays = services_from({**ACCOUNT, **given})
    assert (of_2018.api, todays.api) == (ApiVersion.V2018, ApiVersion.V2)
    assert (todays.address, todays.name) == (address, name)
    assert todays.credentials == of_2018.credentials


@pytest.mark.parametrize("api", list(ApiVersion))
def test_the_interface_can_be_chosen_by_hand(api: ApiVersion) -> None:
    (way,) = services_from({**ACCOUNT, "MWA_ASVO_API_KEY": "k3y-word"}, api)
    assert way.api is api
    assert way.credentials == (
        Credentials("someone", "s3cret-word") if api is ApiVersion.V2018 else Credentials(key="k3y-word")
    )


def test_v2_takes_an_account_and_v1_does_not() -> None:
    (way,) = services_from(ACCOUNT, ApiVersion.V2)
    assert way.credentials == Credentials("someone", "s3cret-word")
    with pytest.raises(
        CredentialsMissing, match="MWA_ASVO_API_KEY is not set, and the v1 interface needs it"
    ):
        services_from(ACCOUNT, ApiVersion.V1)
    with pytest.raises(CredentialsMissing, match="ASVO_USER and ASVO_PASS are not set, and the 2018"):
        services_from({"MWA_ASVO_API_KEY": "k3y-word"}, ApiVersion.V2018)


@pytest.mark.parametrize(
    ("given", "address", "tokens"),
    [
        ({"MWA_ASVO_HOST": "asvo.example"}, "https://asvo.example:443", "tokens-asvo.example_443.json"),
        ({"MWA_ASVO_HOST": "https://h:99"}, "https://h:99", "tokens-h_99.json"),
        ({"MWA_ASVO_HOST": "h", "MWA_ASVO_PORT": "8"}, "https://h:8", "tokens-h_8.json"),
        ({"MWA_ASVO_HOST": "h:8", "MWA_ASVO_HTTPS": "0"}, "http://h:8", "tokens-h_8.json"),
        ({"ASVO_HOST": "elsewhere.example"}, "https://asvo.mwatelescope.org:443", "tokens.json"),
    ],
)
def test_where_todays_service_is(given: dict[str, str], address: str, tokens: str) -> None:
    way = services_from({"MWA_ASVO_API_KEY": "k3y-word", "HOME": "/h", **given})[0]
    assert (way.address, way.tokens) == (address, Path("/h/.mwa-asvo") / tokens)


def test_the_client_name_is_a_setting() -> None:
    given = {"MWA_ASVO_API_KEY": "k3y-word"}
    assert services_from(given)[0].client_name == "mantaray-clientv2.0"
    assert services_from({**given, "MWA_ASVO_CLIENT": "another-v1"})[0].client_name == "another-v1"


def test_a_user_name_with_a_colon_cannot_be() -> None:
    with pytest.raises(SettingsError, match="colon"):
        services_from({"ASVO_USER": "someone:x", "ASVO_PASS": "s3cret-word"})


def test_no_repr_shows_the_password() -> None:
    assert "someone" in repr(service())
    assert "s3cret-word" not in f"{service()!r} {service()} {service().credentials!r} {[service()]}"


# --- Values that can be no credentials ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("s3cret-word\n", "line break or another control character at its end"),
        ("s3cret-word\r\n", "line break or another control character at its end"),
        ("s3cret\nword", "line break or another control character in it"),
        ("s3cret\x00word", "line break or another control character in it"),
        ("s3cret\x7fword", "line break or another control character in it"),
        ("s3cret-w\udcf6rd", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("name", ["ASVO_USER", "ASVO_PASS"])
def test_an_account_that_can_be_none(name: str, value: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} (contains|has) a .*{why}") as caught:
        services_from({**ACCOUNT, name: value})
    assert "s3cret" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("key", ["k3y\nmore", "k3y\x1b", "k3\udcff", "\udcff"])
def test_a_key_that_can_be_none(key: str) -> None:
    with pytest.raises(SettingsError, match=r"MWA_ASVO_API_KEY (contains|has) a") as caught:
        services_from({"MWA_ASVO_API_KEY": key})
    assert "k3" not in f"{caught.value} {caught.value!r}"


def test_blanks_around_a_key_are_of_no_matter_and_a_password_may_hold_any_text() -> None:
    assert services_from({"MWA_ASVO_API_KEY": " k3y\r\n"})[0].credentials.key == "k3y"
    assert service(ASVO_PASS=" päss wörd🔑 ").credentials.password == " päss wörd🔑 "


@pytest.mark.parametrize("name", ["a:b", "a\nb", "clïent"])
def test_what_is_no_name_of_a_client(name: str) -> None:
    with pytest.raises(SettingsError, match="MWA_ASVO_CLIENT"):
        service(MWA_ASVO_CLIENT=name)


@pytest.mark.parametrize(
    "host",
    [
        "asvo\\.example",
        "http://a\\b",
        "asvo\t.example",
        "asvo.exa\nmple",
        "asvo%2eexample",
        "a..example",
        "[asvo]",
    ],
)
def test_an_address_that_can_be_read_in_two_ways(host: str) -> None:
    with pytest.raises(SettingsError, match="is not an address"):
        address_of(host, "")


def test_a_host_in_other_letters_has_a_plain_name() -> None:
    assert address_of("https://bücher.example:99", "") == "https://xn--bcher-kva.example:99"
