"""The model that serves, and how another takes its place without dropping a request."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deesc_model import BundleError, EscalationClassifier
from deesc_model.bundle import HASHED_FILES, MANIFEST_FILE, default_bundle_path, read_bundle
from serve.logs import log
from serve.metrics import Metrics
from serve.priority import yield_to_calls


class Model:
    """Holds the classifier that serves.

    Args:
        path: Folder of the bundle; None takes the shipped one.
        threads: Threads of one forward pass; None takes the CPUs allowed.
        metrics: Told which model serves.

    Raises:
        BundleError: The bundle cannot be used.
    """

    def __init__(self, path: Path | None, threads: int | None, metrics: Metrics) -> None:
        self._path = default_bundle_path() if path is None else path
        self._threads = threads
        self._metrics = metrics
        self._seen = self._signature()
        self._lock = asyncio.Lock()
        # onnxruntime's threads take over the priority of the one that loads.
        self._loader = ThreadPoolExecutor(1, "load", initializer=yield_to_calls)
        self.current = self._loader.submit(self._load).result()
        metrics.loaded(self.current.model_version)

    async def reload(self) -> bool:
        """Load the bundle again beside the model that serves, then let it take over.

        Returns:
            Whether it did; a bundle that cannot be used leaves the old model serving.
        """
        async with self._lock:
            self._seen = self._signature()
            try:
                new = await asyncio.get_running_loop().run_in_executor(self._loader, self._load)
            except Exception as error:  # whatever it is; its message is of files, not texts
                self._metrics.reload_refused()
                log(
                    logging.ERROR,
                    "new bundle refused",
                    error=error,
                    reason=str(error),
                    still_serving=self.current.model_version,
                )
                return False
            old, self.current = self.current, new
            self._metrics.loaded(new.model_version, reloaded=True)
            log(logging.INFO, "model loaded", old=old.model_version, new=new.model_version)
            return True

    async def watch(self, every_s: float) -> None:
        """Reload when a file of the bundle changes, for ever.

        While a bundle is being copied it is refused; each further change gives it a new chance.
        """
        while True:
            await asyncio.sleep(every_s)
            if self._signature() != self._seen:
                await self.reload()

    def _load(self) -> EscalationClassifier:
        """Open the bundle; its files are hashed first, so look once more that they stayed.

        Raises:
            BundleError: It cannot be used, or changed meanwhile.
        """
        try:
            classifier = EscalationClassifier.from_pretrained(self._path, threads=self._threads)
        except Exception:
            raise
        except BaseException as error:  # a panic of the tokenizer's
            refusal = BundleError(f"{self._path} cannot be opened: {type(error).__name__}")
            raise refusal.with_traceback(error.__traceback__) from None
        if read_bundle(self._path).manifest != classifier.bundle.manifest:
            raise BundleError(f"{self._path} changed while it was opened; load it once it is whole")
        return classifier

    def _signature(self) -> list[tuple[int, int, int] | None]:
        """Return what changes when a file does; links are followed, so a swapped one counts."""
        found: list[tuple[int, int, int] | None] = []
        for name in (MANIFEST_FILE, *HASHED_FILES):
            try:
                status = (self._path / name).stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found
