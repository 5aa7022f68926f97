"""TLS servers on loopback: a certificate authority of a test's own, and a server that it vouches for."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_server_context(authority: Path, hosts: Sequence[str]) -> ssl.SSLContext:
    """The context of a server for all of `hosts`; who trusts the certificate left at `authority` trusts
    it."""
    ours, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    top = _builder("authority", ours.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    # A server of its own below it: rustls takes no authority for one.
    names = [_general_name(host) for host in hosts]
    leaf = _builder("server", theirs.public_key()).add_extension(
        x509.SubjectAlternativeName(names), critical=False
    )
    authority.write_bytes(top.sign(ours, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = theirs.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    served = leaf.sign(ours, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as both:
        both.write(private + served)
        both.flush()
        context.load_cert_chain(both.name)
    return context


def _builder(name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("authority"))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} on loopback")])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
