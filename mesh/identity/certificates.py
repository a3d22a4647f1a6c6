"""What a certificate says of itself."""

from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature

E = TypeVar("E", bound=x509.ExtensionType)


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """With the key of `issuer`, in its name. Whether it may sign is not looked at."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether it is that of an authority."""
    constraints = extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def uris(certificate: x509.Certificate) -> list[str]:
    names = extension(certificate, x509.SubjectAlternativeName)
    return names.get_values_for_type(x509.UniformResourceIdentifier) if names else []


def extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """None for a certificate without one."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
