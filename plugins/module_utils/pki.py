# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A cluster's own certificate authority, and the keys that its machines and its controller use."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory, write_private

_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 730
#: a certificate with less time left than this is made anew
_RENEW_DAYS = 90
#: the certificate that an authority had first, which containers were labelled with, kept when it gets another one
_FIRST = "ca-first.pem"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    """Return what all certificates have in common. Strict clients want to see whose key is whose."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # a guest's clock may be a little behind
        .not_valid_before(_now() - datetime.timedelta(hours=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        encipher_only=False,
        decipher_only=False,
    )


def ensure_authority(directory: Path, cluster: str) -> None:
    """Make ``ca.pem`` and ``ca-key.pem`` in *directory* unless both are there and good.

    An outdated certificate is replaced by another one for the same name and key. What the authority has signed stays
    good with either, and so do machines and persons that only have the old one.
    """
    private_directory(directory)
    path, key_path = directory / "ca.pem", directory / "ca-key.pem"
    if not path.exists() and not key_path.exists():
        write_private(key_path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    key = _authority_key(directory)
    name = _name(f"Apiary cluster {cluster}")
    if path.exists():
        if not authority_is_outdated(directory):
            return
        name = _authority(directory).subject
        if not (directory / _FIRST).exists():
            write_private(directory / _FIRST, path.read_bytes())
    certificate = (
        _builder(name, name, key, key)
        .not_valid_after(_now() + datetime.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_others=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))


def authority_is_outdated(directory: Path) -> bool:
    """Say whether the authority's certificate is one that strict clients refuse; ApiaryError where it is broken."""
    authority, key = _authority(directory), _authority_key(directory)
    if authority.public_key() != key.public_key():
        raise _broken(directory, "ca.pem and ca-key.pem do not belong together")
    return not is_strict_authority(authority)


def is_strict_authority(certificate: x509.Certificate) -> bool:
    """Say whether an authority's certificate has what OpenSSL's strict checks ask for, which Python makes from 3.13 on.

    Without, whatever it has signed is refused.
    """
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return False


def first_certificate(authority: Path) -> Path:
    """Return the file with the certificate that the authority had first; *authority* is the one that it has now."""
    first = authority.with_name(_FIRST)
    return first if first.exists() else authority


def _broken(directory: Path, what: str) -> ApiaryError:
    return ApiaryError(
        f"the cluster's authority in {directory} is broken: {what}. Put its files back from a copy ("
        f"{directory.parent}/client/ca.pem is one of ca.pem). If there is none of ca-key.pem, remove {directory}: "
        "playbooks/site.yml makes another authority, and has all machines made anew or started again for it; persons "
        "that were let in have to be let in again"
    )


def _authority(directory: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    except (OSError, ValueError) as error:
        raise _broken(directory, f"{directory}/ca.pem cannot be read ({error})") from error


def _authority_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _broken(directory, f"{directory}/ca-key.pem cannot be read ({error})") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _broken(directory, f"{directory}/ca-key.pem is not an authority's key of Apiary")
    return key


def is_good(authority_directory: Path, certificate_path: Path, key_path: Path, addresses: list[str]) -> bool:
    """Say whether a certificate is the authority's, for these addresses and this key, and not near its end."""
    authority = _authority(authority_directory)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        certificate.verify_directly_issued_by(authority)
        found = _addresses(certificate)
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return (
        certificate.public_key() == key.public_key()
        and (not addresses or found == set(addresses))
        and certificate.not_valid_after_utc - _now() > datetime.timedelta(days=_RENEW_DAYS)
    )


def _addresses(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def ensure_certificate(
    authority_directory: Path, certificate_path: Path, key_path: Path, subject: str, addresses: list[str]
) -> bool:
    """Make a key and a certificate unless there is a good one; return whether one was made.

    With *addresses* (IP addresses) it is a server's, valid for those; without, a client's.
    """
    if is_good(authority_directory, certificate_path, key_path, addresses):
        return False
    authority, authority_key = _authority(authority_directory), _authority_key(authority_directory)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if addresses else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_name(subject), authority.subject, key, authority_key)
        .not_valid_after(_now() + datetime.timedelta(days=_LEAF_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_others=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if addresses:
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority_key, hashes.SHA256())
    write_private(key_path, _key_pem(key))
    write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    return True


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
    public_key = _authority(directory).public_key()
    try:
        found = x509.load_pem_x509_crl((directory / "crl.pem").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(public_key):
        return None
    return found


def _write_revocations(directory: Path, serials: Iterable[int]) -> None:
    authority, key = _authority(directory), _authority_key(directory)
    # a guest's clock may be a little behind, and does not accept a list from the future
    began = _now() - datetime.timedelta(hours=1)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(began)
        .next_update(authority.not_valid_after_utc)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(_list_number(directory) + 1), critical=False)
    )
    for serial in sorted(serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(began).build()
        builder = builder.add_revoked_certificate(entry)
    made = builder.sign(key, hashes.SHA256())
    write_private(directory / "crl.pem", made.public_bytes(serialization.Encoding.PEM))


def _list_number(directory: Path) -> int:
    """Return the number of the list that is there; 0 for none, and for one from before they had numbers."""
    found = _revocations(directory)
    if found is None:
        return 0
    try:
        return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


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
