"""Which of apprise's services a channel may use, by the scheme of their URLs."""

from __future__ import annotations

import re

from unpause.errors import InvalidInput

LONGEST_URL = 2083

# All of these send over HTTP or SMTP, in the thread that they are called in. Others speak protocols of their own, start
# threads or programs, read keys from files, or show the message on the server's own desk.
KINDS_BY_GROUP = {
    "mail, and servers of your own": (
        "mailto mailtos json jsons xml xmls form forms apprise apprises ntfy ntfys gotify gotifys matrix "
        "matrixs mmost mmosts rocket rockets ncloud nclouds nctalk nctalks synology synologys signal signals "
        "hassio hassios zulip humhub humhubs bark barks gorush gorushs onebot onebots"
    ),
    "chats": (
        "slack discord guilded gchat workflow workflows webex wxteams tgram line lark feishu dingtalk "
        "wecombot flock groupme ryver twist cliq zcliq zohocliq stackfield revolt zoom viber whatsapp kook qq "
        "threema"
    ),
    "alarms and issues": (
        "opsgenie pagerduty pagertree splunk victorops squadcast signl4 ilert incidentio goalert goalerts "
        "betterstack firehydrant spike xmatters jira github"
    ),
    "push": (
        "pover pbul prowl join pushy pushed pushme pushplus wecom psafer psafers simplepush spush onesignal "
        "notica noticas notifico notificos notifiarr ifttt pushdeer pushdeers wxpusher schan"
    ),
    "mail through a service": (
        "mailgun sendgrid sparkpost brevo resend postmark smtp2go mailersend sendpulse ses o365 azure"
    ),
    "SMS": (
        "twilio vonage nexmo sns msgbird sinch plivo clickatell clicksend bulksms burstsms d7sms "
        "infobip seven telnyx voipms msg91 kavenegar octopush 46elks elks freemobile sfr"
    ),
}
KINDS = frozenset(kind for kinds in KINDS_BY_GROUP.values() for kind in kinds.split())
_SCHEME = re.compile(r"([A-Za-z0-9]{2,32})://", re.ASCII)


def read_kind(url: str) -> str:
    """Return the scheme of a channel's URL; raise InvalidInput, without the URL, for one that may not be used."""
    if len(url) > LONGEST_URL or not url.isprintable():
        raise InvalidInput(f"The channel's URL is longer than {LONGEST_URL} characters, or has characters of control")
    found = _SCHEME.match(url)
    if found is None:
        raise InvalidInput("The channel's URL has no scheme, such as slack://, mailtos:// or ntfys://")
    kind = found[1].lower()
    if kind not in KINDS:
        raise InvalidInput(f"Channels cannot be of the kind {kind}:// (docs/how-to/notifications.md lists the kinds)")
    return kind
