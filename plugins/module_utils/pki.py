# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A cluster's own certificate authority, and the keys that its machines and its controller use."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory, write_private

_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 730
#: a certificate with less time left than this is made anew
_RENEW_DAYS = 90


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # a guest's clock may be a little behind
        .not_valid_before(_now() - datetime.timedelta(hours=1))
        .not_valid_after(_now() + datetime.timedelta(days=days))
    )


def ensure_authority(directory: Path, cluster: str) -> None:
    """Make ``ca.pem`` and ``ca-key.pem`` in *directory* unless both are there."""
    private_directory(directory)
    if (directory / "ca.pem").exists() and (directory / "ca-key.pem").exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Apiary cluster {cluster}")])
    certificate = (
        _builder(f"Apiary cluster {cluster}", name, key, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(directory / "ca-key.pem", _key_pem(key))
    write_private(directory / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))


def _still_good(certificate_path: Path, key_path: Path, authority: x509.Certificate, addresses: list[str]) -> bool:
    if not certificate_path.exists() or not key_path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    if addresses:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if {str(address) for address in names.get_values_for_type(x509.IPAddress)} != set(addresses):
            return False
    return certificate.not_valid_after_utc - _now() > datetime.timedelta(days=_RENEW_DAYS)


def ensure_certificate(
    authority_directory: Path, certificate_path: Path, key_path: Path, subject: str, addresses: list[str]
) -> bool:
    """Make a key and a certificate unless there is a good one; return whether one was made.

    With *addresses* (IP addresses) it is a server's, valid for those; without, a client's.
    """
    authority = x509.load_pem_x509_certificate((authority_directory / "ca.pem").read_bytes())
    if _still_good(certificate_path, key_path, authority, addresses):
        return False
    authority_key = _authority_key(authority_directory)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if addresses else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(subject, authority.subject, key, _LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if addresses:
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority_key, hashes.SHA256())
    write_private(key_path, _key_pem(key))
    write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    return True


def _authority_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ApiaryError(f"{directory}/ca-key.pem is not an authority's key of Apiary: remove the directory")
    return key


def ensure_revocations(directory: Path) -> bytes:
    """Make the list of revoked certificates, ``crl.pem``, unless the authority's own is there, and return it.

    Servers that are given one refuse every client once it has run out, so that it holds as long as the authority.
    """
    if _revocations(directory) is None:
        _write_revocations(directory, ())
    return (directory / "crl.pem").read_bytes()


def revoked(directory: Path) -> set[int]:
    """Return the serial numbers of the certificates that are revoked."""
    found = _revocations(directory)
    return {entry.serial_number for entry in found} if found is not None else set()


def revoke(directory: Path, serials: Iterable[int]) -> None:
    """Add certificates to the list of revoked ones."""
    _write_revocations(directory, revoked(directory) | set(serials))


def _revocations(directory: Path) -> x509.CertificateRevocationList | None:
    """Return the authority's list; None where there is none, or one of an authority that was lost."""
    authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    public_key = authority.public_key()
    try:
        found = x509.load_pem_x509_crl((directory / "crl.pem").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(public_key):
        return None
    return found


def _write_revocations(directory: Path, serials: Iterable[int]) -> None:
    authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    # a guest's clock may be a little behind, and does not accept a list from the future
    began = _now() - datetime.timedelta(hours=1)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(began)
        .next_update(authority.not_valid_after_utc)
    )
    for serial in sorted(serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(began).build()
        builder = builder.add_revoked_certificate(entry)
    made = builder.sign(_authority_key(directory), hashes.SHA256())
    write_private(directory / "crl.pem", made.public_bytes(serialization.Encoding.PEM))


def ensure_ssh_key(path: Path, comment: str) -> str:
    """Make an Ed25519 key for SSH unless *path* is there; return its public half as one line."""
    public_path = path.with_name(path.name + ".pub")
    if not path.exists() or not public_path.exists():
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        write_private(path, private)
        write_private(public_path, public + b" " + comment.encode() + b"\n")
    return public_path.read_text().strip()
