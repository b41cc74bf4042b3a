"""`csisidecar demo` and its parts: everything in one terminal, nothing else installed.

Belongs here: the story, the stand-ins for a cluster's controllers, and the bench. Only the command line imports
this room, and late; it may import any other, `testing` too.
"""
