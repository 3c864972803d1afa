"""Whether every value of one Arrow type fits another without loss: what a contract may declare for a query."""

from __future__ import annotations

import pyarrow as pa

# Digits that every integer of a type fits in, and integers that every float of a type holds exactly.
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
_EXACT_DIGITS = {16: 3, 32: 7, 64: 15}
_EXACT_BITS = {16: 8, 32: 16, 64: 32}


def fits(produced: pa.DataType, declared: pa.DataType) -> bool:
    """True when no value of `produced` can be changed or refused by becoming `declared`."""
    if produced == declared:
        return True
    if pa.types.is_nested(declared):
        return _nested(produced, declared)
    if pa.types.is_decimal(produced):
        return _decimal(produced, declared)
    if pa.types.is_signed_integer(produced):
        return _integer(produced.bit_width, declared)
    if pa.types.is_unsigned_integer(produced):
        return produced.bit_width < 64 and _integer(produced.bit_width * 2, declared)
    if pa.types.is_floating(produced):
        return bool(pa.types.is_floating(declared)) and produced.bit_width <= declared.bit_width
    if pa.types.is_timestamp(produced) and pa.types.is_timestamp(declared):
        return (produced.tz is None) == (declared.tz is None)
    if pa.types.is_date(produced):
        return bool(pa.types.is_timestamp(declared)) and declared.tz is None
    return any(
        test(produced) and test(declared)
        for test in (_is_text, _is_bytes, pa.types.is_date, pa.types.is_time, pa.types.is_null)
    )


def _integer(bits: int, declared: pa.DataType) -> bool:
    if pa.types.is_signed_integer(declared):
        return bits <= int(declared.bit_width)
    if pa.types.is_floating(declared):
        return bits <= _EXACT_BITS[int(declared.bit_width)]
    return bool(pa.types.is_decimal(declared)) and int(declared.precision - declared.scale) >= _DIGITS[bits]


def _decimal(produced: pa.DataType, declared: pa.DataType) -> bool:
    whole = produced.precision - produced.scale
    if pa.types.is_decimal(declared):
        return bool(whole <= declared.precision - declared.scale and produced.scale <= declared.scale)
    if pa.types.is_signed_integer(declared) and produced.scale == 0:
        # DuckDB sums integers as HUGEINT, which arrives as decimal(38,0); Athena's sum is a bigint.
        return bool(whole < _DIGITS[declared.bit_width] or (whole == 38 and declared.bit_width == 64))
    return bool(pa.types.is_floating(declared)) and produced.precision <= _EXACT_DIGITS[declared.bit_width]


def _nested(produced: pa.DataType, declared: pa.DataType) -> bool:
    if pa.types.is_map(declared):
        return bool(pa.types.is_map(produced)) and all(
            fits(a, b) for a, b in ((produced.key_type, declared.key_type), (produced.item_type, declared.item_type))
        )
    if pa.types.is_struct(declared):
        return (
            bool(pa.types.is_struct(produced))
            and [f.name for f in produced] == [f.name for f in declared]
            and all(fits(a.type, b.type) for a, b in zip(produced, declared, strict=True))
        )
    return _is_list(produced) and fits(produced.value_type, declared.value_type)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
