"""Downloads of weights and tokenizers: announced first, and an error within ten seconds if there is no network."""

import logging
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

from utils.errors import UserError

NETWORK_SECONDS = 8.0
log = logging.getLogger(__name__)


def announce_download(what: str, url: str, remedy: str) -> None:
    """Log one line with what is downloaded and from where. Raises a UserError if the server does not answer within
    NETWORK_SECONDS."""
    log.warning("downloading %s from %s", what, url)
    if not is_reachable(url):
        raise UserError(f"{what} could not be downloaded: {url} cannot be reached; {remedy}")


def announce_hub_download(what: str, repo: str, filename: str, remedy: str) -> None:
    """`announce_download` for a repository of Hugging Face, unless it is a folder or `filename` is in the cache."""
    if Path(repo).is_dir():
        return
    if cached_file(repo, filename) is None and not huggingface_hub.constants.HF_HUB_OFFLINE:
        announce_download(what, f"{huggingface_hub.constants.ENDPOINT}/{repo}", remedy)


def is_reachable(url: str) -> bool:
    """Whether the server of `url` sends any answer within NETWORK_SECONDS."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=NETWORK_SECONDS):  # noqa: S310
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except OSError as error:
            log.debug("%s: %s", url, error)

    # In a thread, because DNS lookups have no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_SECONDS)
    return answered.is_set()


def cached_file(repo: str, filename: str) -> str | None:
    """The file of a Hugging Face repository in the local cache, if it exists."""
    found = huggingface_hub.try_to_load_from_cache(repo, filename)
    return found if isinstance(found, str) else None


def cached_weights(config: dict[str, Any]) -> str | None:
    """The file in the local cache that open_clip would load for the config of a weights tag, if it exists."""
    if not config.get("hf_hub"):
        path = Path("~/.cache/clip", Path(config.get("url", "")).name).expanduser()
        return str(path) if path.is_file() else None
    repo, _, filename = config["hf_hub"].rpartition("/")
    names = [filename] if filename else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    return next((found for name in names if (found := cached_file(repo, name))), None)


def weights_url(config: dict[str, Any]) -> str:
    """The URL that open_clip downloads the weights of a tag from."""
    if config.get("hf_hub"):
        return f"{huggingface_hub.constants.ENDPOINT}/{config['hf_hub'].rstrip('/')}"
    return config.get("url", "")
