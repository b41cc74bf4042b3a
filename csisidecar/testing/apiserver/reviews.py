"""Kinds that are questions: access reviews, rules reviews, who-am-I. Answered, never stored.

Source: Kubernetes API reference, authorization.k8s.io/v1 and authentication.k8s.io/v1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.rbac import Question, Roles, User
from csisidecar.testing.apiserver.status import bad_request, invalid, invalid_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.testing.apiserver.kinds import KindSpec

Content = dict[str, Any]


def answer(spec: KindSpec, body: Mapping[str, Any], namespace: str, user: User, roles: Roles) -> Content:
    """The review with its status filled in.

    Raises:
        Refusal: 400 or 422, the review asks nothing.
    """
    asked = dict(body.get("spec") or {})
    content: Content = {"kind": spec.kind, "apiVersion": spec.api_version, "metadata": {}}
    if spec.kind == "SelfSubjectReview":
        return {**content, "status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}
    if spec.kind == "SelfSubjectRulesReview":
        rules = roles.rules_for(user, asked.get("namespace", ""))
        paths = [{"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/version"]}]
        found = {"resourceRules": rules, "nonResourceRules": paths, "incomplete": False}
        return {**content, "spec": asked, "status": found}
    who = user
    if spec.kind != "SelfSubjectAccessReview":
        who = User(str(asked.get("user", "")), tuple(asked.get("groups") or ()))
        if not who.name and not who.groups:
            raise invalid_object(
                spec, "", [invalid("spec.user", "", "at least one of user or group must be specified")]
            )
    question = _question(spec, asked, namespace)
    allowed = roles.allows(who, question)
    status: Content = {"allowed": allowed}
    if allowed and roles.enforced:
        status["reason"] = "RBAC: allowed by a rule of the file"
    return {**content, "spec": asked, "status": status}


def _question(spec: KindSpec, asked: Content, namespace: str) -> Question:
    about, path = asked.get("resourceAttributes"), asked.get("nonResourceAttributes")
    if (about is None) == (path is None):
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid_object(replace(spec, kind=""), "", [invalid("spec.resourceAttributes", about, detail)])
    if path is not None:
        return Question(verb=path.get("verb", ""), path=path.get("path", "") or "/")
    if about is None:
        raise bad_request("spec.resourceAttributes is missing")
    resource = about.get("resource", "")
    if about.get("subresource"):
        resource = f"{resource}/{about['subresource']}"
    return Question(
        verb=about.get("verb", ""),
        group=about.get("group", ""),
        resource=resource,
        namespace=about.get("namespace", "") or namespace,
        name=about.get("name", ""),
    )
