"""A real S3 on a socket of this machine, in a process of its own: moto answers."""

import contextlib
import subprocess
import sys

import pytest

BUCKET = "bucket"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "words-that-nobody-may-read",
    "AWS_EC2_METADATA_DISABLED": "true",  # or else it is asked for credentials
}

SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), sep=":", flush=True)
sys.stdin.read()  # until the tests are done, or gone
"""


class Bucket:
    """What tests put into the bucket and find there."""

    def __init__(self, endpoint):
        self._fs = pytest.importorskip("pyarrow.fs")
        self.endpoint = endpoint
        self.options = f"endpoint_override={endpoint}&scheme=http&region=us-east-1"
        self.files = self._fs.S3FileSystem(
            endpoint_override=endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        self.files.create_dir(BUCKET)

    def put(self, name, content):
        with self.files.open_output_stream(f"{BUCKET}/{name}") as stream:
            stream.write(content)
        return f"s3://{BUCKET}/{name}"

    def put_folder(self, folder, name):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())
        return f"s3://{BUCKET}/{name}"

    def has(self, name):
        return self.files.get_file_info(f"{BUCKET}/{name}").is_file

    def contents(self, name):
        """All objects of a folder by name, as of a folder on the disk."""
        base = f"{BUCKET}/{name}"
        asked = self._fs.FileSelector(base, recursive=True, allow_not_found=True)
        found = {}
        for info in self.files.get_file_info(asked):
            if info.is_file:
                with self.files.open_input_stream(info.path, compression=None) as stream:
                    found[info.path[len(base) + 1 :]] = stream.read()
        return found


@contextlib.contextmanager
def running_store():
    """Start it; commands find it, and who asks, in the variables of the environment."""
    for needed in ("moto", "flask_cors", "pyarrow"):
        pytest.importorskip(needed)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process, pytest.MonkeyPatch.context() as patch:
        endpoint = process.stdout.readline().strip()
        assert ":" in endpoint
        for name, value in {**VARIABLES, "AWS_ENDPOINT_URL": f"http://{endpoint}"}.items():
            patch.setenv(name, value)
        yield Bucket(endpoint)
        process.stdin.close()
