"""A site's two key pairs, made at the site: `<folder>/{node.key,node.pub,sealing.key}`, mode 0600.

    node     ECDSA on P-384: proves to the SuperLink who connects (Flower's node authentication) and signs the request
    sealing  X25519: what the bundle is encrypted to

Two pairs, because one key should not both sign and decrypt. The private halves never leave the folder. A folder is written once and never
changed; `sealing.key` comes last, so a folder without it is a leftover of a crash.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from fed_backend.enrolment.fingerprint import fingerprint
from fed_backend.errors import EnrolmentError
from sam_adapters import atomic

NODE_KEY, NODE_PUBLIC_KEY, SEALING_KEY = "node.key", "node.pub", "sealing.key"
_PEM, _OPENSSH, _RAW = serialization.Encoding.PEM, serialization.Encoding.OpenSSH, serialization.Encoding.Raw


@dataclass(frozen=True)
class PublicKeys:
    """The public halves as texts.

    Attributes:
        node: OpenSSH line of the P-384 key, without comment.
        sealing: the X25519 key's 32 bytes in hexadecimal digits.
    """

    node: str
    sealing: str

    @property
    def fingerprint(self) -> str:
        """One fingerprint of both keys together."""
        return fingerprint(f"{self.node}\n{self.sealing}\n".encode())

    def node_key(self) -> ec.EllipticCurvePublicKey:
        """The node's key.

        Raises:
            EnrolmentError: it is not a P-384 key.
        """
        try:
            key = serialization.load_ssh_public_key(self.node.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise EnrolmentError(f"The node's public key cannot be read ({error}): expected an OpenSSH line of a P-384 key.") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise EnrolmentError(
                "The node's public key is of another kind, expected ECDSA on P-384: make the keys with `fedsca site enrol`."
            )
        return key

    def sealing_key(self) -> x25519.X25519PublicKey:
        """The sealing key.

        Raises:
            EnrolmentError: it is not one.
        """
        try:
            return x25519.X25519PublicKey.from_public_bytes(bytes.fromhex(self.sealing))
        except ValueError as error:
            raise EnrolmentError(f"The sealing key cannot be used ({error}): expected 64 hexadecimal digits.") from error


@dataclass(frozen=True)
class NodeKeys:
    """A folder with a whole set of keys."""

    folder: Path
    node: ec.EllipticCurvePrivateKey
    sealing: x25519.X25519PrivateKey

    @property
    def node_file(self) -> Path:
        """The private node key, as the SuperNode reads it."""
        return self.folder / NODE_KEY

    @property
    def public(self) -> PublicKeys:
        """The public halves."""
        line = self.node.public_key().public_bytes(_OPENSSH, serialization.PublicFormat.OpenSSH).decode()
        return PublicKeys(line, self.sealing.public_key().public_bytes_raw().hex())

    @classmethod
    def create(cls, folder: Path) -> "NodeKeys":
        """Make new keys in `folder`, which may hold leftovers of a crash but no whole set."""
        keys = cls(folder, ec.generate_private_key(ec.SECP384R1()), x25519.X25519PrivateKey.generate())
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        plain = serialization.NoEncryption()
        atomic.write_bytes(folder / NODE_KEY, keys.node.private_bytes(_PEM, serialization.PrivateFormat.OpenSSH, plain))
        atomic.write_bytes(folder / NODE_PUBLIC_KEY, f"{keys.public.node}\n".encode())
        atomic.write_bytes(folder / SEALING_KEY, keys.sealing.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain))
        return keys

    @classmethod
    def load(cls, folder: Path) -> "NodeKeys | None":
        """The keys in `folder`; None if there is no whole set.

        Raises:
            EnrolmentError: they cannot be read.
        """
        if not (folder / SEALING_KEY).exists():
            return None
        try:
            node = serialization.load_ssh_private_key((folder / NODE_KEY).read_bytes(), None)
            sealing = serialization.load_pem_private_key((folder / SEALING_KEY).read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise EnrolmentError(f"The keys in {folder} cannot be read ({error}): enrol anew, `fedsca site enrol --new-keys`.") from error
        if not isinstance(node, ec.EllipticCurvePrivateKey) or not isinstance(sealing, x25519.X25519PrivateKey):
            raise EnrolmentError(f"The keys in {folder} are of another kind: enrol anew, `fedsca site enrol --new-keys`.")
        return cls(folder, node, sealing)
