"""Is there a network? One short question: clients of the hub ask again and again."""

import urllib.error
import urllib.request

from taid_vlm.common.time_limit import within


def why_unreachable(address: str, seconds: float) -> str:
    """Why a server cannot be reached, "" when it can; whatever it answers will do. Known after ``seconds`` at the latest.

    Proxies are those of the environment.
    """
    request = urllib.request.Request(address, method="HEAD")
    try:
        within(seconds, lambda: urllib.request.urlopen(request, timeout=seconds).close())
    except urllib.error.HTTPError:
        return ""  # it refuses, so it is there
    except Exception as error:  # no such host, no way there, no certificate, no answer in time, ...
        return str(getattr(error, "reason", error))
    return ""
