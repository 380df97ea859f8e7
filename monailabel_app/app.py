"""The MONAI Label app: the site's engine behind MONAI Label's interface.

Processes: the server holds one instance; every tuning and batch inference is a process of its own that makes another. Only the server
(`on_init_complete`) writes site.json, extends the web server and starts the background worker.
Threads: requests run in worker threads. What they share has its own locks: engine, datastore, label log, tuning queue, registry.
"""

import atexit
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.config import settings as server_settings
from monailabel.interfaces.app import MONAILabelApp

from monailabel_app import startup_failure
from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.automatic_task import AutomaticTask
from monailabel_app.background_engine import BackgroundEngine
from monailabel_app.case_roles import FINAL_TAG, CaseRoles
from monailabel_app.configuration import AppConfiguration
from monailabel_app.dicomweb_datastore import DicomWebDatastore
from monailabel_app.engine import Engine
from monailabel_app.fast_path import FastPath
from monailabel_app.guarded_datastore import GuardedDatastore, unknown_image
from monailabel_app.interactive_task import InteractiveTask
from monailabel_app.label_delivery import SENT_FILE, LabelDelivery
from monailabel_app.label_intake import LabelIntake
from monailabel_app.request_guard import checked_case_id, checked_tag
from monailabel_app.segmentation_task import SegmentationTask
from monailabel_app.server_file import ServerFile
from monailabel_app.site_sessions import SiteSessions
from monailabel_app.strategies import FirstStrategy, LeastCertainStrategy, RandomStrategy
from monailabel_app.temporary_folder import claim_temporary_folder
from monailabel_app.tuning_queue import TuningQueue
from monailabel_app.tuning_task import TUNING, TuningTask
from monailabel_app.uncertainty_scores import UncertaintyScores
from monailabel_app.uncertainty_worker import UncertaintyWorker
from sam_adapters.audit import AuditLog
from sam_adapters.errors import FedscaError
from sam_adapters.label_log import LabelLog

logger = logging.getLogger(__name__)

NAME = "FedSCA Label"
VERSION = "0.1.0"
DESCRIPTION = "Promptable segmentation that learns from this site's labels"
DEFAULT_STRATEGY = "first"


class FedSCALabelApp(MONAILabelApp):  # type: ignore[misc]  # monailabel is not typed
    """Served by `monailabel start_server --app monailabel_app --studies <folder>`.

    Attributes:
        configuration: what `--conf` and site.json say.
        engine: models, images and embeddings in memory.
        fast: the interactive path: results to refer to, prefetching and jobs.
        roles: which cases train, validate and test.
        scores: uncertainty of unlabelled cases.
        tuning_queue: tunings that wait or run.
        saving: held while a label is stored and taken in, so that what is logged is what was stored.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        """Made by MONAI Label.

        Raises:
            SettingError, RegistryError, BaseModelError: the site cannot be served; uvicorn reports the sentence and ends.
        """
        conf = dict(conf or {})
        server_mode = conf.pop("server_mode", "false")
        try:
            self.configuration = AppConfiguration.from_conf(studies, conf)
            self.engine = Engine(self.configuration)
        except FedscaError as error:
            startup_failure.explain(str(error))
            raise
        self.fast = FastPath(self.engine, results_bytes=self.configuration.results_mb * 2**20, prefetch=self.configuration.prefetch)
        site, site_settings = self.configuration.site, self.configuration.settings
        self.roles = CaseRoles(site, site_settings)
        self.scores = UncertaintyScores(site.work / "uncertainty.json")
        self.tuning_queue = TuningQueue(
            self.engine.registry,
            site_settings,
            start=lambda: self.async_training(TUNING, enqueue=True),
            automatic=self.configuration.tune,
        )
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf={"server_mode": server_mode},
            name=NAME,
            description=f"{DESCRIPTION} (site {site_settings.name}, base {site_settings.base})",
            version=VERSION,
            labels=[site_settings.label_name],
        )
        self._intake = LabelIntake(
            self.engine, self.datastore(), LabelLog(site.label_log_file), self.roles, self.tuning_queue, AuditLog(site.audit_file)
        )
        self.saving = threading.Lock()
        self._worker: UncertaintyWorker | None = None
        self._background: BackgroundEngine | None = None
        self._delivery: LabelDelivery | None = None

    # --- what MONAI Label builds an app from ------------------------------------------------------------------------------------------

    def init_datastore(self) -> GuardedDatastore:
        """The local datastore, kept inside the studies folder; with a DICOMweb server, its series behind the same interface."""
        site, remote = self.configuration.site, self.configuration.remote
        reload, read_only = server_settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD, server_settings.MONAI_LABEL_DATASTORE_READ_ONLY
        if remote is None:
            return GuardedDatastore(self.studies, auto_reload=reload, read_only=read_only)
        site.studies.mkdir(mode=0o700, exist_ok=True)
        return DicomWebDatastore(str(site.studies), remote, site, auto_reload=reload, read_only=read_only)

    def init_infers(self) -> dict[str, SegmentationTask]:
        """`sam_auto` first: the official plug-in's automatic run on a new case takes the first model that knows the label."""
        return {"sam_auto": AutomaticTask(self.engine), "sam": InteractiveTask(self.engine)}

    def init_trainers(self) -> dict[str, TuningTask]:
        """The local tuning."""
        return {TUNING: TuningTask(self.configuration)}

    def init_strategies(self) -> dict[str, Any]:
        """The ways to choose the next case."""
        return {
            "first": FirstStrategy(self.roles),
            "random": RandomStrategy(self.roles),
            "least_certain": LeastCertainStrategy(self.roles, self.engine, self.scores),
        }

    def _load_sessions(self, load: bool = False) -> SiteSessions | None:
        """Sessions hold images: they stay in this site's directory, where no other server of this machine serves them, unless told else."""
        if not load:
            return None
        folder = server_settings.MONAI_LABEL_SESSION_PATH.strip() or str(self.configuration.site.work / "sessions")
        return SiteSessions(folder, server_settings.MONAI_LABEL_SESSION_EXPIRY)

    def on_init_complete(self) -> None:
        """Called once, in the server process only, before it serves."""
        from monailabel.app import app as api

        from monailabel_app import door, http_layer

        self.configuration.save()
        temporary = claim_temporary_folder(self.configuration.site.work)
        try:
            door.install(api, self.configuration.site)
        except FedscaError as error:
            startup_failure.explain(str(error))
            raise
        http_layer.install(api, (temporary, self.configuration.site.root, self.configuration.site.studies, Path(self.app_dir)))
        super().on_init_complete()
        self._background = BackgroundEngine(
            self.engine, compile_cpu=self.configuration.compiles, precision=self.configuration.cpu_precision
        )
        self._background.start()
        self.fast.start()
        atexit.register(self.fast.stop)
        self._start_dicomweb()
        if self.configuration.uncertainty:
            self._worker = UncertaintyWorker(
                self.engine,
                self.datastore(),
                self.scores,
                offered=self._offered_here,
                busy=lambda: self.tuning_queue.waiting > 0 or self.tuning_queue.running or self.fast.busy,
                idle_seconds=self.configuration.idle_seconds,
            )
            self._worker.start()

    def _start_dicomweb(self) -> None:
        datastore = self.datastore()
        if isinstance(datastore, DicomWebDatastore):
            site = self.configuration.site
            self._delivery = LabelDelivery(datastore, site.root / SENT_FILE, self.configuration.settings.label_name)
            datastore.start()
            self._delivery.start()

    def _offered_here(self) -> list[str]:
        """Unlabelled cases that are on this machine: nothing is fetched only to be scored."""
        return [case for case in self.roles.offered(self.datastore()) if self.datastore().is_local(case)]

    # --- requests ---------------------------------------------------------------------------------------------------------------------

    def datastore(self) -> GuardedDatastore:
        """The site's images and labels."""
        found: GuardedDatastore = self._datastore
        return found

    def infer_task(self, model: object) -> SegmentationTask:
        """The infer task of that name.

        Raises:
            NotFoundError: there is none.
        """
        task: SegmentationTask | None = self._infers.get(model) if isinstance(model, str) else None
        if task is None:
            raise NotFoundError(f"There is no model {str(model)[:80]!a}, expected one of {', '.join(self._infers)}.")
        return task

    def infer(self, request: Mapping[str, Any], datastore: object = None) -> dict[str, Any]:
        """Segment an image.

        Args:
            request: `model`; `image`, a case or a `ServerFile`; and what `infer_parameters` describes. With `save_label` true a case's
                mask is saved under `label_tag` (as batch inference does).

        Returns:
            label, tag, file (the caller removes it; None when it was saved) and params: what the reply says.

        Raises:
            NotFoundError: unknown model or case. Else as `SegmentationTask`.
        """
        task = self.infer_task(request.get("model"))
        image = request.get("image")
        case = None if isinstance(image, ServerFile) else self._known_case(image)
        path = image if case is None else self.datastore().get_image_uri(case)
        with self.engine.request():
            file, params = task({**request, "image": path})
        tag = str(request.get("label_tag") or "original")
        if case is not None:
            self.engine.remember_served(case, str(params["version"]))
        if case is None or not _true(request.get("save_label")):
            return {"label": file, "tag": tag, "file": file, "params": params}
        try:
            label = self.datastore().save_label(case, file, checked_tag(tag), {"model": request.get("model"), "params": params})
        finally:
            Path(file).unlink(missing_ok=True)
        return {"label": label, "tag": tag, "file": None, "params": params}

    def infer_wsi(self, request: Mapping[str, Any], datastore: object = None) -> dict[str, Any]:
        """Whole-slide images are not offered."""
        raise NotFoundError("No model here works on whole-slide images.")

    def model_file(self, model: str, validate: bool = True) -> str | None:
        """No model is a single file that could be replaced: versions are kept by the registry."""
        self.infer_task(model)
        raise NotFoundError(f"Model {model} is not one file: its versions are under GET /fedsca/adapters.")

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The next case to label; empty when none is left. Whoever asks is about to open it: its slices are encoded meanwhile.

        Raises:
            NotFoundError: unknown strategy.
        """
        name = request.get("strategy") or DEFAULT_STRATEGY
        strategy = self._strategies.get(name) if isinstance(name, str) else None
        if strategy is None:
            raise NotFoundError(f"There is no strategy {str(name)[:80]!a}, expected one of {', '.join(self._strategies)}.")
        found: dict[str, Any] | None = strategy(request, self.datastore())
        if not found:
            return {}
        case = found["id"]
        if self.datastore().is_local(case):  # nobody waits here for a series to be fetched
            path = Path(self.datastore().get_image_uri(case))
            self.fast.prefetcher.show(f"sample {str(request.get('client_id'))[:100]}", path, "k", None)
        return {**found, "path": self.datastore().get_image_info(case).get("path", "")}

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Called after a label was stored, inside the upload request; what it returns becomes part of the reply."""
        saved = self.datastore().last_saved(image_id)
        if saved is None:
            return {}
        taken = self._intake.take(image_id, saved)
        if self._delivery is not None and saved.tag == FINAL_TAG:
            taken["dicomweb"] = self._delivery.label_saved(image_id)
        return {"fedsca": taken}

    def dicomweb_status(self) -> dict[str, Any] | None:
        """The DICOMweb server and the labels on their way to it, as `GET /fedsca/status` shows them; None where studies are a folder."""
        datastore = self.datastore()
        if not isinstance(datastore, DicomWebDatastore) or self._delivery is None:
            return None
        return {**datastore.remote_status(), "labels": self._delivery.status()}

    def _known_case(self, image: object) -> str:
        if not isinstance(image, str) or not image:
            raise RequestError("No image: give the id of a case in the datastore.")
        case = checked_case_id(image)
        if not self.datastore().get_image_uri(case):
            raise unknown_image(case)
        return case


def _true(value: object) -> bool:
    """MONAI Label's clients send booleans as texts too."""
    return value is True or (isinstance(value, str) and value.lower() in ("true", "1", "yes", "on"))
