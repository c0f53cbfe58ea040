"""Sending a notice through Apprise.

Belongs here: one notice to one address, and what of an address may be shown. Does not belong here: what is said
(``alerts.py``) or who is told when (``imports/alerting.py``). An address holds secrets: neither it nor what Apprise
says of it is ever logged.
"""

import logging
import re
from urllib.parse import urlsplit

from nsimport_pipeline.telemetry.alerts import Severity

HOSTED = frozenset(
    {
        f"{scheme}{secure}"
        for scheme in ("json", "xml", "form", "mailto", "gotify", "matrix", "mmost", "rocket", "apprise")
        for secure in ("", "s")
    }
)
"""Schemes whose addresses name a host after ``//``; in others, a token may stand there."""
_KIND: dict[Severity | None, str] = {
    "critical": "failure",
    "warning": "warning",
    "performance": "info",
    None: "success",
}
_HTTP_STATUS = re.compile(r"error=(\d{3})\b")


def place(address: str) -> str:
    """An address without what is secret in it: ``mailtos://mail.example.com``, ``slack://…``."""
    scheme, _, _ = address.partition("://")
    host = None
    if scheme.lower() in HOSTED:
        try:
            host = urlsplit(address).hostname
        except ValueError:
            host = None
    return f"{scheme.lower()}://{host or '…'}"


def send(address: str, title: str, body: str, severity: Severity | None) -> str | None:
    """Send a notice; ``severity`` None: all is well again. Returns what went wrong, in words without secrets."""
    import apprise  # takes a third of a second, which only those with something to say need to spend

    logger = logging.getLogger("apprise")
    logger.propagate = False
    try:
        service = apprise.Apprise.instantiate(address, suppress_exceptions=True)
        if not isinstance(service, apprise.NotifyBase):
            return "the address is not understood: https://github.com/caronc/apprise lists what is"
        with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]
            if service.notify(body=body, title=title, notify_type=apprise.NotifyType(_KIND[severity])):
                return None
            found = _HTTP_STATUS.search(said.getvalue())
    except Exception as error:
        return f"it could not be sent ({type(error).__name__})"
    return f"it was refused (HTTP {found[1]})" if found else "it could not be reached, or did not take the notice"
