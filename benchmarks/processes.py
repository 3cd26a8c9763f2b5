"""Workers as their parent sees them: started, asked, and ended."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).parents[1]


class Worker:
    """A process that answers lines of JSON; see `benchmarks.worker.serve`.

    Args:
        module: The module to run.
        arguments: What it is given.
        log: Where its standard error goes; what torch compiles goes beside it.

    Attributes:
        hello: The first line that it wrote.
        started_s: Seconds from its start to that line.

    Raises:
        RuntimeError: It ended before that line; the message ends with what it wrote last.
    """

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        self._log = log
        # What torch compiled in an earlier run must not help this one's first answer.
        compiled = {"TORCHINDUCTOR_CACHE_DIR": str(log.parent / "inductor")}
        before = time.perf_counter()
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env={**os.environ, **compiled},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                encoding="utf-8",
            )
        self.hello: dict[str, Any] = self._read()
        self.started_s = time.perf_counter() - before

    def ask(self, question: str, *arguments: Any) -> Any:
        """Call a method of the worker's and return what it returns."""
        assert self._process.stdin is not None  # noqa: S101 - opened above
        self._process.stdin.write(json.dumps([question, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        """Let it end, and wait for it."""
        self._process.communicate()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.end()

    def _read(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - opened above
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            last = self._log.read_text(encoding="utf-8", errors="replace")[-1500:]
            raise RuntimeError(f"{' '.join(self._process.args[2:4])} ended:\n{last}")
        return json.loads(line)
