"""A site as it takes part in a federation: its directory, settings and name, the layout of its adapters, what it has to give, and what a
message of the server tells it. No torch but where a layout is worked out for the first time."""

from dataclasses import dataclass
from pathlib import Path

from fed_backend import sgca
from fed_backend.errors import RoundError
from fed_backend.payload_codec import Encoding
from fed_backend.privacy import PrivacyRule
from fed_backend.schema_cache import SCHEMA_FILE, cached_schema
from sam_adapters import adapter_files
from sam_adapters.cases import LabelledCase, labelled_cases, split_cases
from sam_adapters.registry import Registry, Version
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory


@dataclass(frozen=True)
class RoundInfo:
    """What every message of the server says.

    Attributes:
        federation: the federation's id; with the round it names the exchange for ever.
        name: the federation's name, for people.
        round: round number.
        run: Flower's run id.
        base: sha256 of the federation's base.
        schema: id of its adapter layout.
        encoding: of the payloads that the server asks for; None from a server that knows version 1 of the wire format only.
        privacy: the privacy rule that it asks of every site; None if it asks for none.
        next_round: when it means to begin the next round, ISO 8601; "" if it does not say.
    """

    federation: str
    name: str
    round: int
    run: str
    base: str
    schema: str
    encoding: Encoding | None = None
    privacy: PrivacyRule | None = None
    next_round: str = ""


@dataclass(frozen=True)
class Member:
    """A site as it takes part: directory, settings and the name that goes into its messages."""

    site: SiteDirectory
    settings: SiteSettings
    name: str

    @classmethod
    def open(cls, root: Path, studies: Path | None = None, name: str | None = None) -> "Member":
        """Open a site directory.

        Args:
            studies: MONAI Label datastore, where it is not `<site>/studies`.
            name: the site's name in the federation; default: that of its settings.

        Raises:
            RoundError: there is no such directory.
            SettingError: its settings cannot be used.
        """
        if not root.is_dir():
            raise RoundError(f"There is no site directory {root}: start the site's MONAI Label server once, or name the right folder.")
        site = SiteDirectory.open(root, studies)
        settings = SiteSettings.load(site.settings_file)
        return cls(site, settings, name or settings.name)


def training_cases(member: Member) -> tuple[LabelledCase, ...]:
    """The site's labelled training cases.

    Raises:
        SettingError: split.json or patients.json cannot be used.
    """
    return split_cases(labelled_cases(member.site, member.settings), member.site, member.settings).train


def site_schema(member: Member) -> AdapterSchema:
    """The adapter layout that follows from this site's settings; the first call starts torch, later ones read <site>/work/schema.json."""
    settings = member.settings
    return cached_schema(member.site.work / SCHEMA_FILE, settings)


def agreed_schema(member: Member, info: RoundInfo) -> AdapterSchema:
    """The adapter layout of this site, which must be the federation's.

    Raises:
        RoundError: it is another one.
    """
    settings, schema = member.settings, site_schema(member)
    if schema.base != info.base:
        raise RoundError(
            f"This site uses base {settings.base} ({schema.base[:16]}), the federation {info.base[:16]}: set the site to that base."
        )
    if schema.id != info.schema:
        raise RoundError(
            f"This site's adapters have layout {schema.id} ({schema.layout}), the federation's {info.schema}: "
            f"set rank, shared_depth and shared_decoder in {member.site.settings_file.name} to what the federation agreed on."
        )
    return schema


def shared_state(registry: Registry, version: Version | None, schema: AdapterSchema) -> AdapterState:
    """The shared part of a version; of the untuned base it is zero."""
    return AdapterState.zeros(schema) if version is None else adapter_files.read_shared_state(registry.folder(version.id), schema)


def learnt_norm(member: Member) -> tuple[float, int]:
    """L2 norm of the shared adapters that would leave next, before any privacy rule, and how many values they are.

    Raises:
        AdapterError: they cannot be read.
    """
    schema = site_schema(member)
    with Registry(member.site) as registry:
        state = shared_state(registry, registry.learnt_from(), schema)
    return sgca.norm(state), schema.size
