"""A self-signed certificate for loopback, made with nothing but the standard library.

For tests and demos only: the arithmetic takes no care to hide its timing. Who needs more brings files of their own.

Source: RFC 5280 (certificates), RFC 5915 (EC private keys), SEC 1 and SEC 2 (ECDSA, the curve P-256).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import datetime, timedelta

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_A = _P - 3
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_VALID_DAYS = 365
Point = tuple[int, int]


def self_signed(now: datetime) -> tuple[bytes, bytes]:
    """Certificate and private key as PEM, valid for 127.0.0.1 and localhost from a day before `now` for a year."""
    private = secrets.randbelow(_N - 1) + 1
    public = _point_bytes(_multiply(private, _G))
    tbs = _to_be_signed(public, now)
    certificate = _sequence(tbs, _sequence(_oid("1.2.840.10045.4.3.2")), _bits(_sign(private, tbs)))
    key = _sequence(
        _integer(1),
        _tagged(0x04, private.to_bytes(32, "big")),
        _tagged(0xA0, _oid("1.2.840.10045.3.1.7")),
        _tagged(0xA1, _bits(public)),
    )
    return _pem("CERTIFICATE", certificate), _pem("EC PRIVATE KEY", key)


def _add(left: Point | None, right: Point | None) -> Point | None:
    if left is None or right is None:
        return left or right
    if left[0] == right[0]:
        if (left[1] + right[1]) % _P == 0:
            return None
        slope = (3 * left[0] * left[0] + _A) * pow(2 * left[1], -1, _P)
    else:
        slope = (right[1] - left[1]) * pow(right[0] - left[0], -1, _P)
    x = (slope * slope - left[0] - right[0]) % _P
    return x, (slope * (left[0] - x) - left[1]) % _P


def _multiply(factor: int, point: Point) -> Point:
    result: Point | None = None
    base: Point | None = point
    while factor:
        if factor & 1:
            result = _add(result, base)
        base = _add(base, base)
        factor >>= 1
    if result is None:
        raise ValueError("the factor is a multiple of the order")
    return result


def _sign(private: int, message: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    while True:
        nonce = secrets.randbelow(_N - 1) + 1
        r = _multiply(nonce, _G)[0] % _N
        s = pow(nonce, -1, _N) * (digest + r * private) % _N
        if r and s:
            return _sequence(_integer(r), _integer(s))


def _point_bytes(point: Point) -> bytes:
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def _to_be_signed(public: bytes, now: datetime) -> bytes:
    name = _sequence(_tagged(0x31, _sequence(_oid("2.5.4.3"), _tagged(0x0C, b"csisidecar embedded API server"))))
    start, end = now - timedelta(days=1), now + timedelta(days=_VALID_DAYS)
    key_id = hashlib.sha1(public, usedforsecurity=False).digest()
    key_info = _sequence(_sequence(_oid("1.2.840.10045.2.1"), _oid("1.2.840.10045.3.1.7")), _bits(public))
    extensions = _sequence(
        _extension("2.5.29.19", _sequence(_tagged(0x01, b"\xff")), critical=True),
        _extension("2.5.29.15", b"\x03\x02\x02\x84", critical=True),
        _extension("2.5.29.37", _sequence(_oid("1.3.6.1.5.5.7.3.1"))),
        _extension("2.5.29.14", _tagged(0x04, key_id)),
        _extension("2.5.29.35", _sequence(_tagged(0x80, key_id))),
        _extension("2.5.29.17", _sequence(_tagged(0x82, b"localhost"), _tagged(0x87, bytes([127, 0, 0, 1])))),
    )
    return _sequence(
        _tagged(0xA0, _integer(2)),
        _integer(secrets.randbits(63) | 1),
        _sequence(_oid("1.2.840.10045.4.3.2")),
        name,
        _sequence(*(_tagged(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode()) for moment in (start, end)))
        if end.year >= 2050
        else _sequence(*(_tagged(0x17, moment.strftime("%y%m%d%H%M%SZ").encode()) for moment in (start, end))),
        name,
        key_info,
        _tagged(0xA3, extensions),
    )


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    mark = _tagged(0x01, b"\xff") if critical else b""
    return _sequence(_oid(oid), mark, _tagged(0x04, value))


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _tagged(0x03, b"\x00" + content)


def _oid(text: str) -> bytes:
    first, second, *rest = (int(part) for part in text.split("."))
    out = bytearray([first * 40 + second])
    for part in rest:
        septets = [part & 0x7F]
        while part := part >> 7:
            septets.append(part & 0x7F | 0x80)
        out += bytes(reversed(septets))
    return _tagged(0x06, bytes(out))


def _pem(label: str, content: bytes) -> bytes:
    text = base64.encodebytes(content).replace(b"\n", b"")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label.encode(), b"\n".join(lines), label.encode())
