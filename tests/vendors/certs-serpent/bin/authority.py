"""Authorities that sign with Debian's python3-cryptography."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mkplugin import Refused

DAY = datetime.timedelta(days=1)
CA_LIFE = 3650 * DAY
USAGES = {"server-auth": ExtendedKeyUsageOID.SERVER_AUTH, "client-auth": ExtendedKeyUsageOID.CLIENT_AUTH}


def moment(timestamp):
    """A protobuf Timestamp as cryptography wants it: UTC, without a zone."""
    return datetime.datetime.utcfromtimestamp(timestamp.seconds)


def pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def key_usage(**wanted):
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{u: wanted.get(u, False) for u in every})


def build(subject, issuer, key, issuer_key, begin, end):
    return (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(issuer).public_key(key).serial_number(x509.random_serial_number())
        .not_valid_before(begin).not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def make(name, generation, now):
    """A new authority, as JSON keeps it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"serpent-{name}-{generation}")])
    begin = moment(now)
    cert = (
        build(subject, subject, key.public_key(), key.public_key(), begin, begin + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"key": private.decode(), "certificate": pem(cert)}


def sign(authority, request, now, longest):
    """The certificate for a request. What it says stands beside the CSR, which
    gives the key only: the core has checked both."""
    try:
        csr = x509.load_pem_x509_csr(request.csr)
    except ValueError as e:
        raise Refused("BAD_ARGUMENT", f"the request {request.id}: {e}") from e
    if not csr.is_signature_valid:
        raise Refused("BAD_ARGUMENT", f"the request {request.id} was not signed by its key")
    ca = x509.load_pem_x509_certificate(authority["certificate"].encode())
    key = serialization.load_pem_private_key(authority["key"].encode(), None)

    life = min(datetime.timedelta(seconds=request.life.seconds) or longest, longest)
    begin = max(moment(now), ca.not_valid_before)
    end = min(begin + life, ca.not_valid_after)
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in request.organizations]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, request.common_name))
    builder = (
        build(x509.Name(subject), ca.subject, csr.public_key(), ca.public_key(), begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(**{u.replace("-", "_"): True for u in request.key_usages}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([USAGES[u] for u in request.extended_key_usages]), critical=False)
    )
    names = [x509.DNSName(n) for n in request.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(a)) for a in request.ip_addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return pem(builder.sign(key, hashes.SHA256()))
