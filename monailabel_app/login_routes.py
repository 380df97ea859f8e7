"""`GET /auth/`, `POST /auth/token` and `GET /auth/token/valid` in the place of MONAI Label's own: same requests, same replies."""

import math
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.endpoints.user.auth import User
from starlette.requests import Request
from starlette.responses import JSONResponse

from monailabel_app.token_gate import SIGNED_IN
from sam_adapters.errors import AuthorityError, CredentialsError, LockedOutError
from sam_adapters.login.authority import SignedIn
from sam_adapters.login.login_desk import LoginDesk

NO_STORE = {"Cache-Control": "no-store"}


def login_router(desk: LoginDesk) -> APIRouter:
    """The three routes, on a desk."""
    router = APIRouter(prefix="/auth", tags=["Auth"])

    @router.get("/", include_in_schema=False)
    def description() -> dict[str, object]:
        """Whether there is a login: clients ask this first."""
        return desk.authority.description()

    @router.post("/token", include_in_schema=False)
    def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> JSONResponse:
        """A token for a user name and a password."""
        try:
            return JSONResponse(desk.token(form.username, form.password), headers=NO_STORE)
        except LockedOutError as error:
            return JSONResponse({"detail": str(error)}, 429, headers={"Retry-After": str(math.ceil(error.seconds))})
        except CredentialsError as error:
            return JSONResponse({"detail": str(error)}, 401, headers={"WWW-Authenticate": "Bearer"})
        except AuthorityError as error:
            return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "10"})

    @router.get("/token/valid", include_in_schema=False)
    def valid(user: Annotated[Any, Depends(signed_in_user)]) -> dict[str, Any]:
        """The user of the request's token."""
        return dict(user.model_dump())

    return router


def signed_in_user(request: Request) -> Any:
    """MONAI Label's User of the request, in the place of its `get_current_user`. The token was checked by `TokenGate`; a request that did
    not come through it fails here."""
    user: SignedIn = request.scope[SIGNED_IN]
    return User(username=user.username, email=user.email, name=user.name, roles=list(user.roles))
