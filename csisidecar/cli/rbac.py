"""`csisidecar rbac`: the roles that a command line of `csisidecar run` needs, as a manifest.

The command reads the flags as `run` does, so the roles fit what will run; what it cannot know, which is what the driver
declares and what the classes name, it grants with a comment, until `--without` leaves it out.
"""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from csisidecar.cli import build
from csisidecar.cli.exits import OK, USAGE, UsageError, one_line
from csisidecar.cli.flags import KINDS
from csisidecar.cli.grammar import parse
from csisidecar.cli.kinds import STRING
from csisidecar.cli.values import Values
from csisidecar.config import ProvisionerSettings
from csisidecar.errors import ConfigError
from csisidecar.plugins.attacher import rules as attacher
from csisidecar.plugins.provisioner import rules as provisioner
from csisidecar.plugins.rules import BOTH, LEASES_ROLE, OWN_NAMESPACE, SECRETS_ROLE, Role, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROLES: tuple[Role, ...] = (*attacher.ROLES, *provisioner.ROLES, SECRETS_ROLE, LEASES_ROLE)

_API = "rbac.authorization.k8s.io"
_CORE = '""'
_COMMAND_WIDTH = 112
_CORE_ROLES = frozenset(BOTH)
"""What each mode cannot do without; they are named as the modes."""
_NAME = re.compile(r"[a-z]([-a-z0-9.]*[a-z0-9])?")
_NO_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
OWN = {"account": STRING, "namespace": STRING, "without": STRING}
"""The command's own flags; all others are those of `csisidecar run`."""
_HELP = """\
Usage: csisidecar rbac [--account=NAME] [--namespace=NAME] [--without=ROLE,...] --mode=MODE[,MODE...] [FLAGS OF RUN]

Prints the ServiceAccount, roles and bindings that csisidecar run needs with the same flags, for kubectl apply -f -.

  --account string     the Pod's service account (default csisidecar)
  --namespace string   the Pod's namespace (default default)
  --without ROLE,...   roles to leave out, because the driver or its classes do not need them

The roles:
"""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Whom the roles are for, and what will run.

    Attributes:
        account: the Pod's service account; its name is in front of the names of all objects.
        namespace: the Pod's.
        without: names of roles to leave out.
        words: what `csisidecar run` is given.
    """

    account: str = "csisidecar"
    namespace: str = "default"
    without: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def command_words(self) -> list[str]:
        """The words behind `csisidecar rbac` that say this."""
        own = [f"--account={self.account}", f"--namespace={self.namespace}"]
        own += [f"--without={','.join(self.without)}"] if self.without else []
        return [*own, *self.words]

    def command_lines(self) -> list[str]:
        """The command, on lines that a shell takes as one."""
        lines = ["csisidecar rbac"]
        for word in map(shlex.quote, self.command_words()):
            if len(lines[-1]) + len(word) < _COMMAND_WIDTH:
                lines[-1] += f" {word}"
            else:
                lines[-1] += " \\"
                lines.append(f"  {word}")
        return lines


def main(words: Sequence[str]) -> int:
    """The command `csisidecar rbac`; the exit code."""
    if {"-h", "--help", "-help"}.intersection(words):
        sys.stdout.write(_HELP + "\n".join(f"  {role.name:<19}{_when(role)}" for role in ROLES) + "\n")
        return OK
    try:
        wish = read(words)
        _check_left_out(wish)
        text = page(wish)
    except ConfigError as error:
        print(f"csisidecar rbac: {one_line(error)}", file=sys.stderr)
        return USAGE
    sys.stdout.write(text)
    return OK


def read(words: Sequence[str]) -> Wish:
    """The wish that the words of a command line say; a leading ``run`` may be there, as in a container's args.

    Raises:
        UsageError: an unknown flag or role, or a value that its kind refuses.
    """
    words = words[1:] if words[:1] == ["run"] else words
    parsed = parse(words, {**KINDS, **OWN})
    if parsed.notices:
        stray = parsed.notices[0].fields
        raise UsageError(f"{stray['argument']!r} is an argument that belongs to no flag: {stray['hint']}")
    own = {name: parsed.values[name] for name in OWN if name in parsed.values}
    without = tuple(name for name in own.pop("without", "").split(",") if name)
    if unknown := set(without) - {role.name for role in ROLES}:
        known = ", ".join(role.name for role in ROLES)
        raise UsageError(f"--without={','.join(without)}: no role {', '.join(sorted(unknown))}; the roles are: {known}")
    own = {name: _checked(name, value) for name, value in own.items()}
    return Wish(**own, without=without, words=tuple(_without_own(words)))


def page(wish: Wish, *, head: str = "") -> str:
    """The manifest.

    Raises:
        ConfigError: `run` would refuse the flags too.
    """
    launch = _launch(wish)
    roles = _roles_for(launch, wish)
    lines = [*head.splitlines(), *wish.command_lines()]
    lines += [
        f"What the mode {mode} asks for besides, its plugin must say." for mode in launch.modes if mode not in BOTH
    ]
    if wish.without:
        lines += ["", "Left out, as this driver and its classes do not need them:"]
        lines += [f"- {role.name}, {_when(role)}" for role in ROLES if role.name in wish.without]
    account = ["apiVersion: v1", "kind: ServiceAccount", *_metadata(wish.account, wish.namespace)]
    documents = [[*(line for text in lines for line in (_comment(text) or ["#"])), *account]]
    documents += [document for role in roles for document in _roles(role, wish)]
    documents += [document for role in roles for document in _bindings(role, wish)]
    return "\n---\n".join("\n".join(document) for document in documents) + "\n"


def roles_for(wish: Wish) -> tuple[Role, ...]:
    """The roles for those flags, the Leases' where these are.

    Raises:
        ConfigError: `run` would refuse the flags too.
    """
    return _roles_for(_launch(wish), wish)


def _check_left_out(wish: Wish) -> None:
    """Refuse to leave out what nothing works without, and what these flags do not ask for anyway.

    Raises:
        ConfigError: names the role, and those that can be left out.
    """
    found = [role.name for role in _roles_for(_launch(wish), replace(wish, without=()))]
    can = [name for name in found if name not in _CORE_ROLES]
    for name in wish.without:
        if name not in can:
            why = "nothing works without it" if name in found else "these flags do not ask for it"
            raise UsageError(f"--without={name}: {why}; what can be left out here: {', '.join(can)}")


def _launch(wish: Wish) -> build.Launch:
    values = Values(given=parse(wish.words, KINDS).values)
    modes = build.running_modes(values)
    env = dict.fromkeys(("NODE_NAME", "NAMESPACE", "POD_NAME", "POD_NAMESPACE"), "some")
    return build.build(values, modes, build.Surroundings(env=env))


def _roles_for(launch: build.Launch, wish: Wish) -> tuple[Role, ...]:
    found = [role for role in ROLES if role is not LEASES_ROLE and _is_needed(role, launch)]
    if namespaces := dict.fromkeys(_lease_namespaces(launch, wish.namespace)):
        found.append(replace(LEASES_ROLE, namespaces=tuple(namespaces)))
    return tuple(role for role in found if role.name not in wish.without)


def _is_needed(role: Role, launch: build.Launch) -> bool:
    if not set(role.modes).intersection(launch.modes):
        return False
    settings = launch.settings.get("provisioner")
    return role.needed is None or (isinstance(settings, ProvisionerSettings) and role.needed(settings))


def _lease_namespaces(launch: build.Launch, own: str) -> Iterator[str]:
    for mode in launch.modes:
        lease = launch.config.modes[mode].lease
        if lease.enabled:
            if lease.namespace:
                yield _checked("leader-election-namespace", lease.namespace)
            if lease.namespace_is_default or not lease.namespace:
                yield own


def _without_own(words: Iterable[str]) -> Iterator[str]:
    skip = False
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        if skip:
            skip = False
        elif word.startswith("-") and name in OWN:
            skip = not equals
        else:
            yield word


def _when(role: Role) -> str:
    who = "either mode" if role.modes == BOTH else f"--mode={role.modes[0]}"
    return f"{who}, {role.feature}" if role.feature else who


def _roles(role: Role, wish: Wish) -> Iterator[list[str]]:
    when = _when(role)
    text = f"{when[0].upper()}{when[1:]}. {role.note}".rstrip() if role.note else f"{when[0].upper()}{when[1:]}."
    rules = [line for rule in role.rules for line in _rule(rule)]
    name = f"{wish.account}-{role.name}"
    for at, namespace in enumerate(role.namespaces or (None,)):
        comment = [] if at else _comment(text)
        where = _metadata(name, _place(namespace, wish))
        yield [*comment, f"apiVersion: {_API}/v1", f"kind: {_kind(role)}", *where, "rules:", *rules]


def _bindings(role: Role, wish: Wish) -> Iterator[list[str]]:
    name = f"{wish.account}-{role.name}"
    for namespace in role.namespaces or (None,):
        yield [
            f"apiVersion: {_API}/v1",
            f"kind: {_kind(role)}Binding",
            *_metadata(name, _place(namespace, wish)),
            "subjects:",
            "  - kind: ServiceAccount",
            f"    name: {wish.account}",
            f"    namespace: {wish.namespace}",
            "roleRef:",
            f"  apiGroup: {_API}",
            f"  kind: {_kind(role)}",
            f"  name: {name}",
        ]


def _place(namespace: str | None, wish: Wish) -> str | None:
    return wish.namespace if namespace == OWN_NAMESPACE else namespace


def _kind(role: Role) -> str:
    return "Role" if role.namespaces else "ClusterRole"


def _checked(kind: str, name: str) -> str:
    # Also that it is a word in YAML, not a number or null.
    if not _NAME.fullmatch(name) or name in _NO_WORDS:
        raise UsageError(f"--{kind}={name!r}: give a name that begins with a letter, of a-z, 0-9, dots and dashes")
    return name


def _metadata(name: str, namespace: str | None) -> list[str]:
    lines = ["metadata:", f"  name: {name}"]
    return lines if namespace is None else [*lines, f"  namespace: {namespace}"]


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
