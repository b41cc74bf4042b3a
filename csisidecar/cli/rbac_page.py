"""Writes examples/deployment/rbac.yaml from the plugins' rules, or checks it: `python -m csisidecar.cli.rbac_page`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from csisidecar.plugins.attacher import rules as attacher
from csisidecar.plugins.provisioner import rules as provisioner
from csisidecar.plugins.rules import LEASES_ROLE, OWN_NAMESPACE, SECRETS_ROLE, Role, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "examples" / "deployment" / "rbac.yaml"
ROLES: tuple[Role, ...] = (
    *attacher.ROLES,
    *provisioner.ROLES,
    SECRETS_ROLE,
    provisioner.CAPACITY_ROLE,
    LEASES_ROLE,
)

_ACCOUNT = "csi-hostpath"
_NAMESPACE = "csi-hostpath"
_API = "rbac.authorization.k8s.io"
_CORE = '""'
_HEAD = """\
Generated from the tables in `csisidecar/plugins/*/rules.py` by `python -m csisidecar.cli.rbac_page`; do not edit.

What the two modes need, and nothing else. A test runs each mode with exactly these roles through a volume's whole \
life and finds no refused request and no verb that is never used.

The account is the one of the Pod; change its name and namespace in every place here, or with kustomize.
"""


def page() -> str:
    """The text of examples/deployment/rbac.yaml."""
    account = ["apiVersion: v1", "kind: ServiceAccount", *_metadata(_ACCOUNT, _NAMESPACE)]
    head = [line for part in _HEAD.splitlines() for line in (_comment(part) or ["#"])]
    documents = [[*head, *account]]
    documents += [document for role in ROLES for document in _roles(role)]
    documents += [document for role in ROLES for document in _bindings(role)]
    return "\n---\n".join("\n".join(document) for document in documents) + "\n"


def main(words: list[str]) -> int:
    """Write the file, or with ``--check [FILE]`` compare it; 1 when it is not fresh, 2 for other words."""
    text = page()
    if not words:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if words[0] != "--check" or len(words) > 2:
        print("usage: python -m csisidecar.cli.rbac_page [--check [FILE]]", file=sys.stderr)
        return 2
    file = Path(words[1]) if len(words) == 2 else PAGE
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return 0
    print(f"{file} is not fresh: run python -m csisidecar.cli.rbac_page", file=sys.stderr)
    return 1


def _roles(role: Role) -> Iterator[list[str]]:
    who = f"--mode={role.modes[0]}" if len(role.modes) == 1 else "Either mode"
    text = f"{who}, {role.feature}. {role.note}".rstrip() if role.feature else who
    rules = [line for rule in role.rules for line in _rule(rule)]
    kind, name = _kind(role), f"csisidecar-{role.name}"
    for at, namespace in enumerate(role.namespaces or (None,)):
        comment = [] if at else _comment(text)
        yield [*comment, f"apiVersion: {_API}/v1", f"kind: {kind}", *_metadata(name, namespace), "rules:", *rules]


def _bindings(role: Role) -> Iterator[list[str]]:
    for namespace in role.namespaces or (None,):
        yield [
            f"apiVersion: {_API}/v1",
            f"kind: {_kind(role)}Binding",
            *_metadata(f"{_ACCOUNT}-{role.name}", namespace),
            "subjects:",
            "  - kind: ServiceAccount",
            f"    name: {_ACCOUNT}",
            f"    namespace: {_NAMESPACE}",
            "roleRef:",
            f"  apiGroup: {_API}",
            f"  kind: {_kind(role)}",
            f"  name: csisidecar-{role.name}",
        ]


def _kind(role: Role) -> str:
    return "Role" if role.namespaces else "ClusterRole"


def _metadata(name: str, namespace: str | None) -> list[str]:
    lines = ["metadata:", f"  name: {name}"]
    if namespace is None:
        return lines
    return [*lines, f"  namespace: {_NAMESPACE if namespace == OWN_NAMESPACE else namespace}"]


def _rule(rule: Rule) -> list[str]:
    return [
        *_comment(rule.note, indent="  "),
        f"  - apiGroups: [{rule.resource.group or _CORE}]",
        f"    resources: [{rule.plural}]",
        f"    verbs: [{', '.join(rule.verbs)}]",
    ]


def _comment(text: str, *, indent: str = "") -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(
        text, 120, initial_indent=start, subsequent_indent=start, break_on_hyphens=False, break_long_words=False
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
