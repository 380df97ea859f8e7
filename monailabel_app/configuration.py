"""What `--conf key value` may say, checked before anything else starts."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import torch
from monailabel.config import settings as server_settings

from monailabel_app.dicomweb import DicomWeb, checked_address, parse_filter
from monailabel_app.door_settings import checked_number
from monailabel_app.site_place import default_site
from sam_adapters.errors import SettingError
from sam_adapters.openvino_runner import Precision, openvino_installed
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory


@dataclass(frozen=True)
class AppConfiguration:
    """Everything the app is configured with.

    Attributes:
        site: the site directory, opened.
        settings: the site's settings: `site.json` with the `--conf` values over it.
        tune: start a tuning by itself after enough labels; `--conf tune false` leaves it to people (`POST /train/sam`).
        uncertainty: score unlabelled cases in the background for the strategy `least_certain`.
        cache_mb: memory for embeddings, in MiB; and the same again for images. An embedding at 256 px takes 2 MiB.
        embedding_disk_mb: room for embeddings in the site directory, in MiB; 0 keeps none on the disk.
        cpu_engine: what computes clicks where there is no GPU: `openvino`, `torch`, or `auto`, OpenVINO where it is installed.
        cpu_precision: OpenVINO's precision: `float32`, or `bfloat16`, quicker and less exact (see `OpenVinoRunner`).
        idle_seconds: how long no request must have come before a case is scored in the background.
        prefetch: encode slices before somebody clicks on them.
        results_mb: memory for masks that clients may refer to again, in MiB.
        remote: the DICOMweb server that has the studies; None where they are a local folder.
    """

    site: SiteDirectory
    settings: SiteSettings
    tune: bool = True
    uncertainty: bool = True
    cache_mb: int = 512
    embedding_disk_mb: int = 0
    cpu_engine: str = "auto"
    cpu_precision: Precision = "float32"
    idle_seconds: float = 2.0
    prefetch: bool = True
    results_mb: int = 128
    remote: DicomWeb | None = None

    @classmethod
    def from_conf(cls, studies: str, conf: Mapping[str, str]) -> "AppConfiguration":
        """Read `--conf`, over the site's `site.json`. Makes the site directory, writes nothing else.

        Args:
            studies: the studies folder, or the address of a DICOMweb server, given to `start_server`.
            conf: the site's settings (`SiteSettings`) and the names of this class; `site` is a path, by default the parent of a studies
                folder named "studies", else `<studies>/.fedsca`. With a DICOMweb server it must be given: series are kept there.

        Raises:
            SettingError: an unknown key, or a value that cannot be used.
        """
        given = {key: str(value) for key, value in conf.items()}
        own = {key: given.pop(key) for key in (*_OWN, "site") if key in given}
        _refuse_unknown(given)
        remote = _remote(studies, own.get("dicomweb_filter", ""))
        site = _open_site(None if remote else Path(studies), own.get("site"))
        settings = SiteSettings.load(site.settings_file).override(given)
        return cls(
            site,
            settings,
            tune=_switch("tune", own.get("tune", "true")),
            uncertainty=_switch("uncertainty", own.get("uncertainty", "true")),
            cache_mb=int(checked_number("cache_mb", own.get("cache_mb", "512"), 16, 1_048_576)),
            embedding_disk_mb=int(checked_number("embedding_disk_mb", own.get("embedding_disk_mb", "0"), 0, 1_048_576)),
            cpu_engine=_cpu_engine(own.get("cpu_engine", "auto")),
            cpu_precision=cast(Precision, _choice("cpu_precision", own.get("cpu_precision", "float32"), get_args(Precision))),
            idle_seconds=checked_number("idle_seconds", own.get("idle_seconds", "2"), 0, 3600),
            prefetch=_switch("prefetch", own.get("prefetch", "true")),
            results_mb=int(checked_number("results_mb", own.get("results_mb", "128"), 1, 65_536)),
            remote=remote,
        )

    @property
    def compiles(self) -> bool:
        """Whether versions are compiled with OpenVINO: on a CPU, where it is installed and nobody said otherwise."""
        on_cpu = self.settings.device == "cpu" or (self.settings.device == "auto" and not torch.cuda.is_available())
        return on_cpu and self.cpu_engine != "torch" and openvino_installed()

    def save(self) -> None:
        """Write `site.json`, so that tuning and the Flower client use the same settings; untouched when it says the same already."""
        path = self.site.settings_file
        if not path.exists() or SiteSettings.load(path) != self.settings:
            self.settings.save(path)


_OWN = (
    "tune",
    "uncertainty",
    "cache_mb",
    "embedding_disk_mb",
    "cpu_engine",
    "cpu_precision",
    "idle_seconds",
    "prefetch",
    "results_mb",
    "dicomweb_filter",
)


def _remote(studies: str, series_filter: str) -> DicomWeb | None:
    """The DICOMweb server, where `studies` is an address."""
    if not studies.startswith(("http://", "https://")):
        if series_filter:
            raise SettingError("Setting dicomweb_filter is for studies on a DICOMweb server, but they are a folder: leave it out.")
        return None
    return DicomWeb(
        checked_address(studies),
        username=server_settings.MONAI_LABEL_DICOMWEB_USERNAME,
        password=server_settings.MONAI_LABEL_DICOMWEB_PASSWORD,
        filter=tuple(parse_filter(series_filter).items()),
    )


def _open_site(studies: Path | None, named: str | None) -> SiteDirectory:
    if studies is None and not named:
        raise SettingError(
            "Studies on a DICOMweb server need a folder for what is fetched and labelled: name one with --conf site <folder>."
        )
    root = default_site(studies.resolve()) if studies and not named else Path(str(named)).expanduser()
    try:
        return SiteDirectory.open(root, studies)
    except OSError as error:
        raise SettingError(
            f"Site directory {root} cannot be made ({error.strerror}): name another one with --conf site <folder>."
        ) from error


def _refuse_unknown(given: Mapping[str, str]) -> None:
    known = {field.name for field in dataclasses.fields(SiteSettings)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise SettingError(
            f"Unknown --conf key {', '.join(map(repr, unknown))}: expected some of {', '.join(sorted({*known, *_OWN, 'site'}))}."
        )


def _cpu_engine(text: str) -> str:
    chosen = _choice("cpu_engine", text, ("auto", "openvino", "torch"))
    if chosen == "openvino" and not openvino_installed():
        raise SettingError("Setting cpu_engine is 'openvino', but OpenVINO is not installed: install it, or leave the setting out.")
    return chosen


def _choice(key: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise SettingError(f"Setting {key} is {text!r}, expected one of {', '.join(choices)}.")
    return text


def _switch(key: str, text: str) -> bool:
    try:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
    except KeyError:
        raise SettingError(f"Setting {key} is {text!r}, expected true or false.") from None
