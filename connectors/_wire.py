"""What several wire formats share: compression with a limit on the result, and protobuf messages.

Messages are described in Python and built by the protobuf runtime at import: no generated file to keep in step, no
`protoc` to install, and parsing is still done by the runtime's C code.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as ProtobufError

from connectors import DecodeError

MAX_DECODED_BYTES = 64 * 1024 * 1024
_TYPES = {
    name: getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("double", "int64", "int32", "uint32", "uint64", "fixed32", "fixed64", "bool", "string", "bytes")
}
_GZIP_MAGIC = b"\x1f\x8b"

FieldSpec = tuple[int, str, str]


def protobuf_messages(package: str, schema: Mapping[str, Sequence[FieldSpec]]) -> dict[str, Any]:
    """Message classes for a schema: message name -> fields (number, name, type).

    A type is a scalar's name ("int64") or another message of the schema; "repeated " before it makes a list,
    "optional " lets `HasField` tell a scalar that was not sent from a zero. The classes are `Any` because their
    attributes exist only at run time.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for message_name, fields in schema.items():
        message = file.message_type.add(name=message_name)
        for number, name, kind in fields:
            how, _, scalar = kind.rpartition(" ")
            described = message.field.add(name=name, number=number)
            described.label = described.LABEL_REPEATED if how == "repeated" else described.LABEL_OPTIONAL
            if how == "optional":  # protobuf writes that as a choice of one
                described.proto3_optional = True
                described.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{name}")
            if scalar in _TYPES:
                described.type = _TYPES[scalar]
            else:
                described.type = described.TYPE_MESSAGE
                described.type_name = f".{package}.{scalar}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in schema}


def parse_protobuf(message: Any, body: bytes) -> Any:
    """A message from its bytes; raises `DecodeError`."""
    try:
        return message.FromString(body)
    except ProtobufError as error:
        raise DecodeError("bad_protobuf", f"the body is not a {message.DESCRIPTOR.full_name}: {error}") from error


def unsnappy(body: bytes, max_bytes: int = MAX_DECODED_BYTES) -> bytes:
    """Decompress a raw snappy block, whose first bytes say how large it becomes; raises `DecodeError`."""
    if not body:
        raise DecodeError("empty_body", "the body is empty; a snappy-compressed protobuf message was expected")
    try:
        size = cramjam.snappy.decompress_raw_len(body)
        if size > max_bytes:
            detail = f"the body would be {size} bytes decompressed; at most {max_bytes} are taken: send smaller batches"
            raise DecodeError("body_too_large", detail, 413)
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise DecodeError("bad_snappy", f"the body is not a snappy block: {error}") from error


def gunzip(body: bytes, max_bytes: int = MAX_DECODED_BYTES) -> bytes:
    """Decompress gzip; raises `DecodeError`."""
    return _inflate(body, "gzip", 31, max_bytes)


def unencoded(body: bytes, headers: Mapping[str, str], known: Sequence[str]) -> bytes:
    """A body without its `Content-Encoding`, gzip or deflate where it is `known`; raises `DecodeError`.

    An HTTP server may have undone gzip and deflate already and left the header: a body that is not so encoded is taken
    as it is. "deflate" is raw or in zlib's envelope, as senders differ.
    """
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in known:
        offered = ", ".join(["plain", *known])
        raise DecodeError("unsupported_encoding", f"{encoding!r} is not supported; send one of {offered}", 415)
    if encoding == "gzip":
        return gunzip(body) if body.startswith(_GZIP_MAGIC) else body
    for wbits in (zlib.MAX_WBITS, -zlib.MAX_WBITS) if encoding == "deflate" else ():
        try:
            return _inflate(body, "deflate", wbits, MAX_DECODED_BYTES)
        except DecodeError as error:
            if error.status == 413:
                raise
    return body


def _inflate(body: bytes, name: str, wbits: int, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=wbits)
    try:
        out = inflater.decompress(body, max_bytes)
    except zlib.error as error:
        raise DecodeError(f"bad_{name}", f"the body is not {name}: {error}") from error
    if inflater.unconsumed_tail:
        raise _too_large(max_bytes)
    if not inflater.eof:
        raise DecodeError(f"bad_{name}", f"the {name} body ends too early")
    return out


def _too_large(max_bytes: int) -> DecodeError:
    return DecodeError("body_too_large", f"the body is over {max_bytes} bytes decompressed: send smaller batches", 413)


def media_type(headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The media type of a body in lower case, and its parameters; ("", {}) if the header is missing."""
    name, *rest = headers.get("Content-Type", "").split(";")
    pairs = (parameter.partition("=") for parameter in rest)
    return name.strip().lower(), {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
