"""Is there a network? One short question: clients of the hub ask again and again."""

import threading
import urllib.error
import urllib.request


def why_unreachable(address: str, seconds: float) -> str:
    """Why a server cannot be reached, "" when it can; whatever it answers will do. Known after ``seconds`` at the latest.

    Proxies are those of the environment.
    """
    found = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError:
            found[0] = ""  # it refuses, so it is there
        except Exception as error:  # no such host, no way there, no certificate, ...
            found[0] = str(getattr(error, "reason", error))
        else:
            found[0] = ""

    # Looking up a name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0]
