"""Uploads to console.redhat.com: with a service account's token, or with mutual TLS (extra `http`)."""

from __future__ import annotations

import pathlib
import time
from typing import IO, TYPE_CHECKING, Any

from ops.metrics_collect.errors import ParameterError, StorageError
from ops.metrics_collect.secrets import secrets_in
from ops.metrics_collect.storage._base import setting
from ops.metrics_collect.storage._http import RETRY, HTTPStorage
from ops.resilience import HTTPStatusError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.foundation.files import StrPath
    from ops.resilience import RetryConfig

__all__ = ["StorageCRC", "StorageCRCMutual"]

CONTENT_TYPE = "application/vnd.redhat.aap-billing-controller.aap_billing_controller_payload+tgz"
INGRESS_URL = "https://console.redhat.com/api/ingress/v1/upload"
SSO_URL = "https://sso.redhat.com/auth/realms/redhat-external/protocol/openid-connect/token"
CERTIFICATES = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
CLIENT_CERT = ("/etc/pki/consumer/cert.pem", "/etc/pki/consumer/key.pem")
_EARLY_SECONDS = 30.0


class StorageCRC(HTTPStorage):
    """Uploads with a token that the SSO gives for *client_id* and *client_secret*.

    The token is kept until it is about to expire, or the ingress answers 401. *ingress_url* takes
    the uploads, *sso_url* gives the tokens, *proxy_url* is for both; *verify_cert_path* holds the
    certificates they are checked with (None, or where the default does not exist: those of the
    system). What is not given is taken from OPS_METRICS_SERVICE_ACCOUNT_ID,
    _SERVICE_ACCOUNT_SECRET, _CRC_INGRESS_URL, _PROXY_URL, _CRC_SSO_URL and _CRC_CERTIFICATES.
    *timeout_seconds* bounds each phase of a request, *retry* the attempts and the
    total time; *clock* counts seconds. Raises `ParameterError` without *client_id* or
    *client_secret*.
    """

    def __init__(
        self,
        client_id: str | None = None,
        client_secret: str | None = None,
        ingress_url: str | None = None,
        proxy_url: str | None = None,
        sso_url: str | None = None,
        verify_cert_path: StrPath | None = CERTIFICATES,
        *,
        timeout_seconds: float = 60.0,
        retry: RetryConfig = RETRY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Environment OPS_METRICS_SERVICE_ACCOUNT_ID, OPS_METRICS_SERVICE_ACCOUNT_SECRET: the
        # service account of `StorageCRC`.
        # Environment OPS_METRICS_CRC_INGRESS_URL, OPS_METRICS_CRC_SSO_URL: where `StorageCRC` and
        # `StorageCRCMutual` upload, and where tokens come from (default: console.redhat.com and
        # sso.redhat.com).
        # Environment OPS_METRICS_PROXY_URL: the proxy for both (default: none).
        # Environment OPS_METRICS_CRC_CERTIFICATES: the file of certificates that they are checked
        # with (default: that of Red Hat's systems, else those of the system).
        self._client_id = setting(client_id, "SERVICE_ACCOUNT_ID")
        self._client_secret = setting(client_secret, "SERVICE_ACCOUNT_SECRET")
        if not (self._client_id and self._client_secret):
            raise ParameterError(
                "StorageCRC needs client_id= and client_secret= "
                "(or OPS_METRICS_SERVICE_ACCOUNT_ID and OPS_METRICS_SERVICE_ACCOUNT_SECRET)."
            )
        super().__init__(
            proxy_url=setting(proxy_url, "PROXY_URL"),
            verify_cert_path=_certificates(verify_cert_path),
            timeout_seconds=timeout_seconds,
            retry=retry,
            secrets=(self._client_secret,),
        )
        self._ingress_url = setting(ingress_url, "CRC_INGRESS_URL") or INGRESS_URL
        self._sso_url = setting(sso_url, "CRC_SSO_URL") or SSO_URL
        self._secrets += [*secrets_in(self._ingress_url), *secrets_in(self._sso_url)]
        self._clock = clock
        self._given = list(self._secrets)
        self._token = ""
        self._expires = 0.0

    def send(self, name: str, source: IO[bytes]) -> None:
        """Upload, with a new token once if the one at hand is refused."""
        try:
            _upload(self, self._ingress_url, name, source, self._authorization())
        except HTTPStatusError as error:
            if error.status != 401:
                raise
            self._expires = 0.0
            _upload(self, self._ingress_url, name, source, self._authorization())

    def _authorization(self) -> dict[str, str]:
        if self._clock() >= self._expires:
            form = {
                "grant_type": "client_credentials",
                "client_id": self._client_id,
                "client_secret": self._client_secret,
                "scope": "api.console",
            }
            reply = self.client.request("POST", self._sso_url, data=form, retry=True)
            self._token, lifetime = self._read(reply)
            self._secrets = [*self._given, self._token]
            self._expires = self._clock() + max(lifetime - _EARLY_SECONDS, lifetime / 2)
        return {"Authorization": f"Bearer {self._token}"}

    def _read(self, reply: Any) -> tuple[str, float]:
        """Return the token of a reply and its lifetime in seconds."""
        try:
            found = reply.json()
            token, lifetime = found["access_token"], found.get("expires_in")
            if not isinstance(token, str) or not token:
                raise TypeError("access_token is no text")  # noqa: TRY301 - as the others
            return token, 300.0 if lifetime is None else float(lifetime)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise StorageError(
                f"{self!r}: the SSO at {self._redacted(self._sso_url)} gave no token: {self._redacted(str(error))}.",
                suggestions=("Check the address of the SSO; a login page is no token service.",),
            ) from None


class StorageCRCMutual(HTTPStorage):
    """Uploads over mutual TLS with the certificate and key files of *session_cert*.

    *ingress_url* takes the uploads, through *proxy_url* if there is one; *verify_cert_path* holds
    the certificates it is checked with (None, or where the default does not exist: those of the
    system). What is not given is taken from OPS_METRICS_CRC_INGRESS_URL, _PROXY_URL,
    _CRC_CERTIFICATES, _CRC_CLIENT_CERT and _CRC_CLIENT_KEY. *timeout_seconds* bounds each phase of
    a request, *retry* the attempts and the total time. Raises `ParameterError` when one of the last
    two is set and the other is not.
    """

    def __init__(
        self,
        ingress_url: str | None = None,
        proxy_url: str | None = None,
        session_cert: tuple[StrPath, StrPath] = CLIENT_CERT,
        verify_cert_path: StrPath | None = CERTIFICATES,
        *,
        timeout_seconds: float = 60.0,
        retry: RetryConfig = RETRY,
    ) -> None:
        # Environment OPS_METRICS_CRC_CLIENT_CERT, OPS_METRICS_CRC_CLIENT_KEY: the certificate and
        # the key of `StorageCRCMutual` (default: those of a registered system).
        if session_cert == CLIENT_CERT:
            given = [setting(None, "CRC_CLIENT_CERT"), setting(None, "CRC_CLIENT_KEY")]
            if all(given):
                session_cert = (str(given[0]), str(given[1]))
            elif any(given):
                raise ParameterError(
                    "OPS_METRICS_CRC_CLIENT_CERT and OPS_METRICS_CRC_CLIENT_KEY belong together."
                )
        super().__init__(
            proxy_url=setting(proxy_url, "PROXY_URL"),
            verify_cert_path=_certificates(verify_cert_path),
            session_cert=session_cert,
            timeout_seconds=timeout_seconds,
            retry=retry,
        )
        self._ingress_url = setting(ingress_url, "CRC_INGRESS_URL") or INGRESS_URL
        self._secrets += secrets_in(self._ingress_url)

    def send(self, name: str, source: IO[bytes]) -> None:
        """Upload."""
        _upload(self, self._ingress_url, name, source, {})


def _certificates(given: StrPath | None) -> StrPath | None:
    """Return the file to check with: the default may be set by the environment, or not exist here."""
    if given != CERTIFICATES:
        return given
    elsewhere = setting(None, "CRC_CERTIFICATES")
    return elsewhere or (CERTIFICATES if pathlib.Path(CERTIFICATES).exists() else None)


def _upload(
    storage: HTTPStorage, url: str, name: str, source: Any, headers: dict[str, str]
) -> None:
    # httpx reads the file from its start for each attempt.
    files = {"file": (name.rpartition("/")[2], source, CONTENT_TYPE)}
    storage.client.request("POST", url, files=files, headers=headers, retry=True)
