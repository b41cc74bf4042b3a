"""Help texts: both default sets side by side for `run`, one set for the drop-in commands, the list of commands."""

from __future__ import annotations

from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

from csisidecar.cli.flags import BUILT_IN_MODES, FLAGS, GROUPS, RETIRED, Flag, Scope, State
from csisidecar.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

WIDTH = 120

VARIABLES: Mapping[str, str] = {
    "CSI_ENDPOINT": "the driver's socket, without --csi-address; drop-in commands do not read it",
    "KUBE_CONFIG_PATH": "a kubeconfig, without --kubeconfig; drop-in commands do not read it",
    "KUBECONFIG": "a kubeconfig; wins, with a warning, over --kubeconfig for the provisioner, else run's last resort",
    "NODE_NAME": "the Pod's node, needed with --node-deployment; from the Pod's field spec.nodeName",
    "NAMESPACE": "where capacity objects go, needed with --enable-capacity; from metadata.namespace",
    "POD_NAME": "this Pod, needed with --enable-capacity but for --capacity-ownerref-level=-1; from metadata.name",
    "POD_NAMESPACE": "the namespace of a Lease that has none",
    "CSISIDECAR_UVLOOP": "1: run on uvloop, when it is installed",
}
"""What is read from the environment."""
_VARIABLES_OF_DROP_INS: Mapping[str, Sequence[str]] = {
    "attacher": ("POD_NAMESPACE", "CSISIDECAR_UVLOOP"),
    "provisioner": tuple(name for name in VARIABLES if name not in {"CSI_ENDPOINT", "KUBE_CONFIG_PATH"}),
}
_NAME = 44
_USER = 46

COMMANDS: Mapping[str, str] = {
    "run": "run the attacher, the provisioner or both, or an installed plugin, beside a CSI driver",
    "rbac": "print the roles that run needs with the same flags, as a manifest",
    "demo": "tell the life of one volume in this terminal, with nothing else installed",
    "demo-apiserver": "an embedded API server on loopback",
    "demo-controllers": "small stand-ins for the controllers of a cluster, against any API server",
    "demo-driver": "an embedded CSI driver on a Unix socket; its volumes are directories",
    "help": "this text, or the help of a command",
}

_NOT_OF_DROP_INS = frozenset({"mode", "plugin-option"})
_TEXTS_OF_DROP_INS: Mapping[str, str] = {
    "csi-address": "The driver's Unix socket: an absolute path, or unix:// and an absolute path.",
    "http-endpoint": "Address of one listener for everything, such as :8080.",
    "metrics-addr": "Address for metrics, health and readiness.",
}
"""Instead of what a flag says about defaults and variables that only `csisidecar run` has."""


def overview() -> str:
    """What `csisidecar --help` prints."""
    lines = [
        f"csisidecar {VERSION}: the CSI external-attacher and external-provisioner in one process",
        "",
        "Usage: csisidecar COMMAND [FLAGS]",
        "       csi-attacher [FLAGS]       the same as: csisidecar run --mode=attacher --defaults=upstream [FLAGS]",
        "       csi-provisioner [FLAGS]    the same as: csisidecar run --mode=provisioner --defaults=upstream [FLAGS]",
        "",
        "Commands:",
        *(f"  {name:<18}{text}" for name, text in COMMANDS.items()),
        "",
        "  csisidecar COMMAND --help shows the flags of a command, csisidecar --version the version.",
    ]
    return "\n".join(lines) + "\n"


def run_help() -> str:
    """What `csisidecar run --help` prints."""
    lines = [
        "Usage: csisidecar run --mode=MODE[,MODE...] [FLAGS]",
        "",
        "Runs the attacher, the provisioner or both beside a CSI driver. Each flag shows its default, and the one that",
        "holds with --defaults=upstream, which are the defaults of the Go sidecars.",
        "",
        "One or two dashes; --flag=value or --flag value; booleans bare or with =. The last of repeated flags wins.",
        "Flags marked * hold for every mode; --attacher-FLAG or --provisioner-FLAG holds for one, and wins.",
    ]
    for group, flags in _groups(FLAGS):
        lines += ["", f"{group + ':':<{_NAME}}{'default':<{_USER}}with --defaults=upstream".rstrip()]
        for flag in flags:
            lines += _with_both_defaults(flag)
    lines += ["", *_variables(VARIABLES)]
    lines += ["", *_retired()]
    return "\n".join(lines) + "\n"


def drop_in_help(command: str, mode: str) -> str:
    """What `csi-attacher --help` and `csi-provisioner --help` print: the flags of the mode, upstream's defaults."""
    lines = [f"Usage: {command} [FLAGS]", "", f"The same as: csisidecar run --mode={mode} --defaults=upstream [FLAGS]"]
    for group, flags in _groups(_of_drop_in(mode)):
        lines += ["", f"{group}:"]
        for flag in flags:
            default = "upstream" if flag.name == "defaults" else shown(flag, "upstream", (mode,))
            suffix = f" (default {default})" if default not in {"", "false"} else ""
            lines.append(f"  {signature(flag)}{suffix}")
            lines += _explained(flag)
    lines += ["", *_variables(_VARIABLES_OF_DROP_INS[mode])]
    lines += ["", *_retired()]
    return "\n".join(lines) + "\n"


def _variables(names: Iterable[str]) -> list[str]:
    return ["Variables:", *(f"  {name:<20}{VARIABLES[name]}" for name in names)]


def _of_drop_in(mode: str) -> Iterator[Flag]:
    for flag in FLAGS:
        if (not flag.modes or mode in flag.modes) and flag.name not in _NOT_OF_DROP_INS:
            yield replace(flag, text=_TEXTS_OF_DROP_INS.get(flag.name, flag.text))


def signature(flag: Flag) -> str:
    """The flag as it is written, with the kind of its value."""
    return f"--{flag.name} {flag.kind.name}".rstrip()


def shown(flag: Flag, defaults: str, modes: Sequence[str] = BUILT_IN_MODES) -> str:
    """The default of `flag` under a set; modes that differ are named."""
    if flag.state is State.RETIRED:
        return ""
    texts = {mode: flag.default(defaults, mode) for mode in modes if not flag.modes or mode in flag.modes}
    if len(set(texts.values())) == 1:
        text = next(iter(texts.values()))
        return text or ("false" if not flag.kind.name else "")
    return ", ".join(f"{mode} {text}" for mode, text in texts.items())


def _groups(flags: Iterable[Flag]) -> Iterator[tuple[str, list[Flag]]]:
    listed = list(flags)
    for group in GROUPS:
        members = [flag for flag in listed if flag.group == group and flag.state is not State.RETIRED]
        if members:
            yield group, members


def _with_both_defaults(flag: Flag) -> list[str]:
    star = "*" if flag.scope is Scope.MODE else " "
    user, upstream = (shown(flag, defaults) or '""' for defaults in ("user", "upstream"))
    if flag.name == "mode":
        user = upstream = ""
    return [f" {star}{signature(flag):<{_NAME - 2}}{user:<{_USER}}{upstream}".rstrip(), *_explained(flag)]


def _explained(flag: Flag) -> list[str]:
    text = flag.text
    if flag.state is not State.WORKS:
        text = f"[{flag.state.value}] {text}"
    return [f"      {line}" for line in wrap(text, WIDTH - 6, break_on_hyphens=False)]


def _retired() -> list[str]:
    names = ", ".join(f"--{flag.name}" for flag in FLAGS if flag.group == RETIRED)
    return wrap(f"Accepted from older manifests with a warning and no effect: {names}.", WIDTH, break_on_hyphens=False)
