"""The built-in plugins, attacher and provisioner, and what both of them share.

Each plugin is a package of its own and never imports the other. What both need of the same store or metric is
a module here, so that they agree on it.
"""
