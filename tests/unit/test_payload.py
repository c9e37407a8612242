"""Payloads: what may be sent, what is received, and where it lies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.errors import BadPayloadError, BusyError
from meshcore.payload import (
    KIND_BYTES,
    KIND_TEXT,
    KIND_VALUE,
    Assembly,
    LivePayload,
    Payload,
    Spool,
    classify,
    decode_body,
    decode_value,
    encode_body,
    encode_value,
    json_text,
)

MIB = 1024 * 1024

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_every_value_arrives_as_it_was_sent(value):
    kind, body = encode_body(value)
    received = Payload(kind, bytes(body))
    assert received.value == value
    assert type(received.value) is type(value)


@given(st.integers(-1, 4), st.binary())
def test_any_bytes_decode_or_are_refused_with_a_bad_payload_error(kind, body):
    with contextlib.suppress(BadPayloadError):
        decode_body(kind, body)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2, 3, {4}]}, 'payload["a"][3]: set cannot be sent; use None, bool, int, float'),
        (object(), "payload: object cannot be sent"),
        ([[2**64]], "payload[0][0]: 18446744073709551616 does not fit into 64 bits"),
        ({7: {b"x": 1j}}, "payload[7][b'x']: complex cannot be sent"),
        ({frozenset(): 1}, "payload key frozenset(): frozenset cannot be sent"),
        ("\ud800", "payload: text with a lone surrogate cannot be sent"),
        (["\ud800"], "payload[0]: text with a lone surrogate"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(value, text):
    with pytest.raises(BadPayloadError) as caught:
        encode_body(value)
    assert text in str(caught.value)
    assert caught.value.may_have_run is False


def test_a_list_that_contains_itself_is_refused_and_not_searched_for_ever():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(BadPayloadError, match="nested more than 511"):
        encode_value(loop)


def test_extension_types_are_refused():
    with pytest.raises(BadPayloadError, match="extension type 5"):
        decode_value(b"\xd4\x05\x00")


def test_no_payload_is_falsy_and_none_is_a_payload():
    assert not Payload()
    assert Payload().value is None
    assert Payload().readall() == b""
    assert Payload.of(None)
    assert Payload.of(b"")
    assert Payload.of(0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"raw\x00", b"raw\x00"),
        ("höhe", "höhe".encode()),
        ({"a": [1, None, True]}, b'{"a": [1, null, true]}'),
        (None, b"null"),
        ([b"\x01"], b'[{"base64": "AQ=="}]'),
        (2.5, b"2.5"),
    ],
)
def test_readall_gives_bytes_text_and_json(value, expected):
    payload = Payload.of(value)
    assert payload.readall() == expected
    assert payload.size == len(expected)
    assert b"".join(payload.chunks(3)) == expected
    assert payload.read(3) == b""
    kind, body = encode_body(value)
    assert Payload(kind, bytes(body)).readall() == expected


def test_json_text_takes_every_key_that_messagepack_allows():
    assert json_text({1: 2, b"k": (3,), None: 1.5}) == '{"1": 2, "k": [3], "null": 1.5}'


def assemble(spool, chunks, kind=KIND_BYTES):
    assembly = Assembly(spool, kind)
    for chunk in chunks:
        assembly.feed(chunk)
    assert assembly.size == sum(map(len, chunks))
    return assembly.finish()


def test_a_body_to_one_mebibyte_stays_in_memory_and_a_larger_one_goes_to_a_file(tmp_path):
    spool = Spool(directory=tmp_path)
    small = assemble(spool, [b"a" * MIB])
    assert small.path is None
    assert spool.memory_used == MIB
    chunks = [bytes([index]) * (MIB // 4) for index in range(5)]
    large = assemble(spool, [memoryview(chunk) for chunk in chunks])
    assert large.path is not None
    assert stat.S_IMODE(large.path.stat().st_mode) == 0o600
    assert (spool.memory_used, spool.file_used) == (MIB, 5 * MIB // 4)
    assert large.size == 5 * MIB // 4
    assert large.readall() == large.value == b"".join(chunks)
    assert large.read(MIB // 4) == chunks[0]
    assert b"".join(large.chunks()) == b"".join(chunks[1:])


@pytest.mark.parametrize("how", ["closed", "collected", "aborted"])
def test_a_body_gives_back_memory_file_and_budget(tmp_path, how):
    spool = Spool(directory=tmp_path)
    assembly = Assembly(spool, KIND_BYTES)
    for _ in range(5):
        assembly.feed(b"x" * (MIB // 4))
    assert len(list(tmp_path.iterdir())) == 1
    if how == "aborted":
        assembly.abort()
    else:
        payload = assembly.finish()
        if how == "closed":
            payload.close()
            payload.close()
            assert payload.readall() == b""
        del payload, assembly
        gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert (spool.memory_used, spool.file_used) == (0, 0)


def test_over_the_memory_budget_even_a_small_body_goes_to_a_file(tmp_path):
    spool = Spool(memory_max=1000, directory=tmp_path)
    first = assemble(spool, [b"a" * 600])
    second = assemble(spool, [b"b" * 300, b"c" * 300])
    assert first.path is None
    assert second.path is not None
    assert second.readall() == b"b" * 300 + b"c" * 300
    assert (spool.memory_used, spool.file_used) == (600, 600)


def test_over_the_file_budget_a_body_is_refused_as_busy(tmp_path):
    spool = Spool(memory_max=0, bytes_max=1000, directory=tmp_path)
    kept = assemble(spool, [b"a" * 900])
    assembly = Assembly(spool, KIND_BYTES)
    with pytest.raises(BusyError, match="900 of 1000 bytes") as caught:
        assembly.feed(b"b" * 200)
    assert caught.value.may_have_run is False
    assembly.abort()
    assert spool.file_used == 900
    kept.close()


def test_a_large_value_and_a_large_text_are_decoded_from_their_files(tmp_path):
    spool = Spool(memory_max=0, directory=tmp_path)
    value = {"numbers": list(range(1000))}
    assert assemble(spool, [encode_value(value)], KIND_VALUE).value == value
    text = "ü" * 1000
    payload = assemble(spool, [text.encode()[:999], text.encode()[999:]], KIND_TEXT)
    assert payload.value == text
    assert payload.size == 2000


def test_purge_removes_only_what_an_earlier_life_spooled(tmp_path):
    spool = Spool(directory=tmp_path)
    (tmp_path / "meshcore-body-left").write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"x")
    assert spool.purge() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert Spool().purge() == 0


def test_a_payload_is_saved_whole_or_not_at_all(tmp_path):
    data = os.urandom(700_000)
    asyncio.run(Payload.of(data).save(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data

    async def broken():
        live = LivePayload(KIND_BYTES)
        live.feed(b"half")
        live.fail(BusyError("lost"))
        await live.save(tmp_path / "partial")

    with pytest.raises(BusyError):
        asyncio.run(broken())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_live_payload_is_taken_as_it_comes_and_tells_what_was_taken():
    async def scenario():
        taken = []
        live = LivePayload(KIND_BYTES, taken=taken.append, size=9)
        assert live.size == 9
        seen = []
        got_first = asyncio.Event()

        async def read():
            async for chunk in live:
                seen.append(chunk)
                got_first.set()

        reader = asyncio.create_task(read())
        live.feed(b"abc")
        async with asyncio.timeout(5):
            await got_first.wait()
        assert (seen, taken) == ([b"abc"], [3])
        live.feed(memoryview(b"defghi"))
        live.finish()
        live.feed(b"late")
        async with asyncio.timeout(5):
            await reader
        assert (seen, taken) == ([b"abc", b"defghi"], [3, 6])
        with pytest.raises(RuntimeError, match="async for"):
            live.readall()

    asyncio.run(scenario())


async def collect(source, n):
    try:
        return [chunk async for chunk in source.chunks(n)]
    finally:
        await source.close()


def test_plain_values_are_no_sources_and_a_str_is_never_a_path(tmp_path):
    for value in (None, b"x", str(tmp_path), 1, [1], {}, bytearray(b"x"), object(), {1}):
        assert classify(value) is None


def test_paths_files_and_bytesio_are_sent_in_pieces(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"0123456789")
    source = classify(path)
    path.unlink()  # it was opened at once
    assert source.size == 10
    assert asyncio.run(collect(source, 4)) == [b"0123", b"4567", b"89"]
    buffer = io.BytesIO(b"0123456789")
    buffer.seek(3)
    source = classify(buffer)
    assert source.size == 7
    assert asyncio.run(collect(source, 4)) == [b"3456", b"789"]
    assert not buffer.closed  # the caller's own


def test_a_pipe_is_sent_as_it_comes_without_blocking_the_loop():
    async def scenario():
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb", buffering=0) as writer:
            source = classify(reader)
            assert source.size is None
            chunks = source.chunks(100)
            waiting = asyncio.ensure_future(anext(chunks))
            writer.write(b"now")  # the loop is free while the reader waits
            async with asyncio.timeout(5):
                assert await waiting == b"now"
                writer.close()
                assert [chunk async for chunk in chunks] == []

    asyncio.run(scenario())


def test_an_async_iterator_is_cut_to_size_and_closed():
    closed = []

    async def pieces():
        try:
            yield b"abcdef"
            yield b""
            yield bytearray(b"gh")
        finally:
            closed.append(True)

    assert asyncio.run(collect(classify(pieces()), 4)) == [b"abcd", b"ef", b"gh"]
    assert closed == [True]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda tmp: tmp / "missing", "No such file"),
        (lambda tmp: tmp, "is a directory"),
        (lambda tmp: io.StringIO("x"), "open it with mode 'rb'"),
    ],
)
def test_what_cannot_be_opened_is_refused_at_the_call(tmp_path, make, text):
    with pytest.raises(BadPayloadError, match=text):
        classify(make(tmp_path))


def test_a_file_that_shrinks_while_it_is_sent_is_an_error(tmp_path):
    path = Path(tmp_path / "in")
    path.write_bytes(b"0123456789")
    source = classify(path)
    os.truncate(path, 6)
    with pytest.raises(BadPayloadError, match="4 bytes shorter"):
        asyncio.run(collect(source, 4))


def test_an_iterator_of_something_else_than_bytes_is_an_error():
    async def words():
        yield "text"

    with pytest.raises(BadPayloadError, match="gave str, expected bytes"):
        asyncio.run(collect(classify(words()), 4))
