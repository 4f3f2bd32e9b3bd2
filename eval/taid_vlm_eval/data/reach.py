"""Is there a network? One short question a process: the hub's client asks again and again, for each data set anew."""

import threading
import urllib.error
import urllib.request
from functools import cache

SECONDS = 5.0


@cache
def why_unreachable(address: str) -> str:
    """Why a server cannot be reached, "" when it can; whatever it answers will do. Known after ``SECONDS`` at the latest.

    Proxies are those of the environment. The answer is kept for the whole process.
    """
    found = [f"{address} did not answer within {SECONDS:.0f} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS).close()
        except urllib.error.HTTPError:
            found[0] = ""  # an answer, if not a kind one
        except Exception as error:  # no such host, no way there, no certificate, ...
            found[0] = f"{address} cannot be reached: {getattr(error, 'reason', error)}"
        else:
            found[0] = ""

    # Looking up a name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return found[0]
