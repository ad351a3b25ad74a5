# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates as docker-machine makes them, and its handshake with an engine, with errors in Go's words."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from stand_in.settings import fault

_DAYS = 1080
_DIAL_SECONDS = 20
_PLAIN = "tls: first record does not look like a TLS handshake"
#: OpenSSL's numbers for what is wrong with a certificate
_OUT_OF_TIME, _UNKNOWN = (9, 10), (2, 18, 19, 20, 21)


class HandshakeError(Exception):
    """Why an engine could not be talked to."""


def make_authority(certificate: Path, key: Path, organization: str) -> None:
    _make(certificate, key, organization, None, None)


def make(certificate: Path, key: Path, organization: str, authority: tuple[Path, Path], hosts: Sequence[str]) -> None:
    """Make a server's certificate for *hosts*, or without them a client's."""
    _make(certificate, key, organization, authority, hosts)


def _make(
    certificate_path: Path,
    key_path: Path,
    organization: str,
    authority: tuple[Path, Path] | None,
    hosts: Sequence[str] | None,
) -> None:
    # this takes as long as the rest of a call that does without
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = issuer = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    signing_key = key
    if authority:
        issuer = x509.load_pem_x509_certificate(authority[0].read_bytes()).subject
        loaded = serialization.load_pem_private_key(authority[1].read_bytes(), None)
        if not isinstance(loaded, rsa.RSAPrivateKey):
            raise HandshakeError("tls: private key type does not match public key type")
        signing_key = loaded
    now = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
    # A little back, for guests whose clocks are behind.
    begins = now - datetime.timedelta(minutes=5)
    ends = begins + datetime.timedelta(days=_DAYS)
    if hosts and fault("certificate-expired") is not None:
        begins, ends = begins - datetime.timedelta(days=_DAYS + 1), begins - datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=bool(hosts) or authority is None,
                data_encipherment=False,
                key_agreement=bool(hosts) or authority is None,
                key_cert_sign=authority is None,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if authority:
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if hosts:
        names = [_name(host) for host in hosts]
        builder = builder.add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(name) if not isinstance(name, str) else x509.DNSName(name) for name in names]
            ),
            critical=False,
        )
    certificate = builder.sign(signing_key, hashes.SHA256())
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(
        key_path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ),
    )


def _name(host: str) -> str | ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return host


def _write_key(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def make_ssh_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write_key(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ),
    )
    path.with_suffix(".pub").write_bytes(public + b"\n")


def is_current(certificate: Path) -> bool:
    from cryptography import x509

    ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return datetime.datetime.now(datetime.UTC) <= ends


def connect(host: str, authority: Path, certificate: Path, key: Path) -> ssl.SSLSocket:
    """Connect to *host* (ADDRESS:PORT) as docker-machine does."""
    address, _, port = host.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # done below, in Go's words
    for path in (authority, certificate, key):
        if not path.is_file():
            raise HandshakeError(f"open {path}: no such file or directory")
    context.load_verify_locations(authority)
    context.load_cert_chain(certificate, key)
    try:
        connection = socket.create_connection((address, int(port)), timeout=_DIAL_SECONDS)
    except TimeoutError as error:
        raise HandshakeError(f"dial tcp {host}: i/o timeout") from error
    except OSError as error:
        raise HandshakeError(f"dial tcp {host}: connect: {os.strerror(error.errno or 0).lower()}") from error
    try:
        secured = context.wrap_socket(connection, server_hostname=None)
    except ssl.SSLCertVerificationError as error:
        raise HandshakeError(_words(error)) from error
    except ssl.SSLEOFError as error:
        raise HandshakeError("EOF") from error
    except ssl.SSLError as error:
        raise HandshakeError(_PLAIN) from error
    except TimeoutError as error:
        raise HandshakeError("tls: DialWithDialer timed out") from error
    except OSError as error:
        raise HandshakeError(f"read tcp {host}: read: {os.strerror(error.errno or 0).lower()}") from error
    alternatives = (secured.getpeercert() or {}).get("subjectAltName", ())
    names = [str(pair[1]) for pair in alternatives if pair[0] == "IP Address"]
    if address not in names:
        secured.close()
        raise HandshakeError(
            f"x509: certificate is valid for {', '.join(names)}, not {address}"
            if names
            else f"x509: cannot validate certificate for {address} because it doesn't contain any IP SANs"
        )
    return secured


def _words(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OUT_OF_TIME:
        return "x509: certificate has expired or is not yet valid"
    if error.verify_code in _UNKNOWN:
        return "x509: certificate signed by unknown authority"
    return (
        'x509: certificate signed by unknown authority (possibly because of "crypto/rsa: verification error" while '
        "trying to verify candidate authority certificate)"
    )


def _is_http(host: str) -> bool:
    address, _, port = host.rpartition(":")
    try:
        with socket.create_connection((address, int(port)), timeout=_DIAL_SECONDS) as connection:
            connection.sendall(b"\x16\x03\x01\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def engine_version(host: str, authority: Path, certificate: Path, key: Path) -> str:
    """Ask the engine for its version; errors are those of docker-machine's old client."""
    try:
        with connect(host, authority, certificate, key) as secured:
            connection = http.client.HTTPConnection(host)
            connection.sock = secured
            connection.request("GET", "/v1.15/version")
            return str(json.loads(connection.getresponse().read())["Version"])
    except HandshakeError as error:
        if "connection refused" in str(error):
            raise HandshakeError(
                "Unable to query docker version: Cannot connect to the docker engine endpoint"
            ) from error
        reason = "http: server gave HTTP response to HTTPS client" if str(error) == _PLAIN and _is_http(host) else error
        raise HandshakeError(f'Unable to query docker version: Get "https://{host}/v1.15/version": {reason}') from error
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise HandshakeError(
            f'Unable to query docker version: Get "https://{host}/v1.15/version": remote error: {error}'
        ) from error
