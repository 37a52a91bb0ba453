"""Settings come from all sources, checked together; policies only ever add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentguard.errors import ConfigurationError
from agentguard.runtime import SETTINGS, find_file, load_config


def test_works_with_nothing(tmp_path: Path) -> None:
    """Without any source there is a default for everything, under the user's folders."""
    config = load_config(environ={"HOME": "/home/ann"}, folder=tmp_path)
    assert config.store == Path("/home/ann/.local/share/agentguard/store")
    assert config.key == "file:/home/ann/.config/agentguard/key"
    assert config.policies == ()
    assert set(config.sources.values()) == {"default"}


def test_precedence(tmp_path: Path) -> None:
    """Argument before variable before file before OTEL variable before default."""
    (tmp_path / "agentguard.toml").write_text('service = "file"\n', encoding="utf-8")
    environ = {"OTEL_SERVICE_NAME": "otel"}
    assert load_config(environ=environ, folder=tmp_path).service == "file"
    environ["AGENTGUARD_SERVICE"] = "variable"
    assert load_config(environ=environ, folder=tmp_path).service == "variable"
    assert load_config({"service": "given"}, environ=environ, folder=tmp_path).service == "given"
    (tmp_path / "agentguard.toml").unlink()
    assert load_config(environ={"OTEL_SERVICE_NAME": "otel"}, folder=tmp_path).service == "otel"


def test_policies_add_up(tmp_path: Path) -> None:
    """No source takes away the policies of another one."""
    (tmp_path / "agentguard.toml").write_text('policies = "team"\n', encoding="utf-8")
    config = load_config(
        {"policies": ["mine", Path("more")]},
        environ={"AGENTGUARD_POLICIES": "/etc/one:/etc/two"},
        folder=tmp_path,
    )
    assert config.policies == (
        tmp_path / "mine",
        tmp_path / "more",
        Path("/etc/one"),
        Path("/etc/two"),
        tmp_path / "team",
    )


def test_cannot_be_switched_off_where_policies_are(tmp_path: Path) -> None:
    """Switching off is loosening, and refused."""
    with pytest.raises(ConfigurationError, match="never loosen"):
        load_config({"policies": "p"}, environ={"AGENTGUARD_ENABLED": "0"}, folder=tmp_path)
    assert not load_config(environ={"AGENTGUARD_ENABLED": "0"}, folder=tmp_path).enabled


def test_all_problems_at_once(tmp_path: Path) -> None:
    """One error names every problem, with what was expected and what was meant."""
    (tmp_path / "agentguard.toml").write_text('servise = "x"\ncapture = "all"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config(
            {"polices": "p"},
            environ={"AGENTGUARD_POLICES": "p", "AGENTGUARD_FLUSH_TIMEOUT_S": "soon"},
            folder=tmp_path,
        )
    text = "\n".join(caught.value.problems)
    assert "unknown setting `servise`, did you mean `service`?" in text
    assert "unknown variable `AGENTGUARD_POLICES`, did you mean `AGENTGUARD_POLICIES`?" in text
    assert "capture is `all`, expected one of none, metadata, redacted, full" in text
    assert "flush_timeout_s is `soon`, expected a number from 0 to 60" in text
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_nonsense_is_refused_or_text(setting: object, tmp_path: Path) -> None:
    """A list of numbers is no value for any setting, and the message says where it stood."""
    name = setting.name  # type: ignore[attr-defined]
    (tmp_path / "agentguard.toml").write_text(f"{name} = [1, 2]\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"agentguard.toml: {name} is "):
        load_config(environ={}, folder=tmp_path)


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    """Headers hold API keys; the repr of the configuration does not show them."""
    config = load_config(environ={"AGENTGUARD_EXPORT_HEADERS": "authorization=s3cret"}, folder=tmp_path)
    assert config.export_headers == (("authorization", "s3cret"),)
    assert "s3cret" not in repr(config)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    """A file in a folder above names its own neighbours."""
    (tmp_path / "agentguard.toml").write_text('store = "s"\nkey = "file:k"\n', encoding="utf-8")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    config = load_config(environ={}, folder=below)
    assert (config.store, config.key) == (tmp_path / "s", f"file:{tmp_path / 'k'}")


def test_pyproject_table_counts_and_the_nearest_file_wins(tmp_path: Path) -> None:
    """`[tool.agentguard]` is read; a pyproject.toml without it is passed over."""
    (tmp_path / "pyproject.toml").write_text('[tool.agentguard]\nservice = "p"\n', encoding="utf-8")
    below = tmp_path / "sub"
    below.mkdir()
    (below / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    assert find_file(below) == tmp_path / "pyproject.toml"
    assert load_config(environ={}, folder=below).service == "p"


@pytest.mark.parametrize("content", [b"service = ", b"\xff\xfe", b"service = 1\n"])
def test_broken_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    """A file that is no TOML, no text, or has a wrong type is one clear problem."""
    (tmp_path / "agentguard.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"agentguard\.toml: ") as caught:
        load_config(environ={}, folder=tmp_path)
    assert "\n" not in caught.value.problems[0]


def test_settings_that_begin_alike_may_stand_in_a_table(tmp_path: Path) -> None:
    """`[decisions]` opens its settings; paths in it are relative, tokens are in no repr, a misspelt one is named."""
    (tmp_path / "agentguard.toml").write_text(
        '[decisions]\nanchors = ["file:kept", "https://a.example/x?token=s3cret", "otlp"]\nmark = "mark"\n'
        "retention_days = 0\n",
        encoding="utf-8",
    )
    config = load_config(environ={}, folder=tmp_path)
    assert config.decisions_anchors == (
        f"file:{tmp_path / 'kept'}",
        "https://a.example/x?token=s3cret",
        "otlp",
    )
    assert (config.decisions_mark, config.decisions_retention_days) == (str(tmp_path / "mark"), 0)
    assert "s3cret" not in repr(config)
    named = load_config(environ={"AGENTGUARD_DECISIONS_ANCHORS": "otlp, file:/a"}, folder=tmp_path)
    assert named.decisions_anchors == ("otlp", "file:/a")
    (tmp_path / "agentguard.toml").write_text('[decisions]\nmarc = "x"\n[unknown]\na = 1\n', encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config(environ={}, folder=tmp_path)
    assert "unknown setting `decisions_marc`, did you mean `decisions_mark`?" in str(caught.value)
    assert "unknown setting `unknown`" in str(caught.value)


@pytest.mark.parametrize("export", ["otpl", "True", "non"])
def test_a_misspelt_destination_is_no_host(export: str, tmp_path: Path) -> None:
    """A bare word is refused where spans are sent to; a host with a port, or an address, is taken."""
    with pytest.raises(ConfigurationError, match="expected none, otlp or the URL"):
        load_config({"export": export}, environ={}, folder=tmp_path)
    assert load_config({"export": "collector:4318"}, environ={}, folder=tmp_path).export == "collector:4318"
