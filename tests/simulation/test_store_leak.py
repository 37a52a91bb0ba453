"""Nothing readable without the key: planted needles are looked for in every file, log and message."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest

from agentguard.errors import AgentGuardError
from agentguard.seal import create_key_file
from agentguard.store import Store, WriterConfig
from agentguard.values import GapRecord, OutcomeRecord, SpanEvent
from tests.support.clock import FrozenClock
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import raise_error

NEEDLE = "NEEDLE-in-the-haystack"


def test_no_needle_in_any_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Names, attributes, ids, labels, resources: none of it stands in clear, raw, as hex or base64."""
    caplog.set_level(logging.DEBUG)
    provider = create_key_file(tmp_path / "keys" / "key")
    store = Store.create(tmp_path / "store", provider=provider, clock=FrozenClock())
    spans = [
        make_span(
            i,
            name=f"{NEEDLE} {i}",
            status_description=NEEDLE,
            attributes={f"{NEEDLE}.key": NEEDLE, "gen_ai.agent.name": NEEDLE, "list": (NEEDLE,)},
            events=(SpanEvent(NEEDLE, 1, {NEEDLE: NEEDLE}),),
            scope=NEEDLE,
        )
        for i in range(200)
    ]
    for is_sealing in (False, True):
        writer = store.writer(
            resource={NEEDLE: NEEDLE},
            on_internal_error=raise_error,
            config=WriterConfig(is_sealing=is_sealing),
        )
        for span in spans:
            writer.append(FinishedSpan(span))
        writer.append_outcome(OutcomeRecord(NEEDLE, 1, NEEDLE, NEEDLE, 1.0, {NEEDLE: NEEDLE}))
        writer.append_gap(GapRecord(NEEDLE, 1, 1, 1))
        writer.close(10)
    store.sealed_blob("settings").write(NEEDLE.encode())
    key = provider.key(b"")
    needles = [
        NEEDLE.encode(),
        NEEDLE.encode().hex().encode(),
        base64.b64encode(NEEDLE.encode())[:24],
        b"gen_ai.agent.name",
        bytes.fromhex(spans[0].trace_id),
        spans[0].trace_id.encode(),
        key,
        key.hex().encode(),
        base64.b64encode(key),
    ]
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        data = path.read_bytes()
        for needle in needles:
            assert needle not in data, f"{needle!r} in {path.name}"
            assert needle.decode("latin-1") not in path.name
    assert NEEDLE not in caplog.text
    # Reading with a wrong key, and reading damage, says nothing of the content either.
    texts = []
    with pytest.raises(AgentGuardError) as caught:
        Store.open(tmp_path / "store", provider=create_key_file(tmp_path / "wrong"), clock=FrozenClock())
    texts.append(str(caught.value))
    for path in store.segments.glob("*.ags"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    query = Store.open(tmp_path / "store", provider=provider, clock=FrozenClock()).query()
    list(query.spans())
    assert query.damage
    texts += [str(damage) for damage in query.damage.first]
    texts += [repr(store), repr(store.keystore), repr(store.keystore.root), repr(provider)]
    for text in texts:
        assert NEEDLE not in text
        assert key.hex() not in text
        assert base64.b64encode(key).decode() not in text
