"""A certificate that only its holder vouches for, as a farm may make for itself."""

import subprocess
from pathlib import Path


def make(directory: Path) -> tuple[Path, Path]:
    """Make a certificate of loopback; the file of the certificate, and that of its key."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=collector"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, capture_output=True, check=True)
    return certificate, key
