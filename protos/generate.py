"""Generates `csisidecar/csi/_generated/` from `csi.proto`; needed by developers only, its result is committed.

`python protos/generate.py` writes, `--check` compares with what is committed (exit 1 and a diff if stale), and
`--against FILE` compares `csi.proto` with a published csi.proto: names, numbers, types and secret marks.
"""

# ruff: noqa: INP001 - a script, not a package
from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GENERATED = HERE.parent / "csisidecar" / "csi" / "_generated"
SECRET_OPTION = 1059
FIELD_OPTIONS_SECRET = re.compile(r"\s*\[\(csi_secret\)\s*=\s*true\]")
EXTEND_BLOCK = re.compile(r"^(//[^\n]*\n)?extend [^{]*\{[^}]*\}\n", re.MULTILINE)
PROLOGUE = '"""Made by `protos/generate.py` from `protos/csi.proto`; never edited."""\n'


def without_options(source: str) -> str:
    """`source` without option declarations: they only add descriptor code that takes time to import."""
    source = EXTEND_BLOCK.sub("", source)
    source = FIELD_OPTIONS_SECRET.sub("", source)
    return source.replace('import "google/protobuf/descriptor.proto";\n', "")


def protoc(include: Path, *arguments: str) -> None:
    """Runs the protoc of grpcio-tools on `include`/csi.proto; raises CalledProcessError with its own message shown."""
    import grpc_tools

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{include}", f"-I{well_known}", *arguments, "csi.proto"]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # the plugin calls ruff by name
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "PATH": tools})  # noqa: S603 - our own arguments


def descriptors(proto: Path) -> Any:
    """The FileDescriptorProto of `proto`, options included."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # type: ignore[import-untyped]  # dev only

    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "set.pb"
        (Path(directory) / "csi.proto").write_text(proto.read_text())
        protoc(Path(directory), f"--descriptor_set_out={out}")
        return FileDescriptorSet.FromString(out.read_bytes()).file[-1]


def is_secret(field: Any) -> bool:
    """Whether the field carries extension 1059, read from the wire form so that no extension registry is needed."""
    tag = SECRET_OPTION << 3  # wire type 0, a varint of two bytes
    return bytes([tag & 0x7F | 0x80, tag >> 7, 1]) in field.options.SerializeToString()


def secret_fields(file: Any) -> dict[str, tuple[str, ...]]:
    """Message name → names of its secret fields, for every message that has one."""
    table = {m.name: tuple(f.name for f in m.field if is_secret(f)) for m in file.message_type}
    return {name: fields for name, fields in sorted(table.items()) if fields}


def generate(target: Path) -> None:
    """Writes the whole generated package into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        include = Path(directory)
        (include / "csi.proto").write_text(without_options((HERE / "csi.proto").read_text()))
        plugin = Path(sys.executable).with_name("protoc-gen-python_betterproto2")
        protoc(
            include,
            f"--plugin=protoc-gen-python_betterproto2={plugin}",
            f"--python_betterproto2_out={target}",
            "--python_betterproto2_opt=client_generation=none,server_generation=async",
        )
    table = secret_fields(descriptors(HERE / "csi.proto"))
    rows = "".join(f'    "{name}": {fields!r},\n'.replace("'", '"') for name, fields in table.items())
    text = f"{PROLOGUE}\nSECRET_FIELDS: dict[str, tuple[str, ...]] = {{\n{rows}}}\n"
    (target / "secret_fields.py").write_text(text)


def read_tree(root: Path) -> dict[str, str]:
    """Relative path → text of every Python file below `root`."""
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.py"))}


def check() -> int:
    """0 if the committed package equals a fresh one; else 1, with the differences printed."""
    with tempfile.TemporaryDirectory() as directory:
        generate(Path(directory))
        fresh, committed = read_tree(Path(directory)), read_tree(GENERATED)
    stale = [name for name in sorted(fresh.keys() | committed.keys()) if fresh.get(name) != committed.get(name)]
    for name in stale:
        old, new = committed.get(name, "").splitlines(True), fresh.get(name, "").splitlines(True)
        sys.stdout.writelines(difflib.unified_diff(old, new, f"committed/{name}", f"fresh/{name}"))
    if stale:
        print("stale: run python protos/generate.py")  # noqa: T201
    return 1 if stale else 0


def wire_facts(file: Any) -> set[str]:
    """What two programs must agree on, one line each: services, messages, fields, enums, secret marks."""
    facts: set[str] = set()

    def enum(prefix: str, item: Any) -> None:
        facts.update(f"enum {prefix}{item.name}.{value.name} = {value.number}" for value in item.value)

    def message(prefix: str, item: Any) -> None:
        name = prefix + item.name
        facts.add(f"message {name}")
        for field in item.field:
            oneof = item.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            kind = f"type {field.type} {field.type_name} label {field.label} oneof {oneof!r} secret {is_secret(field)}"
            facts.add(f"field {name}.{field.name} = {field.number} {kind}")
        for nested in item.nested_type:
            message(f"{name}.", nested)
        for nested in item.enum_type:
            enum(f"{name}.", nested)

    for item in file.message_type:
        message("", item)
    for item in file.enum_type:
        enum("", item)
    for service in file.service:
        for method in service.method:
            stream = f"{method.client_streaming} {method.server_streaming}"
            facts.add(f"rpc {service.name}.{method.name} {method.input_type} {method.output_type} {stream}")
    return facts


def against(published: Path) -> int:
    """0 if nothing in csi.proto contradicts `published`; prints what the published file has besides."""
    ours, theirs = wire_facts(descriptors(HERE / "csi.proto")), wire_facts(descriptors(published))
    for fact in sorted(theirs - ours):
        print("only published:", fact)  # noqa: T201
    for fact in sorted(ours - theirs):
        print("only here:     ", fact)  # noqa: T201
    return 1 if ours - theirs else 0


def main() -> int:
    """Runs one of the three commands; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    choice.add_argument("--against", type=Path, metavar="FILE", help="compare csi.proto with a published one")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    if arguments.against:
        return against(arguments.against)
    generate(GENERATED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
