"""What MONAI Label offers and makes no sense here: answered 404 with a sentence, before a body is read or another server is asked."""

from fastapi import APIRouter

from monailabel_app.app_errors import NotFoundError

router = APIRouter(include_in_schema=False)

_ANY = ["GET", "HEAD", "POST", "PUT", "DELETE"]


@router.api_route("/infer/wsi/{model}", methods=["POST"])
@router.api_route("/infer/wsi_v2/{model}", methods=["POST"])
def refuse_whole_slide(model: str) -> None:
    """Whole-slide pathology is not offered."""
    raise NotFoundError(f"Model {model[:80]!a} does not work on whole-slide images: use POST /infer/{{model}}.")


@router.api_route("/model/{path:path}", methods=_ANY)
def refuse_model_files(path: str) -> None:
    """No model is a single file that could be fetched or replaced."""
    raise NotFoundError("A model here is not one file: its versions are under GET /fedsca/adapters.")


@router.api_route("/ohif", methods=_ANY)
@router.api_route("/ohif/{path:path}", methods=_ANY)
def refuse_viewer(path: str = "") -> None:
    """The OHIF viewer that comes with MONAI Label reads DICOM through the proxy below."""
    raise NotFoundError("The OHIF viewer is not offered here: use 3D Slicer.")


@router.api_route("/proxy/{path:path}", methods=_ANY)
def refuse_proxy(path: str) -> None:
    """MONAI Label's proxy would ask any address below the studies' address, in the name of this server."""
    raise NotFoundError("Requests are not passed on to a DICOM server: images are under GET /datastore/image.")


@router.api_route("/scoring/{method}", methods=["POST"])
def refuse_scoring(method: str) -> None:
    """No scoring methods are offered."""
    raise NotFoundError(f"There is no scoring method {method[:80]!a}: the gate's figures are under GET /fedsca/adapters.")
