"""csisidecar: CSI attacher and provisioner as plugins on one asyncio runtime."""
