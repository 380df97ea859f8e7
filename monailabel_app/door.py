"""The server's door: which web pages, who, how much and how many may come in, and what is written down about it.

Outermost first: cross-origin headers, origins and names, address for the audit log, login, limits, audit. Each is in a module of its own;
this one puts them into MONAI Label's application, whose middleware stack has to be built anew afterwards (`http_layer` does). Under plain
`monailabel start_server` it does so too, with the defaults of `DoorSettings`.
"""

import logging
import os

from fastapi import FastAPI
from monailabel.config import Settings
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import get_current_user
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from monailabel_app.audited_requests import AuditedRequests
from monailabel_app.cross_origin import OriginGuard, checked_origin
from monailabel_app.door_settings import DoorSettings
from monailabel_app.login_routes import login_router, signed_in_user
from monailabel_app.realm_keys import RealmKeys
from monailabel_app.realm_login import RealmLogin, TokenFields
from monailabel_app.request_limits import RequestLimits
from monailabel_app.token_gate import CallerNotes, TokenGate
from sam_adapters.audit import AuditLog
from sam_adapters.errors import SettingError
from sam_adapters.login.authority import Authority
from sam_adapters.login.login_desk import LoginDesk
from sam_adapters.login.user_file import UserFile
from sam_adapters.login.user_file_login import UserFileLogin
from sam_adapters.site_directory import SiteDirectory

logger = logging.getLogger(__name__)


def install(api: FastAPI, site: SiteDirectory) -> None:
    """Put the door into MONAI Label's application.

    Raises:
        SettingError: a FEDSCA_* variable or an origin that cannot be used.
    """
    given = DoorSettings.from_environment(os.environ)
    if given.users is not None and not monailabel_settings.MONAI_LABEL_AUTH_ENABLE:
        raise SettingError("FEDSCA_USERS names a user file, but MONAI_LABEL_AUTH_ENABLE is not true: the login would be off. Set both.")
    origins = sorted({checked_origin(str(origin)) for origin in (*given.origins, *monailabel_settings.MONAI_LABEL_CORS_ORIGINS)})
    layers = [
        # With no origin listed it adds nothing; MONAI Label's own, which reflects every origin, is taken out.
        Middleware(CORSMiddleware, allow_origins=origins, allow_credentials=bool(origins), allow_methods=["*"], allow_headers=["*"]),
        Middleware(OriginGuard, origins=origins, hosts=given.hosts),
        Middleware(CallerNotes),
    ]
    if monailabel_settings.MONAI_LABEL_AUTH_ENABLE:
        authority = _authority(given, monailabel_settings)
        layers.append(Middleware(TokenGate, authority=authority))
        api.include_router(login_router(LoginDesk(authority, AuditLog(site.audit_file))))
        api.router.routes.insert(0, api.router.routes.pop())  # before MONAI Label's own of the same address
        api.dependency_overrides[get_current_user] = signed_in_user
    elif not given.hosts:
        logger.warning(
            "There is no login: whoever reaches this port may use the server. Listen on 127.0.0.1, or start it with `fedsca serve`."
        )
    layers += [Middleware(RequestLimits, limits=given.limits), Middleware(AuditedRequests, log=AuditLog(site.audit_file))]
    logger.info("Web pages that are let in, beside the server's own: %s.", ", ".join(origins) or "none")  # MONAI Label prints another list
    api.user_middleware[:] = [*layers, *(own for own in api.user_middleware if str(own.cls) != str(CORSMiddleware))]


def _authority(given: DoorSettings, told: Settings) -> Authority:
    if given.users is not None:
        role_names = {
            "user": told.MONAI_LABEL_AUTH_ROLE_USER,
            "annotator": told.MONAI_LABEL_AUTH_ROLE_ANNOTATOR,
            "reviewer": told.MONAI_LABEL_AUTH_ROLE_REVIEWER,
            "admin": told.MONAI_LABEL_AUTH_ROLE_ADMIN,
        }
        return UserFileLogin(UserFile(given.users), role_names, minutes=given.token_minutes)
    deadline = float(told.MONAI_LABEL_AUTH_TIMEOUT)
    fields = TokenFields(
        username=told.MONAI_LABEL_AUTH_TOKEN_USERNAME,
        email=told.MONAI_LABEL_AUTH_TOKEN_EMAIL,
        name=told.MONAI_LABEL_AUTH_TOKEN_NAME,
        roles=told.MONAI_LABEL_AUTH_TOKEN_ROLES,
    )
    keys = RealmKeys(told.MONAI_LABEL_AUTH_REALM_URI, deadline=deadline)
    return RealmLogin(keys, told.MONAI_LABEL_AUTH_CLIENT_ID, fields, deadline=deadline)
