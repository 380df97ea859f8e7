"""A site's request to be let in: its name and public keys, signed with its node key, as a text block of about 900 characters.

The signature proves that whoever asks has the private key; that he *is* the hospital is what the fingerprint, read over the phone, proves.
"""

from dataclasses import dataclass

from fed_backend.enrolment import armour, signed_document
from fed_backend.enrolment.node_keys import NodeKeys, PublicKeys
from fed_backend.errors import EnrolmentError
from sam_adapters.site_directory import checked_site_name

KIND = "SITE REQUEST"


@dataclass(frozen=True)
class SiteRequest:
    """What a site asks for.

    Attributes:
        name: what it would like to be called.
        keys: its public keys.
    """

    name: str
    keys: PublicKeys

    @property
    def fingerprint(self) -> str:
        """Of the keys, to be read over the phone."""
        return self.keys.fingerprint


def write_request(name: str, keys: NodeKeys) -> str:
    """The text block.

    Raises:
        SettingError: a name that cannot be used.
    """
    public = keys.public
    value = {"name": checked_site_name(name), "node_key": public.node, "sealing_key": public.sealing}
    return armour.wrap(KIND, signed_document.signed(KIND, value, keys.node))


def read_request(text: str) -> SiteRequest:
    """Read and verify a text block.

    Raises:
        EnrolmentError: it is damaged, or of another kind or format.
        UntrustedError: it is not signed with its own key.
        SettingError: its name cannot be used.
    """
    document = armour.unwrap(KIND, text)
    value = signed_document.unverified(KIND, document)
    texts = [value.get(key) for key in ("name", "node_key", "sealing_key")]
    if not all(isinstance(one, str) for one in texts):
        raise EnrolmentError("The request lacks its name or a key: make it again with `fedsca site enrol`.")
    request = SiteRequest(checked_site_name(value["name"]), PublicKeys(value["node_key"], value["sealing_key"]))
    request.keys.sealing_key()
    signed_document.verified(KIND, document, request.keys.node_key(), "the key that it names")
    return request
