"""How Kubernetes says it in CSI: pure functions from views and texts to CSI messages, for every plugin.

Belongs here: access modes, volume mode and file system type, secret references and their data, names of the
in-tree volume plugins. Does not: anything that awaits, and what only one plugin needs.
"""
