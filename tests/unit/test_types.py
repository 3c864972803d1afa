"""The words for types: what is written is read back, and what is wrong says how to write it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.datasets.types import arrow_of, column_type, param_type, type_text
from tests.fix_datasets import message

PLAIN = ("bool", "int32", "int64", "float32", "float64", "string", "date", "timestamp", "timestamp(tz)")
WORDS = (*PLAIN, "int8", "int16", "binary", "time", "decimal(38,0)", "decimal(12,2)", "decimal(1,1)")
SCALAR_PARAMS = (*PLAIN, "enum", "decimal(9,3)")

column_texts = st.recursive(
    st.sampled_from(WORDS),
    lambda inner: st.one_of(
        inner.map(lambda t: f"list<{t}>"),
        st.tuples(inner, inner).map(lambda t: f"map<{t[0]}, {t[1]}>"),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda ts: f"struct<{', '.join(f'f{i}: {t}' for i, t in enumerate(ts))}>"
        ),
    ),
    max_leaves=6,
)


@given(column_texts)
def test_a_column_type_is_written_as_it_was_read(text: str) -> None:
    assert type_text(column_type(text)) == text


@given(column_texts)
def test_white_space_does_not_matter(text: str) -> None:
    spaced = text.replace("<", " < ").replace(">", " > ").replace(",", " , ").replace(":", " : ")
    assert column_type(f"  {spaced} ") == column_type(text)


@given(st.sampled_from(SCALAR_PARAMS), st.sampled_from(SCALAR_PARAMS))
def test_a_parameter_type_is_written_as_it_was_read(key: str, item: str) -> None:
    for text in (item, f"list<{item}>", f"map<{key}, {item}>"):
        assert str(param_type(text)) == text


@given(st.text(max_size=40))
def test_any_text_is_a_type_or_a_value_error(text: str) -> None:
    for parse in (column_type, param_type):
        assert message(lambda parse=parse: parse(text)) != ""  # type: ignore[misc]


def test_timestamps_have_microseconds_and_utc() -> None:
    assert column_type("timestamp") == pa.timestamp("us")
    assert column_type("timestamp(tz)") == pa.timestamp("us", "UTC")


def test_an_enum_travels_as_a_string() -> None:
    assert arrow_of(param_type("list<enum>")) == pa.list_(pa.string())
    assert arrow_of(param_type("map<int32, decimal(9,3)>")) == pa.map_(pa.int32(), pa.decimal128(9, 3))
    assert arrow_of(param_type("timestamp(tz)")) == pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a type's name is missing"),
        ("flaot32", "did you mean 'float32'"),
        ("Int32", "did you mean 'int32'"),
        ("decimal", "write decimal(precision, scale)"),
        ("decimal(12)", "write decimal(precision, scale)"),
        ("decimal(39,0)", "decimal(39,0) is out of range"),
        ("decimal(0,0)", "decimal(0,0) is out of range"),
        ("decimal(4,5)", "decimal(4,5) is out of range"),
        ("decimal(٣,1)", "is not a type"),
        ("list", "list<int32>"),
        ("list<int32", "a '>' is missing"),
        ("list<int32>>", "'>' is left over"),
        ("list<int32, int32>", "write list<int32>"),
        ("map<int32>", "write map<int32, float64>"),
        ("struct<int32>", "write struct<a: int32, b: string>"),
        ("int32 int32", "'int32' is left over"),
        ("int32;", "nothing is known that starts with ';'"),
    ],
)
def test_a_wrong_type_says_how_to_write_it(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        column_type(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["binary", "int8", "time", "struct<a: int32>", "list<list<int32>>", "identifier", "raw"]
)
def test_a_parameter_has_only_types_that_are_literals(text: str) -> None:
    with pytest.raises(ValueError):
        param_type(text)
