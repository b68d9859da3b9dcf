"""The generated module is what etcd.proto says."""

import subprocess
import sys
from pathlib import Path

from kubedr_ctrl.worker import etcd_pb2

OPTIONS = ["-I.", "--python_out={}", "--mypy_out=quiet:{}", "etcd.proto"]


def test_the_generated_module_agrees_with_the_proto(tmp_path: Path) -> None:
    source = Path(etcd_pb2.__file__).parent
    protoc = [sys.executable, "-m", "grpc_tools.protoc"]
    scripts = Path(sys.executable).parent  # where protoc finds protoc-gen-mypy
    options = [option.format(tmp_path) for option in OPTIONS]
    subprocess.run([*protoc, *options], check=True, cwd=source, env={"PATH": str(scripts)})
    command = " ".join(["python -m grpc_tools.protoc", *(option.format(".") for option in OPTIONS)])
    for name in ("etcd_pb2.py", "etcd_pb2.pyi"):
        assert (tmp_path / name).read_text() == (source / name).read_text(), f"in {source.name}/ run: {command}"
