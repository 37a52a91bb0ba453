"""Each kind is found where it is, also in disguise, and not where it only looks like it."""

# ruff: noqa: RUF001 - look-alike characters are what is tested

from __future__ import annotations

import base64

import pytest

from agentguard.redaction import KINDS, detect, passes_luhn, redact

AWS = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB = "ghp_" + "a1B2" * 9
SLACK = "xoxb-" + "123456789012-abcdefABCDEF"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"

FOUND = [
    ("email", "write to ann.b+tag@mail.example.org, please", "ann.b+tag@mail.example.org"),
    ("email", "<ann@example.org>", "ann@example.org"),
    ("email", "jörg@exämple.de", "jörg@exämple.de"),
    ("email", "a" * 70 + "@example.org", "a" * 70 + "@example.org"),
    ("card", "pay 4111 1111 1111 1111 today", "4111 1111 1111 1111"),
    ("card", "4111111111111111", "4111111111111111"),
    ("card", "3782-822463-10005", "3782-822463-10005"),
    ("card", "4222222222222", "4222222222222"),
    ("card", "card 4111.1111.1111.1111 exp 12", "4111.1111.1111.1111"),
    ("card", "4111 1111 1111 1111 12 2027", "4111 1111 1111 1111"),
    ("card", "no 7 4111 1111 1111 1111", "4111 1111 1111 1111"),
    ("iban", "DE89 3704 0044 0532 0130 00 by friday", "DE89 3704 0044 0532 0130 00"),
    ("iban", "gb82west12345698765432", "gb82west12345698765432"),
    ("iban", "NO93-8601-1117-947", "NO93-8601-1117-947"),
    ("secret", f"id {AWS} used", AWS),
    ("secret", GITHUB, GITHUB),
    ("secret", SLACK, SLACK),
    ("secret", "use sk-proj-abcDEF123456_ghiJKL789", "sk-proj-abcDEF123456_ghiJKL789"),
    ("secret", "sk-ant-api03-abcdefghijklmnop", "sk-ant-api03-abcdefghijklmnop"),
    ("secret", JWT, JWT),
    ("secret", f"key:\n{PEM}\nend", PEM),
    ("secret", "-----BEGIN PRIVATE KEY-----\nMIIabc and cut", "-----BEGIN PRIVATE KEY-----\nMIIabc and cut"),
    ("secret", "Authorization: Bearer abc123DEF456", "abc123DEF456"),
    (
        "secret",
        "Basic " + base64.b64encode(b"ann:hunter2").decode(),
        base64.b64encode(b"ann:hunter2").decode(),
    ),
    ("secret", "password=Hunter2Hunter3", "Hunter2Hunter3"),
    ("secret", '{"api_key": "q9Xr7Lm2Pz"}', "q9Xr7Lm2Pz"),
    ("ipv4", "from 10.0.0.1.", "10.0.0.1"),
    ("ipv4", "255.255.255.255", "255.255.255.255"),
    ("ipv6", "at 2001:db8::1, port 5", "2001:db8::1"),
    ("ipv6", "::ffff:10.0.0.1", "::ffff:10.0.0.1"),
    ("ipv6", "[::1]:80", "::1"),
    ("phone", "call +49 (30) 123456-78", "+49 (30) 123456-78"),
    ("phone", "(212) 555-0123", "(212) 555-0123"),
    ("us_ssn", "ssn 123-45-6789", "123-45-6789"),
    ("url_credentials", "postgres://ann:s3cret@db:5432/x", "ann:s3cret"),
]


@pytest.mark.parametrize(("kind", "text", "part"), FOUND)
def test_found(kind: str, text: str, part: str) -> None:
    """The kind is found at its place, and only that part is replaced."""
    (found,) = detect(text, [kind])
    assert found.kind == kind
    assert text[found.start : found.end] == part
    cleaned, count = redact(text, [kind])
    assert cleaned == text.replace(part, f"[REDACTED:{kind}]")
    assert count == 1


NOT_FOUND = [
    ("email", "ann@localhost and @user and a@b"),
    ("card", "4111 1111 1111 1112"),
    ("card", "1767225600000 and 0000000000000000 and 4444444444444444"),
    ("card", "order 41111111111111110000000"),
    ("card", "2026-11-22 08:45:51.123456"),
    ("iban", "DE00 3704 0044 0532 0130 00"),
    ("iban", "ZZ89370400440532013000"),
    ("iban", "XDE89370400440532013000"),
    ("secret", "password: please enter your password"),
    ("secret", "the token is sent; token: authentication"),
    ("secret", "max_tokens=4096"),
    ("secret", "task-force sk-learn bearer of news basic instinct"),
    ("ipv4", "1.2.3 and 1.2.3.4.5 and 300.1.1.1"),
    ("ipv6", "12:30:45 and std::vector and a::b and 10:20"),
    ("phone", "1234567890 and 2026-11-22 and +1"),
    ("us_ssn", "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123456789 1-123-45-6789"),
    ("url_credentials", "https://example.org/a:b@c and ssh://git@host/x"),
]


@pytest.mark.parametrize(("kind", "text"), NOT_FOUND)
def test_not_found(kind: str, text: str) -> None:
    """What only looks like it stays."""
    assert detect(text, [kind]) == ()
    assert redact(text, [kind]) == (text, 0)


def twice_encoded(text: str) -> str:
    """Base64 of base64."""
    return base64.b64encode(base64.b64encode(text.encode())).decode()


@pytest.mark.parametrize(
    "disguised",
    [
        "ann%40example.org",
        "mailto:ann%2540example%252Eorg",
        base64.b64encode(b"mail ann@example.org").decode(),
        base64.urlsafe_b64encode(b"to=ann@example.org??>>").decode().rstrip("="),
        "data:text/plain;base64," + base64.b64encode(b"ann@example.org").decode(),
        twice_encoded("ann@example.org"),
        "ann\uff20example\uff0eorg",
        "ann@exa\u200bmple.o\u00adrg",
        "\uff41\uff4e\uff4e@example.org",
        "\u202eann@example.org",
    ],
)
def test_disguises_of_an_address(disguised: str) -> None:
    """Percent signs, base64, full-width and invisible characters do not hide it."""
    cleaned, count = redact(f"say {disguised} now", ["email"])
    assert count >= 1
    assert "[REDACTED:email]" in cleaned
    assert cleaned.startswith("say ")
    assert cleaned.endswith(" now")
    assert disguised not in cleaned


@pytest.mark.parametrize(
    "digits",
    ["４１１１１１１１１１１１１１１１", "٤١١١١١١١١١١١١١١١", "4111\u00a01111\u00a01111\u00a01111", "4111‐1111‐1111‐1111",
     "4111\u200b1111\u200b1111\u200b1111", "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏"],
)  # fmt: skip
def test_disguises_of_a_card(digits: str) -> None:
    """Other digits, other blanks, other dashes are the same card."""
    assert redact(f"no {digits}!", ["card"]) == ("no [REDACTED:card]!", 1)


def test_kinds_overlap() -> None:
    """One stretch has one mark: that of the more specific kind."""
    cleaned, _ = redact("https://ann:pw1234@mail.example.org/", KINDS)
    assert cleaned == "https://[REDACTED:url_credentials]/"


def test_unknown_kinds() -> None:
    """A misspelt kind is refused, with a hint."""
    with pytest.raises(ValueError, match="unknown kind `emial`") as caught:
        detect("x", ["emial"])
    assert caught.value.__notes__ == ["hint: did you mean `email`?"]


@pytest.mark.parametrize(
    ("digits", "passes"), [("79927398713", True), ("79927398710", False), ("5555555555554444", True)]
)
def test_luhn(digits: str, passes: bool) -> None:
    """The algorithm on known numbers."""
    assert passes_luhn(digits) is passes


def test_kinds_of_an_extra_that_is_not_installed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that is not there would find nothing, in silence: it raises, and its rule does not load."""
    from agentguard.errors import PolicyDocumentError
    from agentguard.redaction import EXTRA_KINDS, _presidio
    from tests.support.policies import bundle, document

    monkeypatch.setattr(_presidio, "find_spec", lambda _: None)
    assert "presidio_person" in EXTRA_KINDS
    with pytest.raises(ValueError, match=r"agentguard\[presidio\]"):
        detect("anything", ["presidio_crypto"])
    for rule in (
        "R | tool.after | true | { redact: [presidio_crypto] }",
        "R | tool.after | detects(result, ['presidio_crypto']) | deny",
    ):
        with pytest.raises(PolicyDocumentError, match="needs presidio-analyzer"):
            bundle(document(rule))
