"""What is read in one go is what is read with care, and priced as any usage is: of anything at all."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.capture import Price, PriceTable, extract_usage
from agentguard.capture import usage_quick as quick
from agentguard.capture.usage import _probe, usage_of, usages_of
from agentguard.capture.usage_quick import UNPRICED, chat_reading, usage_row
from agentguard.values import Usage

CHAT = {
    "id": "c1",
    "model": "gpt-5",
    "choices": [{"finish_reason": "stop", "message": {"content": "x"}}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 20},
    },
}
UNCACHED = {
    "id": "c3",
    "model": "gpt-5",
    "choices": [{"finish_reason": "tool_calls"}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}
BARE = {
    "id": "c2",
    "model": "own-model",
    "choices": [{"finish_reason": "length"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 9, "prompt_cache_hit_tokens": 3},
}
LAST_CHUNK = {**CHAT, "choices": []}
RESPONSE = {
    "id": "r1",
    "object": "response",
    "model": "gpt-4o-2024-08-06",
    "status": "completed",
    "usage": {
        "input_tokens": 7,
        "output_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
        "output_tokens_details": {"reasoning_tokens": 1},
    },
}
MESSAGE = {
    "id": "m1",
    "type": "message",
    "model": "claude-sonnet-4-5",
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 2},
    },
}
PLAIN_MESSAGE = {
    "id": "m2",
    "type": "message",
    "model": "claude-sonnet-4-5",
    "stop_reason": None,
    "usage": {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 1}},
}
GOOGLE = {
    "usage_metadata": {
        "prompt_token_count": 8,
        "tool_use_prompt_token_count": 3,
        "candidates_token_count": 6,
        "thoughts_token_count": 9,
        "cached_content_token_count": 2,
    },
    "model_version": "gemini-2.5-pro",
    "response_id": "g1",
    "candidates": [{"finish_reason": "STOP"}],
}
LANGCHAIN = {
    "id": "l1",
    "usage_metadata": {
        "input_tokens": 12,
        "output_tokens": 3,
        "input_token_details": {"cache_read": 2, "cache_creation": 1},
        "output_token_details": {"reasoning": 1},
    },
    "response_metadata": {"model_name": "gpt-5", "finish_reason": "stop", "model_provider": "openai"},
}
SHAPES: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "chat without a cache": UNCACHED,
    "chat without details": BARE,
    "last chunk of a chat": LAST_CHUNK,
    "response": RESPONSE,
    "message": MESSAGE,
    "message without a cache": PLAIN_MESSAGE,
    "google": GOOGLE,
    "langchain": LANGCHAIN,
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


# Values that nobody expects ---------------------------------------------------


class Count(int):
    """A number of a kind of its own."""


class Liar(int):
    """A number that is another one to whoever calculates with it."""

    def __or__(self, other: object) -> int:
        return 1

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __ror__ = __or__

    def __le__(self, other: object) -> bool:
        return True

    __ge__ = __lt__ = __gt__ = __le__


class Few(IntEnum):
    """A number with a name."""

    FOUR = 4


class Reason(str, Enum):  # noqa: UP042 - as the SDK of Google has it
    """A text with a name."""

    STOP = "STOP"


class Text(str):
    """A text of a kind of its own."""

    __slots__ = ()


class Alias(str):
    """A text that takes itself for another one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == "gpt-5"

    def __hash__(self) -> int:
        return hash("gpt-5")


class Hostile:
    """Every attribute raises."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class Endless:
    """Every attribute is another such object."""

    def __getattr__(self, name: str) -> object:
        return Endless()


class Fake:
    """It says that it is a number."""

    __class__ = int  # type: ignore[assignment]


class Other(dict[str, Any]):
    """A dict that says something else than it holds, and not twice the same."""

    def __getitem__(self, key: str) -> Any:
        return 6

    def get(self, key: str, default: object = None) -> Any:
        """Give a number, where it holds one."""
        found = super().get(key, default)
        return 5 if type(found) is int else found


class Longer(list[Any]):
    """A list that goes through something else than it holds."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return iter([{"finish_reason": "gpt-5"}])


LIKE: dict[type, Any] = {dict: Other, list: Longer}
NUMBERS = [None, True, False, 0, 1, 7, -1, 2**30 - 1, 2**30, 2**63 - 1, 2**63, 10**40, 1.5, math.nan, "7", Count(5),
           Liar(5), Few.FOUR, Count(-5), Count(300), Liar(300), Fake()]  # fmt: skip
TEXTS = ["", "stop", "gpt-5", "gemini-2.5-pro", "nobody/knows", "x" * 256, "x" * 257, b"x", Text("stop"),
         Text("gpt-5"), Alias("stop"), Reason.STOP, "message"]  # fmt: skip
HOLDERS = [[], {}, (), [None], [{}], [{"finish_reason": "stop"}, {"finish_reason": "length"}], Endless(),
           ({"finish_reason": "stop"},), Longer([{"finish_reason": "stop"}, 5]), Hostile(), object(), [], math,
           Other(), Other(prompt_tokens=3), print, [].append, int, SimpleNamespace(), Usage(1, 2)]  # fmt: skip
ODD = st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.sampled_from(HOLDERS)


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a response."""
    for key, inner in (
        value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    ):
        yield (*so_far, key)
        yield from paths(inner, (*so_far, key))


FOREIGN = sorted(
    {"inputTokens", "messages"}.union(
        str(path[-1]) for shape in SHAPES.values() for path in paths(shape) if path[-1] != 0
    )
)


def fresh(value: Any) -> Any:
    """Copy what could be changed further."""
    return copy.deepcopy(value) if type(value) in (dict, list, tuple) else value


@st.composite
def responses(draw: st.DrawFn) -> tuple[Any, Any]:
    """A response of some shape, and the same with a few things wrong in it."""
    shape = draw(st.sampled_from(list(SHAPES.values())))
    value = copy.deepcopy(shape)
    for _ in range(draw(st.integers(0, 3))):
        places = list(paths(value))
        *way, last = draw(st.sampled_from(places or [("usage",)]))
        holder = value
        for key in way:
            holder = holder[key]
        change = draw(st.sampled_from(["put", "drop", "add"]))
        if change == "put":
            holder[last] = fresh(draw(ODD))
        elif change == "drop":
            del holder[last]
        elif type(holder) is dict:
            holder[draw(st.sampled_from(FOREIGN))] = fresh(draw(ODD))
    return shape, value


# Kinds of objects -------------------------------------------------------------


class Plain:
    """An object with fields."""

    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


class Missing(Plain):
    """An object that makes up what it does not have."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("prompt_tokens"):
            return None
        raise AttributeError(name)


class Computed(Plain):
    """An object that computes one of its fields."""

    @property
    def model(self) -> str:
        """Another one than is kept."""
        return "gpt-4o"

    @model.setter
    def model(self, value: object) -> None:
        raise AttributeError


class Watched(Plain):
    """An object that reads its attributes in a way of its own."""

    def __getattribute__(self, name: str) -> Any:
        if name == "id":
            return "watched"
        return super().__getattribute__(name)


class Usual(Plain):
    """An object of which the class says a count."""

    prompt_tokens = 9
    cached_tokens = 1


class Narrow:
    """An object that keeps one of its fields elsewhere."""

    __slots__ = ("__dict__", "model")

    def __init__(self, **fields: object) -> None:
        for name, field in fields.items():
            setattr(self, name, field)


def objects(make: Callable[..., Any]) -> Callable[[Any], Any]:
    """Give what turns plain data into objects of a class."""

    def build(value: Any) -> Any:
        if type(value) is dict:
            fields = {name: build(inner) for name, inner in value.items()}
            return make(**{name: inner for name, inner in fields.items() if isinstance(name, str)})
        return [build(inner) for inner in value] if type(value) is list else value

    return build


def models(value: Any, shape: Any) -> Any:
    """Turn plain data into models of pydantic, whose fields are those of the shape; what is none of them is extra."""
    pydantic = pytest.importorskip("pydantic")
    if type(value) is list:
        inside = shape if type(shape) is list else []
        return [models(inner, inside[0] if inside else {}) for inner in value]
    if type(value) is not dict:
        return value
    known = shape if type(shape) is dict else {}
    key = tuple(sorted(known))
    if key not in CLASSES:
        CLASSES[key] = pydantic.create_model(
            "Model", __config__={"extra": "allow"}, **dict.fromkeys(known, (Any, None))
        )
    kind = CLASSES[key]
    return kind.model_construct(**{name: models(inner, known.get(name)) for name, inner in value.items()})


def built_by(make: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Give what turns plain data, and the shape that it has, into objects of a class."""
    build = objects(make)
    return lambda value, _: build(value)


CLASSES: dict[tuple[str, ...], Any] = {}
BUILDS: dict[str, Callable[[Any, Any], Any]] = {
    kind.__name__: built_by(kind)
    for kind in (SimpleNamespace, Plain, Missing, Computed, Watched, Usual, Narrow)
} | {"dicts": lambda value, _: value, "models": models}
builds = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


def careful(value: Any) -> Usage | None:
    """Read a response with care."""
    if type(value) is dict and {"usage", "usage_metadata", "messages"}.isdisjoint(value):
        return None
    try:
        return _probe(value, None)
    except Exception:
        return None


def kinds(row: Any) -> Any:
    """Say of what types the fields are."""
    return None if row is None else [type(field) for field in row]


TABLE = PriceTable({"odd": Price(1, 2), "endless": Price(math.inf, 0.0)})


def is_read_alike(build: Callable[[Any, Any], Any], shape: Any, changed: Any) -> None:
    """Check what is read of a response, the first time and when its class and its names are known; alone and with others."""
    usual = chat_reading(CHAT)
    for value in (build(shape, shape), build(changed, shape)):
        known = careful(value)
        for _ in range(2):
            found = extract_usage(value)
            assert found == known
            assert kinds(found) == kinds(known)
            price = None if known is None else TABLE.price_usd(known)
            row = usage_row(value, TABLE.rates)
            if row is not None:
                assert known is not None
                assert row == (*known[:-1], price)
                assert kinds(row) == kinds((*known[:-1], price))
            reading = chat_reading(value)
            if reading is not None:
                late = usage_of(reading, TABLE.rates)
                priced = known if known is None or type(late) is Usage else (*known[:-1], price)
                assert late == priced
                assert kinds(late) == kinds(priced)
                for readings in ([reading], [usual, reading, usual]):
                    for together, one in zip(usages_of(readings, TABLE.rates), readings, strict=True):
                        alone = usage_of(one, TABLE.rates)
                        assert together == alone
                        assert kinds(together) == kinds(alone)


@shapes
@pytest.mark.parametrize("name", ["dicts", "models", "SimpleNamespace"])
def test_whatever_is_in_one_place(name: str, shape: dict[str, Any]) -> None:
    """Each place of each shape, with everything in it that can be wrong."""
    for reason in ("gpt-5", "stop"):
        extract_usage({**CHAT, "choices": [{"finish_reason": reason}]})
    for *way, last in paths(shape):
        for odd in (*NUMBERS, *TEXTS, *HOLDERS, *LIKE):
            value = copy.deepcopy(shape)
            holder: Any = value
            for key in way:
                holder = holder[key]
            holder[last] = LIKE[odd](holder[last]) if odd is type(holder[last]) and odd in LIKE else odd
            is_read_alike(BUILDS[name], shape, value)


@shapes
@pytest.mark.parametrize("name", ["dicts", "models", "SimpleNamespace"])
def test_whatever_is_there_besides(name: str, shape: dict[str, Any]) -> None:
    """Each name of each shape, wherever it does not belong: it may be of another shape then."""
    for way in [(), *paths(shape)]:
        for foreign in FOREIGN:
            value = copy.deepcopy(shape)
            holder: Any = value
            for key in way:
                holder = holder[key]
            if type(holder) is dict and foreign not in holder:
                holder[foreign] = "message" if foreign == "type" else 7
                is_read_alike(BUILDS[name], shape, value)


@builds
@given(made=responses())
def test_what_is_read_in_one_go(build: Callable[[Any, Any], Any], made: tuple[Any, Any]) -> None:
    """Whatever is wrong in a response: it is read as with care, types included, and so is its price."""
    is_read_alike(build, *made)


@shapes
@pytest.mark.parametrize("name", ["dicts", "models", "SimpleNamespace", "Plain"])
def test_common_shapes_are_read_in_one_go(name: str, shape: Any) -> None:
    """Once one of its kind was read with care: each shape, as dicts, and as objects of honest classes."""
    value = BUILDS[name](shape, shape)
    usage = extract_usage(value)
    assert usage is not None
    table = PriceTable()
    price = table.price_usd(usage)
    assert usage_row(value, UNPRICED) == tuple(usage)
    assert (chat_reading(value) is not None) is ("choices" in shape)
    assert usage_row(value, table.rates) == (*usage[:-1], price)
    assert (price is None) is (usage.model == "own-model")


@pytest.mark.parametrize("name", ["Missing", "Computed", "Watched", "Usual"])
def test_classes_with_ways_of_their_own_are_read_with_care(name: str) -> None:
    """Attributes that may be something else than fields are read as attributes, always."""
    value = BUILDS[name](CHAT, CHAT)
    for _ in range(2):
        assert extract_usage(value) == careful(value) is not None
        assert usage_row(value, UNPRICED) is None


def test_real_responses_are_read_in_one_go() -> None:
    """The objects of the SDKs of OpenAI and Anthropic, as the SDKs make them."""
    openai, anthropic = pytest.importorskip("openai.types"), pytest.importorskip("anthropic.types")
    chat, responses = pytest.importorskip("openai.types.chat"), pytest.importorskip("openai.types.responses")
    make = pytest.importorskip("openai._models").construct_type
    for kind, shape in (
        (chat.ChatCompletion, CHAT),
        (chat.ChatCompletion, BARE),
        (chat.ChatCompletionChunk, LAST_CHUNK),
        (responses.Response, RESPONSE),
        (anthropic.Message, MESSAGE),
    ):
        value = make(type_=kind, value=shape)
        usage = extract_usage(value)
        assert usage == careful(value) is not None
        if shape is not BARE:  # Its count of hits is none of the SDK's fields.
            assert usage_row(value, UNPRICED) == usage
    embeddings = make(
        type_=openai.CreateEmbeddingResponse,
        value={"data": [], "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
    )
    assert extract_usage(embeddings) == extract_usage(embeddings) == careful(embeddings)


def test_extra_fields_of_models_count() -> None:
    """A count that a server sends and the SDK does not know is read, the first time and later."""
    known = {**CHAT["usage"], "prompt_tokens_details": {"cached_tokens": 40}}  # type: ignore[dict-item]
    shape = {**CHAT, "usage": known}
    written = copy.deepcopy(shape)
    written["usage"]["prompt_tokens_details"]["cache_write_tokens"] = 4  # type: ignore[index]
    for value, expected in ((shape, None), (written, 4), (written, 4), (shape, None)):
        usage = extract_usage(models(value, shape))
        assert usage is not None
        assert usage.cache_write_tokens == expected


usages = st.builds(
    Usage,
    st.none() | st.integers(0, 2**31) | st.integers(0, 2**63 - 1) | st.integers(0, 400_000),
    st.none() | st.integers(0, 400_000) | st.integers(0, 2**63 - 1),
    st.none() | st.integers(0, 400_000),
    st.none() | st.integers(0, 400_000),
    st.none(),
    st.sampled_from([None, "gpt-5", "gpt-4o-2024-08-06", "claude-sonnet-4-5", "gemini-2.5-pro", "odd", "endless",
                     "text-embedding-3-small", "nobody/knows", "", "x" * 300]),
)  # fmt: skip


@given(usages)
def test_prices_are_those_of_the_long_way(usage: Usage) -> None:
    """A rate that is ready to be multiplied gives the same dollars as the price itself, to the last bit."""
    known = None
    if usage.model is not None and usage.input_tokens is not None:
        known = TABLE._unusual_usd(usage)
    found = TABLE.price_usd(usage)
    assert found == known or (
        found is not None and known is not None and math.isnan(found) and math.isnan(known)
    )


def test_what_is_learned_is_bounded() -> None:
    """Names, reasons and classes that are made up for each call do not fill the memory, and nothing is misread."""
    table = PriceTable()
    for number in range(1_200):
        name = f"m{number}"
        kind = type("Made", (Plain,), {} if number % 2 else {"usage": None})
        value = objects(kind)({**CHAT, "model": name, "choices": [{"finish_reason": f"r{number}"}]})
        usage = extract_usage(value)
        assert usage == Usage(100, 50, 40, None, 20, name, "c1", (f"r{number}",))
        table.price_usd(usage)
    assert len(UNPRICED) <= 1_024
    assert len(table.rates) <= 1_024
    assert len(quick._REASONS) <= 256
    assert max(len(quick._MODELS), len(quick._PLAIN), len(quick._STRANGE)) <= 64


class Touchy:
    """Cannot be compared with anything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError


@pytest.mark.parametrize("place", range(9))
def test_a_reading_may_have_anything_in_it(place: int) -> None:
    """Whatever one says, it raises nothing, and the others say what they said."""
    usual = (5, 2, 1, None, 0, "gpt-5", "id", None, None)
    odd = (*usual[:place], Touchy(), *usual[place + 1 :])
    _, found, _ = usages_of([usual, odd, usual], TABLE.rates)
    alone = usage_of(odd, TABLE.rates)
    assert (found is None) == (alone is None)
    assert next(usages_of([usual], TABLE.rates)) == next(usages_of([usual, odd], TABLE.rates))
