"""Signs messages by the Standard Webhooks scheme, and says which secrets can sign."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from standardwebhooks.webhooks import Webhook

from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import datetime

_PREFIX = "whsec_"
_BASE64 = re.compile(r"[A-Za-z0-9+/]{2,}={0,2}")
_LONGEST_SECRET = 1024


def check_secret(secret: str) -> None:
    """Raise InvalidInput for a secret that nothing can be signed with; the message does not hold it."""
    if not secret:
        raise InvalidInput("The webhook secret is empty; leave it out for messages without a signature")
    if len(secret) > _LONGEST_SECRET:
        raise InvalidInput(f"The webhook secret is longer than {_LONGEST_SECRET} characters")
    if not secret.startswith(_PREFIX):
        return
    encoded = secret.removeprefix(_PREFIX)
    if _BASE64.fullmatch(encoded) is None or len(encoded.rstrip("=")) % 4 == 1:
        raise InvalidInput(f"The webhook secret begins with {_PREFIX} but is not base64 after it")


def sign(secret: str, message_id: str, moment: datetime, payload: str) -> dict[str, str]:
    """Return the headers of a message that is sent at this moment; a receiver verifies them with the same secret.

    What follows ``whsec_`` is the key in base64; the key of any other secret is its text in UTF-8.
    """
    webhook = Webhook(secret if secret.startswith(_PREFIX) else secret.encode())
    return {**unsigned(message_id, moment), "webhook-signature": webhook.sign(message_id, moment, payload)}


def unsigned(message_id: str, moment: datetime) -> dict[str, str]:
    """Return the headers of a message that nobody signs."""
    return {"webhook-id": message_id, "webhook-timestamp": str(int(moment.timestamp()))}
