"""Who may do what: Roles and bindings from a YAML file, and the reviews that ask about them.

A bearer token names its user: the administrator's token everything, any other token the user of that name
(``system:serviceaccount:NAMESPACE:NAME`` for service accounts). A file without bindings binds all its roles to
everyone but the administrator.

Source: Kubernetes documentation, "Using RBAC Authorization"; kubernetes/kubernetes, plugin/pkg/auth/authorizer/rbac.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from csisidecar.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ADMIN_GROUP = "system:masters"
ADMIN = "system:admin"
ANONYMOUS = "system:anonymous"
_ACCOUNT_PREFIX = "system:serviceaccount:"
_OPEN_PATHS = (
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/readyz",
    "/openapi",
    "/openapi/*",
    "/version",
    "/version/",
)
_REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})


@dataclass(frozen=True)
class User:
    """Who makes a request."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""

    @classmethod
    def named(cls, name: str) -> User:
        """A user with the groups its name implies."""
        if name == ADMIN:
            return cls(name, (ADMIN_GROUP, "system:authenticated"))
        if name.startswith(_ACCOUNT_PREFIX):
            namespace = name.removeprefix(_ACCOUNT_PREFIX).partition(":")[0]
            return cls(name, ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"))
        return cls(name, ("system:unauthenticated",) if name == ANONYMOUS else ("system:authenticated",))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a request wants to do."""

    verb: str
    group: str = ""
    resource: str = ""
    """Plural, with ``/subresource`` if there is one."""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """For requests that are about no resource."""


@dataclass
class _Rules:
    everywhere: list[Mapping[str, Any]] = field(default_factory=list)
    within: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)


class Roles:
    """The roles and bindings of one file; without a file everything is allowed."""

    def __init__(self, path: Path | None = None) -> None:
        self.enforced = path is not None
        self._bindings: list[tuple[Mapping[str, Any], str, list[Mapping[str, Any]]]] = []
        self._open_to_all: list[tuple[str, list[Mapping[str, Any]]]] = []
        if path is not None:
            self._read(path)

    def subjects(self) -> list[str]:
        """Every user the bindings name, in the order of the file."""
        names = [_subject_name(subject, namespace) for subject, namespace, _ in self._bindings]
        return list(dict.fromkeys(name for name in names if name))

    def allows(self, user: User, question: Question) -> bool:
        """Whether the user may."""
        if not self.enforced or ADMIN_GROUP in user.groups:
            return True
        if question.path:
            return _path_matches(_OPEN_PATHS, question.path) or any(
                _path_rule(rule, question) for rule in self._rules(user).everywhere
            )
        if question.resource in _REVIEWS and question.verb == "create":
            return True
        rules = self._rules(user)
        candidates = [*rules.everywhere, *rules.within.get(question.namespace, ())]
        return any(_covers(rule, question) for rule in candidates)

    def rules_for(self, user: User, namespace: str) -> list[dict[str, Any]]:
        """The resource rules that hold for a user in a namespace, as SelfSubjectRulesReview shows them."""
        if not self.enforced or ADMIN_GROUP in user.groups:
            return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        rules = self._rules(user)
        return [dict(rule) for rule in (*rules.everywhere, *rules.within.get(namespace, ())) if rule.get("resources")]

    def _rules(self, user: User) -> _Rules:
        found = _Rules()
        for namespace, rules in self._open_to_all:
            (found.within.setdefault(namespace, []) if namespace else found.everywhere).extend(rules)
        for subject, namespace, rules in self._bindings:
            if _is_subject(subject, namespace, user):
                (found.within.setdefault(namespace, []) if namespace else found.everywhere).extend(rules)
        return found

    def _read(self, path: Path) -> None:
        try:
            documents = [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"--rbac {path}: cannot be read: {error}") from error
        objects: list[Mapping[str, Any]] = []
        for document in documents:
            if not isinstance(document, Mapping):
                raise ConfigError(f"--rbac {path}: a document is no object")
            objects += document.get("items") or [] if str(document.get("kind", "")).endswith("List") else [document]
        roles: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
        for item in objects:
            if item.get("kind") in {"Role", "ClusterRole"}:
                roles[_key(item)] = list(item.get("rules") or ())
        bindings = [item for item in objects if item.get("kind") in {"RoleBinding", "ClusterRoleBinding"}]
        for binding in bindings:
            self._bind(path, binding, roles)
        if not bindings:
            self._open_to_all = [
                (namespace if kind == "Role" else "", rules) for (kind, namespace, _), rules in roles.items()
            ]
        if not roles:
            raise ConfigError(f"--rbac {path}: has neither a Role nor a ClusterRole")

    def _bind(
        self,
        path: Path,
        binding: Mapping[str, Any],
        roles: Mapping[tuple[str, str, str], list[Mapping[str, Any]]],
    ) -> None:
        meta, reference = binding.get("metadata") or {}, binding.get("roleRef") or {}
        namespace = (meta.get("namespace") or "default") if binding["kind"] == "RoleBinding" else ""
        kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
        rules = roles.get((kind, namespace if kind == "Role" else "", name))
        if rules is None:
            raise ConfigError(
                f"--rbac {path}: {binding['kind']} {meta.get('name')} refers to {kind} {name}, which is not in the file"
            )
        for subject in binding.get("subjects") or ():
            self._bindings.append((subject, namespace, rules))


def _key(item: Mapping[str, Any]) -> tuple[str, str, str]:
    meta = item.get("metadata") or {}
    namespace = (meta.get("namespace") or "default") if item["kind"] == "Role" else ""
    return item["kind"], namespace, str(meta.get("name", ""))


def _subject_name(subject: Mapping[str, Any], namespace: str) -> str:
    if subject.get("kind") == "ServiceAccount":
        return f"{_ACCOUNT_PREFIX}{subject.get('namespace') or namespace or 'default'}:{subject.get('name', '')}"
    return str(subject.get("name", "")) if subject.get("kind") == "User" else ""


def _is_subject(subject: Mapping[str, Any], namespace: str, user: User) -> bool:
    if subject.get("kind") == "Group":
        return subject.get("name") in user.groups
    return _subject_name(subject, namespace) == user.name


def _covers(rule: Mapping[str, Any], question: Question) -> bool:
    verbs, groups, resources = (rule.get(name) or () for name in ("verbs", "apiGroups", "resources"))
    if "*" not in verbs and question.verb not in verbs:
        return False
    if "*" not in groups and question.group not in groups:
        return False
    _, _, subresource = question.resource.partition("/")
    if not ("*" in resources or question.resource in resources or (subresource and f"*/{subresource}" in resources)):
        return False
    names = rule.get("resourceNames") or ()
    return not names or question.name in names


def _path_rule(rule: Mapping[str, Any], question: Question) -> bool:
    verbs = rule.get("verbs") or ()
    return ("*" in verbs or question.verb in verbs) and _path_matches(rule.get("nonResourceURLs") or (), question.path)


def _path_matches(patterns: Iterable[str], path: str) -> bool:
    return any(path == pattern or (pattern.endswith("*") and path.startswith(pattern[:-1])) for pattern in patterns)


def denial(user: User, question: Question) -> str:
    """What follows ``is forbidden:`` in a 403."""
    if question.path:
        return f'User "{user.name}" cannot {question.verb} path "{question.path}"'
    where = f'in the namespace "{question.namespace}"' if question.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {question.verb} resource "{question.resource}" in API group '
        f'"{question.group}" {where}'
    )
