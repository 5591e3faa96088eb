"""Signed XML as signers other than ours make it: signxml's own signer, with XAdES's time stamp and values added."""

import base64
import copy
import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner
from signxml.xades.xades import XAdESSigner

from tests.documents.authority import Authority, Holder

DS = "{http://www.w3.org/2000/09/xmldsig#}"
XADES = "{http://uri.etsi.org/01903/v1.3.2#}"
ORDER = b'<order xmlns="urn:bank" Id="order"><sum currency="KZT">1000</sum><to>KZ00</to></order>'
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"

XMLSEC_TEMPLATE = b"""<order xmlns="urn:bank"><sum>1000</sum><Signature xmlns="http://www.w3.org/2000/09/xmldsig#">
<SignedInfo><CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"/>
<Reference URI=""><Transforms><Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
<Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></Transforms>
<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue/></Reference></SignedInfo>
<SignatureValue/><KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature></order>"""


def parsed(content: bytes) -> etree._Element:
    return etree.fromstring(content)


def written(element: etree._Element) -> bytes:
    return bytes(etree.tostring(element))


def method_of(holder: Holder) -> SignatureMethod:
    return (
        SignatureMethod.ECDSA_SHA256
        if isinstance(holder.key, ec.EllipticCurvePrivateKey)
        else SignatureMethod.RSA_SHA256
    )


def xades(
    authority: Authority,
    content: bytes = ORDER,
    *,
    how: SignatureConstructionMethod = SignatureConstructionMethod.enveloped,
    c14n: CanonicalizationMethod = CanonicalizationMethod.CANONICAL_XML_1_0,
    reference_uri: str | None = None,
    signer: Holder | None = None,
    certificates: Sequence[Holder] = (),
) -> etree._Element:
    """XAdES B-B by signxml."""
    holder = signer or authority.signer
    maker = XAdESSigner(
        method=how,
        signature_algorithm=method_of(holder),
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=c14n,
    )
    chain = [holder.certificate, *(item.certificate for item in certificates or (authority.issuing,))]
    return maker.sign(parsed(content), key=holder.key, cert=chain, reference_uri=reference_uri)


def xml_dsig(
    authority: Authority,
    content: bytes = ORDER,
    *,
    c14n: CanonicalizationMethod = CanonicalizationMethod.CANONICAL_XML_1_0,
) -> etree._Element:
    """An XML signature without XAdES."""
    maker = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=method_of(authority.signer),
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=c14n,
    )
    chain = [authority.signer.certificate, authority.issuing.certificate]
    return maker.sign(parsed(content), key=authority.signer.key, cert=chain)


def detached(authority: Authority, content: bytes) -> etree._Element:
    """A signature document over content beside it, named by a reference without URI fragment.

    signxml cannot make one, so one of its enveloping signatures is turned: reference renamed, SignedInfo signed anew.
    """
    document = xades(authority, how=SignatureConstructionMethod.enveloping)
    info = document.find(f"{DS}SignedInfo")
    reference = info.find(f"{DS}Reference")
    reference.set("URI", "contract.txt")
    for transforms in reference.findall(f"{DS}Transforms"):
        reference.remove(transforms)
    reference.find(f"{DS}DigestValue").text = base64_of(hashlib.sha256(content).digest())
    [enveloped] = [found for found in document.findall(f"{DS}Object") if not len(found.findall(f"{XADES}*"))]
    document.remove(enveloped)
    signed_anew = etree.tostring(info, method="c14n", exclusive=False, with_comments=False)
    r, s = utils.decode_dss_signature(authority.signer.sign_digest(hashlib.sha256(signed_anew).digest()))
    document.find(f"{DS}SignatureValue").text = base64_of(r.to_bytes(32) + s.to_bytes(32))
    return document


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def key_pem(holder: Holder) -> bytes:
    """The private key, for tools that sign."""
    return holder.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signature_in(document: etree._Element) -> etree._Element:
    if document.tag == f"{DS}Signature":
        return document
    [found] = document.iter(f"{DS}Signature")
    return found


def stamped(document: etree._Element, authority: Authority, **stamp: object) -> etree._Element:
    """The same with a time stamp on the signature value (B-T)."""
    document = copy.deepcopy(document)
    value = signature_in(document).find(f"{DS}SignatureValue")
    octets = etree.tostring(value, method="c14n", exclusive=False, with_comments=False)
    token = authority.time_stamp(hashlib.sha256(octets).digest(), **stamp)  # type: ignore[arg-type]
    properties = unsigned(document)
    holder = etree.SubElement(properties, f"{XADES}SignatureTimeStamp")
    etree.SubElement(holder, f"{DS}CanonicalizationMethod", Algorithm=C14N)
    etree.SubElement(holder, f"{XADES}EncapsulatedTimeStamp").text = base64.b64encode(token).decode()
    return document


def with_evidence(document: etree._Element, crls: Sequence[bytes]) -> etree._Element:
    """The same with CRLs (B-LT)."""
    document = copy.deepcopy(document)
    values = etree.SubElement(etree.SubElement(unsigned(document), f"{XADES}RevocationValues"), f"{XADES}CRLValues")
    for crl in crls:
        etree.SubElement(values, f"{XADES}EncapsulatedCRLValue").text = base64.b64encode(crl).decode()
    return document


def unsigned(document: etree._Element) -> etree._Element:
    """The unsigned properties of the signature, added where they are not there."""
    [qualifying] = signature_in(document).iter(f"{XADES}QualifyingProperties")
    found = qualifying.find(f"{XADES}UnsignedProperties")
    if found is None:
        found = etree.SubElement(qualifying, f"{XADES}UnsignedProperties")
        return etree.SubElement(found, f"{XADES}UnsignedSignatureProperties")
    return found[0]
