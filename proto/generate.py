"""Generates gen/ from proto/: Python stubs with types, Envoy's descriptor set, OpenAPI, and the image that buf checks.

Run as `python proto/generate.py [--out DIR] [--image FILE]`. Needs no network: google's protos come from
googleapis-common-protos, and protovalidate's descriptor out of its package (it ships no .proto file).
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import google.api
import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent
GOOGLEAPIS = Path(next(iter(google.api.__path__))).parents[1]
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
# Envoy's transcoder can only show error details whose types it knows.
FOR_ENVOY = ["google/rpc/error_details.proto", "google/rpc/status.proto"]
FOR_PYTHON = ["buf/validate/validate.proto"]
BUF_IS_IMPORT = b"\xd2\xf6\x03\x02\x08\x01"  # field 8042, a message of 2 bytes whose field 1 is true


def _validate_descriptor(path: Path) -> None:
    """Writes protovalidate's own descriptor as a descriptor set that protoc can import from."""
    with tempfile.NamedTemporaryFile(suffix=".binpb") as well_known:
        _protoc(
            [
                f"-I{WELL_KNOWN}",
                f"--descriptor_set_out={well_known.name}",
                "--include_imports",
                "google/protobuf/descriptor.proto",
                "google/protobuf/duration.proto",
                "google/protobuf/timestamp.proto",
                "google/protobuf/field_mask.proto",
                "google/protobuf/any.proto",
                "google/protobuf/struct.proto",
            ]
        )
        files = FileDescriptorSet.FromString(Path(well_known.name).read_bytes())
    files.file.append(FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary()))  # noqa: SLF001
    path.write_bytes(files.SerializeToString())


def _protoc(arguments: list[str]) -> None:
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # protoc-gen-mypy
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit("protoc failed; its messages are above")


def _openapi(read: list[str], sources: list[str], out: Path) -> None:
    """Writes openapi.json and its page. The packages named on the command line come in their order."""
    _protoc([*read, f"--plugin=protoc-gen-openapi={ROOT / 'protoc-gen-openapi'}", f"--openapi_out={out}", *sources])


def _mark_imports(image: Path) -> None:
    """Marks what is not ours as imported (buf.alpha.image.v1, buf_extension), so that buf judges only finid/."""
    files = FileDescriptorSet.FromString(image.read_bytes())
    for file in files.file:
        if not file.name.startswith("finid/"):
            file.MergeFromString(BUF_IS_IMPORT)
    image.write_bytes(files.SerializeToString())


def main() -> None:
    """Generates everything into --out (gen/ by default); with --image, also writes the image for buf."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT.parent / "gen")
    parser.add_argument("--image", type=Path, help="write a FileDescriptorSet with imports and source info here")
    arguments = parser.parse_args()
    out: Path = arguments.out
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("finid/**/*.proto"))
    for generated in ("finid", "buf"):
        shutil.rmtree(out / generated, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        validate = Path(scratch, "validate.binpb")
        _validate_descriptor(validate)
        read = [f"--descriptor_set_in={validate}", f"-I{ROOT}", f"-I{GOOGLEAPIS}", f"-I{WELL_KNOWN}"]
        write = [f"--python_out={out}", f"--mypy_out=quiet:{out}"]
        _protoc([*read, *write, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *sources])
        _protoc([*read, *write, *FOR_PYTHON])
        descriptors = [f"--descriptor_set_out={out / 'descriptors.binpb'}", "--include_imports"]
        _protoc([*read, *descriptors, *sources, *FOR_ENVOY])
        _openapi(read, sources, out)
        if arguments.image:
            image = [f"--descriptor_set_out={arguments.image}", "--include_imports", "--include_source_info"]
            _protoc([*read, *image, *sources])
            _mark_imports(arguments.image)


if __name__ == "__main__":
    main()
