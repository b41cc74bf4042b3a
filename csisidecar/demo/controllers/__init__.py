"""Stand-ins for kube-controller-manager's storage controllers, the scheduler and the kubelet.

They are ordinary clients of an API server, embedded or real, and know nothing of the sidecar's plugins: the
binder, the protection finalizers, attach/detach, the choice of a node, and Pods that start and end. The rules
are those of Kubernetes; each file names the Go file it follows. `serve` runs them all until cancelled.
"""

from __future__ import annotations

from csisidecar.demo.controllers.serve import ControllersOptions, serve

__all__ = ["ControllersOptions", "serve"]
